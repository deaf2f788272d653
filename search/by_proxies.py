"""Search on a supernet by proxies: training-free scores of the weights that candidates inherit.

Where evaluating a candidate is dear (a large validation part, batch norm to calibrate) or there
are no labels, proxies on a supernet's weights rank it by one pass of a small batch. Which of them
tell something there is another question than on random weights, see ``results/transformers``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from ..proxies.batch import Batch
from ..proxies.devices import find_device
from ..proxies.registry import get_proxy
from ..proxies.teacher import Teacher
from ..proxies.token_reader import tokens_for
from ..searchspace.errors import InvalidInputError
from ..supernet.evaluate import Evaluator
from ..supernet.loader import LabelledImages
from ..supernet.pretrained import Supernet
from .budget import Budget
from .domain import Domain
from .engine import InProcessEngine
from .find import REFERENCE_SIZE, about_teacher, conduct
from .inherited import about_supernet, check_data, data_settings, keep_front
from .result import SearchResult
from .run import Progress, SearchRun
from .searchers.base import check_searcher
from .settings import RunSettings, ScoreRule, check_counts
from .store import RunStore
from .weights import weights_fingerprint

__all__ = ["check_asked", "needs_teacher", "search_by_proxies"]


class Batched(LabelledImages, Protocol):
    """Data that batches are drawn from; ``scholarch.DataSet`` can."""

    def batch(self, size: int = 64, seed: int = 0) -> Batch:
        """Images of the training part."""


def check_asked(
    space: object,
    teachers: Sequence[object],
    unlabelled: bool,
    proxies: Sequence[str] | None,
    predictor: str | int,
    workers: int,
    precision: str,
) -> None:
    """Refuse what a search on a supernet, by accuracy or by proxies, cannot be given.

    Raises:
        InvalidInputError: naming the options that do not go together, or the number.
    """
    taught = bool(teachers) and not (unlabelled or proxies)
    named = [name for name, no in (("--space", space is not None), ("--teacher", taught)) if no]
    if named:
        raise InvalidInputError(
            f"--supernet and {', '.join(named)} exclude each other: a supernet brings its space,"
            " and its candidates are scored by their own accuracy; for other scores name --proxy"
        )
    if proxies and predictor not in ("auto", "off"):
        raise InvalidInputError(
            "--predictor and --proxy exclude each other: a predictor stands in for accuracies that"
            " take long to measure"
        )
    if proxies and len(teachers) > 1:
        raise InvalidInputError(
            f"{len(teachers)} teachers with --supernet and --proxy; proxies compare with one"
        )
    if workers != 1:
        raise InvalidInputError(
            f"workers = {workers}; candidates of a supernet are evaluated in one process, take 1"
        )
    if precision != "float32":
        raise InvalidInputError(
            f"precision {precision!r}; candidates of a supernet are evaluated in float32"
        )


def needs_teacher(proxies: Sequence[str]) -> bool:
    """Whether one of some proxies, or of an ensemble's parts, compares with a teacher.

    Raises:
        UnknownNameError: if there is none of such a name.
    """
    return any("teacher" in get_proxy(name).needs for name in ScoreRule.of(proxies).parts)


def search_by_proxies(
    supernet: Supernet,
    data: Batched,
    teacher: Teacher | None,
    *,
    proxies: Sequence[str],
    budget: Budget,
    searcher: str = "nsga2",
    evaluations: int = 500,
    seed: int = 0,
    batch_size: int = 64,
    calibration: int = 2000,
    out: Path | None = None,
    device: str = "cpu",
    command: str = "",
    progress: Callable[[Progress], None] | None = None,
) -> SearchResult:
    """Search the space of a supernet by training-free scores on its weights.

    What is found keeps those weights, batch norm calibrated; the front's accuracy on the
    validation and test part is read once, at the end.

    Args:
        supernet: trained, or inherited; latency tables are attached to its space.
        data: labelled; scored on a batch of the training part.
        teacher: needed by proxies that compare with one.
        proxies: what to maximise: one, several (Σ log-rank), or an ensemble.
        budget: upper bounds on costs.
        searcher: registered name.
        evaluations: distinct architectures to score.
        seed: of the batch, the searcher and the reference sample.
        batch_size: training images to score on.
        calibration: training images from which the front's batch norm statistics are computed.
        out: the run's folder; ``None`` keeps everything in memory.
        device: where candidates are scored.
        command: the shell line that repeats the run.
        progress: called as candidates finish.

    Raises:
        UnknownNameError: for an unknown proxy or searcher.
        InvalidInputError: if supernet and data do not fit together, a proxy is not defined on
            given weights, a budget is unreachable, a folder holds another run or a number is out
            of range.
        StoreError: if the folder cannot be written.
    """
    check_counts(evaluations, seed)
    check_searcher(searcher, evaluations)
    place = find_device(device)
    space = supernet.space
    rule = ScoreRule.of(proxies, space.family)
    notes = check_data(supernet, data)
    domain = Domain(space, budget, seed=seed)
    batch = data.batch(batch_size, seed)
    taps = None
    if teacher is not None:
        taps = teacher.observe(batch, tokens_for(rule.parts, teacher.module))
    judge = Evaluator(supernet.network.to(place), data, calibration=calibration, device=place)
    engine = InProcessEngine(
        space,
        rule.parts,
        batch=batch,
        teacher=taps,
        seed=seed,
        device=device,
        network=supernet.network,
    )
    fingerprint = weights_fingerprint(supernet.network)
    settings = RunSettings.of_search(
        space,
        budget,
        rule,
        data={**data_settings(data), "size": len(batch)},
        teacher=None
        if teacher is None
        else {"name": teacher.name, "fingerprint": teacher.fingerprint},
        proxies={name: get_proxy(name).version for name in rule.parts},
        searcher=searcher,
        seed=seed,
        reference_size=REFERENCE_SIZE,
        scoring={"device": place.type} if place.type != "cpu" else {},
        supernet={
            "fingerprint": fingerprint,
            "calibration": min(calibration, len(data.train.labels)),
            "predictor": 0,
        },
    )
    about: dict[str, Any] = {
        "evaluations": evaluations,
        "command": command,
        "teacher": about_teacher(teacher),
        "workers": 1,
        "supernet": about_supernet(supernet, data, fingerprint),
    }
    notes.append(
        "Scores are of the supernet's weights as they are; batch norm, where there is any, takes"
        " the batch's statistics."
    )

    def drive(store: RunStore) -> list[str]:
        run = SearchRun(domain, settings, rule, engine, store, evaluations, progress)
        run.run()
        return run.notes

    def finish(result: SearchResult) -> None:
        keep_front(result, judge, data, test=True)

    return conduct(space, settings, engine, drive, about, out, notes, finish)
