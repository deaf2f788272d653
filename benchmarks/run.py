"""A benchmark from its name to its result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..search.run import Progress
from ..search.settings import ScoreRule
from ..search.store import RunStore
from ..searchspace.errors import InvalidInputError
from ..searchspace.files import held
from .controls import CONTROLS, ControlRow, control_row, teachers_of
from .intervals import draws_for, resamples
from .measure import TRAINED, Measurement, SeedScores, takes_teacher
from .metrics import Column, ranks
from .registry import Benchmark, get_benchmark
from .result import BenchmarkResult
from .setting import Candidates, images_of, rules_of, select, spaces_of, teacher_of
from .summary import Judge, ScoreRow, averaged

__all__ = ["benchmark"]

STORE = "scores.sqlite"
SIZES = ("params", "macs", "depth")
MOST_WORKERS = 256


def benchmark(
    name: str,
    *,
    data: str | Path,
    proxies: Sequence[str] | None = None,
    truth: str | None = None,
    seeds: int = 3,
    seed: int = 0,
    size: int = 64,
    half: str = "all",
    unique: bool = False,
    limit: int | None = None,
    controls: bool = False,
    teacher: Any = None,
    images: str | None = None,
    resolution: int | None = None,
    options: Mapping[str, Any] | None = None,
    workers: int = 1,
    out: str | Path | None = None,
    command: str = "",
    progress: Callable[[Progress], None] | None = None,
) -> BenchmarkResult:
    """How well scores rank architectures whose trained accuracies are known.

    Params, MACs and depth of the networks as trained, and chance, are always ranked beside the
    scores. Nothing is fitted.

    Args:
        name: see ``scholarch list benchmarks``.
        data: folder with the benchmark's table, and ``cifar10_5k.npz`` unless ``images`` are
            given.
        proxies: scores by name: proxies, ensembles, or proxies joined by ``+`` (Σ log-rank);
            default the default ensemble and its parts.
        truth: the table's column to rank by; default the benchmark's own.
        seeds: how many; each draws its images, weights and reference sample. A score's row is
            of its mean over them.
        seed: the first one.
        size: training images to score on.
        half: ``"even"`` or ``"odd"`` isomorphism groups; ``"all"``.
        unique: rank isomorphism classes in place of rows.
        limit: rank so many, drawn at random.
        controls: measure scores that take a teacher with lesser ones, too.
        teacher: as :func:`~scholarch.teacher.load_teacher` takes it; default for the folder's
            CIFAR-10 images its ResNet-56.
        images: as :func:`~scholarch.data.load_data` takes them.
        resolution: that images are resized to; default the benchmark's, else their own.
        options: of the space that is scored, e.g. ``{"patch_size": 4}``.
        workers: processes that score; the result is the same for any.
        out: folder for tables, picture and raw values; what it already holds is not measured
            again.
        command: the shell line that repeats it.
        progress: called as candidates finish.

    Returns:
        Every number of every score.

    Raises:
        ScholarchError: with one plain line for whatever input will not do.
    """
    for what, value, least in (("seeds", seeds, 1), ("seed", seed, 0), ("workers", workers, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InvalidInputError(f"{what} = {value!r}; need a whole number of at least {least}")
    if workers > MOST_WORKERS:
        raise InvalidInputError(f"workers = {workers}; need a whole number up to {MOST_WORKERS}")
    definition = get_benchmark(name)
    folder = Path(data).expanduser()
    table = definition.read(folder)
    column = truth or _default_truth(definition, list(table.truths))
    numbers = range(seed, seed + seeds)
    batches = images_of(folder, images, size, numbers)
    scored, quoted = spaces_of(definition, batches[0], resolution, options)
    rules = rules_of(proxies, scored.family)
    guided = [rule for rule in rules if any(map(takes_teacher, rule.parts))]
    candidates = select(
        table, column, scored, quoted, half=half, unique=unique, limit=limit, seed=seed
    )
    guide = teacher_of(folder, teacher, needed=bool(guided), ours=images is None)
    with _opened(out) as store:
        measurement = Measurement(
            scored, candidates.archs, rules, store, workers=workers, progress=progress
        )
        found = [
            measurement.seed(
                number,
                batch,
                {}
                if guide is None or not guided
                else teachers_of(guide, batch, number, controls=controls),
            )
            for number, batch in zip(numbers, batches, strict=True)
        ]
    draws = resamples(candidates.clusters, draws_for(len(candidates.archs)), seed)
    judge = Judge(candidates.truth, candidates.costs["params"], candidates.costs["macs"], draws)
    rows = [*_scores(rules, found, candidates, judge), *_baselines(candidates, numbers, judge)]
    checked = _controls(guided, found, candidates, judge) if controls else []
    settings = {
        "benchmark": name,
        "table": table.source,
        "truth": column,
        "half": half,
        "unique": unique,
        "candidates": len(candidates.archs),
        "rows": candidates.rows,
        "classes": len(set(candidates.clusters)),
        "seeds": list(numbers),
        "images": batches[0].name,
        "size": size,
        "scored space": scored.spec(),
        "sizes quoted of": quoted.spec(),
        "ensembles": {
            rule.name: {
                "version": rule.version,
                "weights": dict(
                    zip(rule.parts, rule.weights or (1.0,) * len(rule.parts), strict=True)
                ),
            }
            for rule in rules
            if rule.ranks
        },
        "teacher": guide.name if guide is not None and guided else None,
        "bootstrap draws": len(draws),
    }
    result = BenchmarkResult(
        settings,
        command,
        tuple(rows),
        tuple(checked),
        tuple(rule.name for rule in rules if rule not in guided) if controls else (),
        tuple(arch.text for arch in candidates.archs),
        candidates.truth,
        sum((seeded.failures for seeded in found), Counter[tuple[str, str]]()),
    )
    if out is not None:
        from .saving import save  # brings matplotlib, for which not every caller waits

        save(result, out)
    return result


def _default_truth(definition: Benchmark, columns: Sequence[str]) -> str:
    """The benchmark's own column; where the file lacks it, its only or first one."""
    return definition.truth if definition.truth in columns else next(iter(columns), "")


@contextmanager
def _opened(out: str | Path | None) -> Iterator[RunStore]:
    """The store in ``out``, for this process alone; without, one in memory."""
    if out is None:
        with closing(RunStore(":memory:")) as store:
            yield store
        return
    folder = Path(out)
    with held(folder), closing(RunStore(folder / STORE)) as store:
        yield store


def _scores(
    rules: Sequence[ScoreRule], found: Sequence[SeedScores], candidates: Candidates, judge: Judge
) -> list[ScoreRow]:
    rows = []
    for rule in rules:
        columns = [seeded.score(rule) for seeded in found]
        name = rule.name
        if name in SIZES:
            if np.array_equal(ranks(columns[0]), ranks(candidates.costs[name])):
                continue  # it is among the baselines
            # Of the representative of the candidate's class, or at the images' resolution.
            name = f"{name} (scored)"
        rows.append(judge.row(name, "ensemble" if rule.ranks else "proxy", columns))
    return rows


def _baselines(candidates: Candidates, seeds: Sequence[int], judge: Judge) -> list[ScoreRow]:
    rows = [judge.row(name, "size", [candidates.costs[name]]) for name in SIZES]
    chance = [np.random.default_rng([seed, 0xCA]).random(len(candidates.archs)) for seed in seeds]
    return [*rows, judge.row("random", "random", chance)]


def _controls(
    rules: Sequence[ScoreRule], found: Sequence[SeedScores], candidates: Candidates, judge: Judge
) -> list[ControlRow]:
    rows = []
    for rule in rules:
        columns: dict[str, list[Column]] = {
            teacher: [seeded.score(rule, teacher) for seeded in found]
            for teacher in (TRAINED, *CONTROLS)
        }
        means = {teacher: averaged(of_seeds) for teacher, of_seeds in columns.items()}
        rows.append(control_row(rule.name, columns, means, candidates.truth, judge.draws))
    return rows
