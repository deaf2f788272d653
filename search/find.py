"""From a space, a batch, a teacher and a budget to a result: the search as one function."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

from ..proxies.batch import Batch
from ..proxies.devices import find_device
from ..proxies.ensemble import TEACHER_SIMILARITIES
from ..proxies.probe import TeacherSide
from ..proxies.registry import get_proxy
from ..proxies.taps import Taps
from ..proxies.teacher import Teacher
from ..proxies.token_reader import tokens_for
from ..searchspace.errors import InvalidInputError
from ..searchspace.modality import PLURALS
from ..searchspace.provenance import host, versions
from ..searchspace.space import SearchSpace
from .budget import Budget
from .domain import Domain
from .engine import Closable, Engine, InProcessEngine
from .folder import assemble, open_folder, write_outputs
from .measured import TOP, measure, over_budget
from .result import SearchResult
from .run import Progress, SearchRun
from .searchers.base import check_searcher
from .settings import RunSettings, ScoreRule, check_counts
from .sizes import size_note
from .store import RunStore

__all__ = ["REFERENCE_SIZE", "about_teacher", "conduct", "engine_for", "search"]

#: Architectures every rank is taken against; a rank fraction's grain is 1/64.
REFERENCE_SIZE = 64


def search(
    space: SearchSpace,
    batch: Batch,
    teacher: Teacher | None,
    *,
    budget: Budget,
    proxies: Sequence[str] | None = None,
    searcher: str = "nsga2",
    evaluations: int = 500,
    seed: int = 0,
    out: Path | None = None,
    workers: int = 1,
    device: str = "cpu",
    precision: str = "float32",
    command: str = "",
    progress: Callable[[Progress], None] | None = None,
) -> SearchResult:
    """Search a space for the best students of a teacher under a budget.

    Args:
        space: the space; its resolution and classes are the data's.
        batch: real images to score on.
        teacher: or ``None`` where no proxy asks for one.
        budget: upper bounds on costs.
        proxies: what to maximise: one proxy, several (Σ log-rank), or the default ensemble.
        searcher: registered name.
        evaluations: distinct architectures to evaluate.
        seed: of everything random.
        out: the run's folder; ``None`` keeps everything in memory.
        workers: processes that score, of one thread each; the result is the same for any.
        device: where candidates are scored, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        precision: of convolutions and linear layers in scoring, ``"float32"`` or
            ``"bfloat16"``.
        command: the shell line that repeats the run.
        progress: called as candidates finish.

    Raises:
        UnknownNameError: for an unknown proxy or searcher.
        InvalidInputError: for an unreachable budget, a need that is not met, a folder that
            holds another run, or numbers out of range.
        StoreError: if the folder cannot be written.
    """
    check_counts(evaluations, seed)
    if isinstance(workers, bool) or not isinstance(workers, int) or not 1 <= workers <= 256:
        raise InvalidInputError(f"workers = {workers!r}; need a whole number from 1 to 256")
    if workers > 1 and device != "cpu":
        raise InvalidInputError(
            f"workers = {workers} with device {device!r}; one process keeps a GPU busy, and"
            " groups split over several would round differently: take workers = 1"
        )
    place = find_device(device)
    check_searcher(searcher, evaluations)
    rule = ScoreRule.of(proxies, space.family)
    notes: list[str] = []
    domain = Domain(space, budget, seed=seed)
    taps = None
    if teacher is not None:
        taps = teacher.observe(batch, tokens_for(rule.parts, teacher.module))
    computed = [*rule.parts, *_similarities(taps, batch, space, notes)]
    settings = RunSettings.of_search(
        space,
        budget,
        rule,
        data={"name": batch.name, "fingerprint": batch.fingerprint, "size": len(batch)},
        teacher=None
        if teacher is None
        else {"name": teacher.name, "fingerprint": teacher.fingerprint},
        proxies={name: get_proxy(name).version for name in dict.fromkeys(computed)},
        searcher=searcher,
        seed=seed,
        reference_size=REFERENCE_SIZE,
        scoring={
            **({"device": place.type} if place.type != "cpu" else {}),
            **({"precision": precision} if precision != "float32" else {}),
        },
    )
    engine = engine_for(
        space, list(settings.proxies), batch, taps, seed, workers, device, precision
    )
    notes += _notes(rule, teacher)
    side = int(batch.images.shape[-1])
    if side != space.resolution:
        notes.append(
            f"Costs are quoted at {space.input_text()}, as the space was made; the"
            f" {PLURALS[space.modality]} scored on {_has(space)} {space.input_text(side)}."
        )

    def drive(store: RunStore) -> list[str]:
        run = SearchRun(domain, settings, rule, engine, store, evaluations, progress)
        run.run()
        return run.notes

    return conduct(
        space,
        settings,
        engine,
        drive,
        {
            "evaluations": evaluations,
            "command": command,
            "teacher": about_teacher(teacher),
            "workers": workers,
        },
        out,
        notes,
    )


def conduct(
    space: SearchSpace,
    settings: RunSettings,
    engine: Closable,
    drive: Callable[[RunStore], list[str]],
    about: dict[str, Any],
    out: Path | None,
    notes: list[str],
    finish: Callable[[SearchResult], None] = lambda _: None,
) -> SearchResult:
    """Open a run's folder, let something fill its store, and write down what came out.

    Args:
        space: searched.
        settings: of the run.
        engine: closed at the end.
        drive: evaluates candidates, all of which end in the store; returns notes. It may add
            to ``about``.
        about: the rest of ``run.json``: ``evaluations``, ``command``, ``teacher`` and more.
        out: the run's folder; ``None`` keeps everything in memory.
        notes: further ones.
        finish: adds to the result before it is written.
    """
    info: dict[str, Any] = {
        **about,
        "host": host(),
        "versions": versions("torch", "numpy", "deap", "optuna"),
        "threads": 1,
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "seconds": 0.0,
        "notes": [],
    }
    began = time.monotonic()
    opened: AbstractContextManager[RunStore] = (
        closing(RunStore(":memory:")) if out is None else open_folder(out, settings, info)
    )
    with closing(engine), opened as store:
        found = drive(store)
        info |= about  # with what was added
        info["seconds"] = round(info["seconds"] + time.monotonic() - began, 1)
        info["notes"] = found + notes
        result = assemble(SearchResult, store, space, settings, info, str(out) if out else None)
        finish(result)
        _time_front(result)
        if not settings.measured and (note := size_note(result.candidates)):
            result.notes.append(note)
        if out is not None:
            write_outputs(result, out)
    return result


def _time_front(result: SearchResult) -> None:
    """Time the best of the front, where a latency table was built on this machine."""
    best = sorted(result.front, key=lambda c: -c.score)[:TOP]
    if not any(name.startswith("latency:") for name in result.settings.budget):
        return
    keys = {candidate.arch.key: candidate.arch.text for candidate in best}
    before = {one.key for one in result.measured}
    if not keys.keys() <= before:
        result.info["measured"] = [
            one.to_json() for one in measure(result.space, keys, result.notes)
        ]
    slow = over_budget(result.measured, result.settings.budget)
    if slow:
        result.notes.append(
            f"{len(slow)} of the {len(keys)} best were slower than the budget when timed on this"
            + (
                " machine; none of them is the pick."
                if len(slow) < len(result.front)
                else " machine, and there is no other: the pick is over its budget."
            )
        )


def engine_for(
    space: SearchSpace,
    proxies: Sequence[str],
    batch: Batch,
    teacher: Taps | None,
    seed: int,
    workers: int,
    device: str,
    precision: str,
) -> Engine:
    """Where candidates are scored: here, or in as many processes as there are workers."""
    given: dict[str, Any] = {"batch": batch, "teacher": teacher, "seed": seed}
    if workers == 1:
        return InProcessEngine(space, proxies, **given, device=device, precision=precision)
    from .engine_processes import ProcessEngine

    return ProcessEngine(space, proxies, **given, workers=workers, precision=precision)


def _similarities(
    taps: Taps | None, batch: Batch, space: SearchSpace, notes: list[str]
) -> list[str]:
    """The teacher-student similarities that are defined here; a note says which are not."""
    if taps is None:
        return []
    side = TeacherSide(taps, batch.labels)
    defined = []
    for name in TEACHER_SIMILARITIES:
        proxy = get_proxy(name)
        reason = proxy.unfit(space.modality, batch.has_targets)
        if reason is None and proxy.check is not None:
            reason = proxy.check(side, space.num_classes)
        if reason:
            notes.append(f"{name} is left out: {reason}.")
        else:
            defined.append(name)
    return defined


def _has(space: SearchSpace) -> str:
    return "have" if space.modality == "image" else "has"


def _notes(rule: ScoreRule, teacher: Teacher | None) -> list[str]:
    notes = []
    aware = [name for name in rule.parts if "teacher" in get_proxy(name).needs]
    if teacher is not None and not aware:
        notes.append(
            f"The score {rule.name!r} does not depend on the teacher; the teacher's similarities"
            " to each student are shown beside it."
        )
    if teacher is not None and not teacher.trained:
        notes.append(f"The teacher {teacher.name!r} has random weights (--untrained).")
    notes.append("The student's weights are freshly initialised.")
    return notes


def about_teacher(teacher: Teacher | None) -> dict[str, str]:
    """What ``run.json`` tells of a teacher, as texts; empty without one."""
    if teacher is None:
        return {}
    about = {"name": teacher.name, "weights": "trained" if teacher.trained else "random"}
    about["parameters"] = f"{teacher.params:,}"
    if teacher.macs is not None:
        one = {"text": "text", "sound": "clip"}.get(teacher.modality, "image")
        about[f"MACs of one {one}"] = f"{teacher.macs:,}"
    if teacher.accuracy is not None:
        about["accuracy"] = f"{teacher.accuracy:.1%}"
    if teacher.about:
        about["about"] = teacher.about
    return about
