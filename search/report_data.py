"""What a report shows, as plain data: nothing here knows the searcher, the store or torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..searchspace.architecture import Stage

__all__ = ["ReportCandidate", "ReportData"]


@dataclass(frozen=True, slots=True)
class ReportCandidate:
    """One evaluated architecture.

    Attributes:
        order: 0-based order of evaluation.
        text: native notation.
        key: hash of the canonical form.
        score: the run's score, higher is better; NaN = failed.
        costs: params, macs, flops, depth, latencies.
        scores: every proxy column, higher is better; NaN = failed.
        on_front: whether no other candidate beats it on score and every budgeted cost.
        failure: why it has no score, if it has none.
    """

    order: int
    text: str
    key: str
    score: float
    costs: dict[str, float]
    scores: dict[str, float]
    on_front: bool
    failure: str | None


@dataclass(frozen=True, slots=True)
class ReportData:
    """All that a report shows.

    Attributes:
        title: e.g. ``"resnet-cifar under 15M MACs"``.
        score_name: e.g. ``"ensemble"``.
        budget: cost name -> upper bound.
        candidates: in any order.
        pick: index into ``candidates`` of the chosen one.
        stages: of the picked architecture.
        teacher: label -> value; empty without a teacher.
        run: label -> value: seed, versions, host, space, data, searcher, evaluations, seconds …
        command: the shell line that repeats the run.
        notes: what a reader must know.
        failures: reason -> count.
        measured: rows of what was timed on this machine: notation, device, predicted, measured,
            error and whether it is over its bound, as texts.
        supernet: label -> value, where candidates were measured with a supernet's weights.
        by_accuracy: whether their scores are accuracies with these, and not training-free.
        accuracies: rows of the front there: notation, predicted, validation and test accuracy.
        measure: what they are, ``"accuracy"`` or ``"agreement"``.
        items: what inputs are called.
        test_images: on which the last were measured; 0: the test part was not read.
        predictor: what is known of the predictor that was searched on; empty without one.
        distilled: what is shown of the pick's distillation; empty where there is none.
        calibrated: by which teacher and by how many distilled students the score was corrected,
            as ``teacher``, ``students`` and ``epochs``; empty where it was not.
    """

    title: str
    score_name: str
    budget: dict[str, float]
    candidates: list[ReportCandidate]
    pick: int | None
    stages: list[Stage]
    teacher: dict[str, str]
    run: dict[str, str]
    command: str
    notes: list[str]
    failures: dict[str, int]
    measured: list[dict[str, Any]] = field(default_factory=list)
    supernet: dict[str, str] = field(default_factory=dict)
    by_accuracy: bool = False
    accuracies: list[dict[str, Any]] = field(default_factory=list)
    measure: str = "accuracy"
    items: str = "images"
    test_images: int = 0
    predictor: dict[str, Any] = field(default_factory=dict)
    distilled: dict[str, Any] = field(default_factory=dict)
    calibrated: dict[str, Any] = field(default_factory=dict)
