"""What a report computes from a run: the front it draws, and how that grew."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import moocore
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from .report_data import ReportCandidate, ReportData

__all__ = [
    "Growth",
    "front_costs",
    "growth",
    "is_scored",
    "staircase",
    "usual_low",
    "within_budget",
]

Floats = npt.NDArray[np.float64]

#: Points of the growth curve: more would not be seen, and 5,000 hypervolumes would be felt.
_GROWTH_POINTS = 160


def is_scored(candidate: ReportCandidate) -> bool:
    """Whether the candidate has a score, i.e. did not fail."""
    return math.isfinite(candidate.score) and candidate.failure is None


def within_budget(candidate: ReportCandidate, budget: dict[str, float]) -> bool:
    """Whether every bounded cost is known and inside its bound."""
    return all(candidate.costs.get(cost, math.inf) <= bound for cost, bound in budget.items())


def front_costs(data: ReportData) -> list[str]:
    """Costs the front is drawn against: the budget's, else MACs, else the first one known."""
    known = {cost: None for candidate in data.candidates for cost in candidate.costs}
    bounded = [cost for cost in data.budget if cost in known]
    if bounded or not known:
        return bounded
    return ["macs"] if "macs" in known else [next(iter(known))]


def staircase(costs: Floats, scores: Floats) -> npt.NDArray[np.intp]:
    """Indices of the points no other beats on both cost and score, in order of cost.

    Of equal points the first is kept.
    """
    order = np.lexsort((-scores, costs))
    best = np.maximum.accumulate(scores[order])
    keep = np.ones(len(order), dtype=bool)
    keep[1:] = scores[order][1:] > best[:-1]
    return order[keep]


def usual_low(scores: Floats, front: Floats) -> float:
    """The lowest score worth room: a few wrecks far below all others are left out, the front never.

    Args:
        scores: of all candidates, at least one.
        front: of those that must stay inside.
    """
    return float(min(np.quantile(scores, 0.02, method="higher"), front.min(initial=np.inf)))


@dataclass(frozen=True, slots=True)
class Growth:
    """Hypervolume of the front against evaluations.

    Attributes:
        evaluations: how many candidates had been evaluated, ascending.
        share: hypervolume then as a share of the final one, in [0, 1].
        final: final hypervolume as a share of the box between ``reference`` and the best values.
        reference: objective name -> value of the reference point; ``score`` and the costs.
        settled: evaluations after which 95 % of the final hypervolume was reached.
    """

    evaluations: list[int]
    share: list[float]
    final: float
    reference: dict[str, float]
    settled: int


def growth(data: ReportData) -> Growth | None:
    """Growth of the front, or None where the points span no volume.

    Objectives: the score up; the budget's costs (without a budget: MACs) down. The reference
    point is a low score (:func:`usual_low`) and each cost's bound (without one: the largest
    seen). Every objective is scaled so that the reference is 1 and the best value seen is 0.
    """
    costs = front_costs(data)
    run = sorted(data.candidates, key=lambda candidate: candidate.order)
    bounds = {cost: data.budget[cost] for cost in costs if cost in data.budget}
    usable = [
        i
        for i, candidate in enumerate(run)
        if is_scored(candidate)
        and within_budget(candidate, bounds)
        and all(math.isfinite(candidate.costs.get(cost, math.nan)) for cost in costs)
    ]
    if not usable or not costs:
        return None
    points = np.array([[-run[i].score, *(run[i].costs[c] for c in costs)] for i in usable])
    worst = points.max(axis=0)
    low = usual_low(-points[:, 0], np.array([run[i].score for i in usable if run[i].on_front]))
    if -low > points[:, 0].min():
        worst[0] = -low
    for column, cost in enumerate(costs, start=1):
        worst[column] = bounds.get(cost, worst[column])
    best = points.min(axis=0)
    if not (worst > best).all():
        return None
    scaled = (points - best) / (worst - best)

    checkpoints = np.unique(np.linspace(1, len(run), min(len(run), _GROWTH_POINTS)).astype(int))
    inside = (scaled < 1).all(axis=1)
    scaled, places = scaled[inside], np.array(usable)[inside]
    reached = np.searchsorted(places, checkpoints, side="left")
    archive = scaled[:0]
    volumes: list[float] = []
    start = 0
    for stop in reached:
        if stop > start:
            # Only the front is carried on: with four objectives hypervolume is quadratic.
            archive = moocore.filter_dominated(np.concatenate([archive, scaled[start:stop]]))
        volumes.append(float(moocore.hypervolume(archive, ref=1.0)) if len(archive) else 0.0)
        start = stop
    final = volumes[-1]
    if not final > 0:
        return None
    share = [volume / final for volume in volumes]
    settled = next(int(n) for n, s in zip(checkpoints, share, strict=True) if s >= 0.95)
    reference = {"score": -float(worst[0])}
    reference.update({cost: float(worst[i]) for i, cost in enumerate(costs, start=1)})
    return Growth([int(n) for n in checkpoints], share, final, reference, settled)
