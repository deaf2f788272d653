"""Accurate, robust and cheap students of one adversarially trained supernet (ProARD, 2025).

An attack of 20 steps by two losses costs eighty forward passes, so a few hundred networks are
measured, a predictor learns both accuracies from them, and NSGA-II searches the predictor.
What it finds is measured in its turn before anything is said of it. ProARD draws its networks
uniformly over gene values, which gathers their costs in the middle; these are spread over the
costs (:func:`~scholarch.supernet.encoding.design`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import moocore
import numpy as np
import numpy.typing as npt
import torch

from ..searchspace.architecture import Architecture
from ..searchspace.errors import InvalidInputError
from ..searchspace.space import Matrix
from ..supernet.encoding import design
from ..supernet.loader import LabelledImages
from ..supernet.predictor import MIN_ROWS, Predictor
from ..supernet.pretrained import Supernet
from ..supernet.robust.evaluate import RobustEvaluator, Robustness
from ..supernet.robust.strength import Attack
from .budget import Budget, bound_amount
from .domain import Domain
from .run import STALE_ASKS
from .searchers.base import create_searcher

__all__ = ["RobustFront", "RobustStudent", "robust_front"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RobustStudent:
    """An architecture that was measured.

    Attributes:
        arch: the architecture.
        measured: on the part that the choice was made on; of the best of many, so a little
            lucky.
        costs: by name; MACs of one image.
        predicted: natural and robust accuracy as the predictor had them, where it was found by
            the search; ``None`` of those that the predictor learned from.
        test: on the test part, which no choice was made on; ``None`` where there is none.
    """

    arch: Architecture
    measured: Robustness
    costs: Mapping[str, float]
    predicted: tuple[float, float] | None
    test: Robustness | None = None


@dataclass(frozen=True)
class RobustFront:
    """What :func:`robust_front` found.

    Attributes:
        students: that no other measured one inside the budget beats in natural accuracy, robust
            accuracy and every objective, cheapest first.
        evaluated: every student measured, those that the predictor learned from first.
        predictor: of natural and robust accuracy, over the whole space.
        objectives: costs minimised beside the accuracies.
        attack: what "robust" means here.
        predictions: architectures that the search looked at beside the measured ones.
    """

    students: tuple[RobustStudent, ...]
    evaluated: tuple[RobustStudent, ...]
    predictor: Predictor
    objectives: tuple[str, ...]
    attack: Attack
    predictions: int


def robust_front(
    supernet: Supernet,
    data: LabelledImages,
    budget: Mapping[str, float | str] | None = None,
    *,
    evaluations: int = 200,
    how: str = "stratified",
    kind: str = "auto",
    predictions: int = 10_000,
    finalists: int = 24,
    attack: Attack | None = None,
    part: str = "val",
    calibration: int = 2000,
    limit: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> RobustFront:
    """The front of natural accuracy, robust accuracy and cost, measured.

    Args:
        supernet: trained by the schedule ``robust`` or another, see
            :func:`~scholarch.supernet.pretrained.load_supernet`.
        data: images.
        budget: upper bounds by cost, such as ``{"macs": "50M"}``; the bounded costs are
            minimised, MACs where there is no bound.
        evaluations: networks of the whole space that the predictor learns from, at least 20;
            ProARD takes 2,000.
        how: they are chosen, one of :data:`~scholarch.supernet.encoding.DESIGNS`.
        kind: of predictor, see :class:`~scholarch.supernet.predictor.Predictor`.
        predictions: architectures inside the budget that NSGA-II looks at.
        finalists: of its front, the most different ones are measured, so many at most.
        attack: default PGD-20 of margin and cross-entropy, ε .031.
        part: of the data that everything is measured on.
        calibration: training images for batch norm.
        limit: images of the part that are measured; ``None``: all.
        seed: of design, predictor, search and random starts.
        device: where networks are measured.
        progress: called with how many networks are measured and how many will be at most.

    Raises:
        InvalidInputError: if a number is out of range, nothing meets the budget, or all
            measured networks are equally accurate or robust, which leaves nothing to predict.

    Example:
        >>> from scholarch.supernet.pretrained import load_supernet  # doctest: +SKIP
        >>> front = robust_front(
        ...     load_supernet("runs/robust"), data, {"macs": "5M"}
        ... )  # doctest: +SKIP
        >>> print(front.students[0].test)  # doctest: +SKIP
        90.1% natural, 71.4% robust (PGD-20, ε 0.031, step 0.0078, …; 1,000 images)
    """
    if evaluations < MIN_ROWS or finalists < 1 or predictions < 1:
        raise InvalidInputError(
            f"evaluations = {evaluations}, predictions = {predictions}, finalists = {finalists};"
            f" need at least {MIN_ROWS}, 1 and 1"
        )
    space = supernet.space
    bounds = {name: bound_amount(name, bound) for name, bound in (budget or {}).items()}
    domain = Domain(space, Budget(bounds), seed=seed)
    objectives = domain.budget.objectives()
    evaluator = RobustEvaluator(
        supernet.network,
        data,
        attack=attack,
        seed=seed,
        calibration=calibration,
        limit=limit,
        device=device,
    )

    def measure(rows: Matrix, done: int) -> list[Robustness]:
        tick = None if progress is None else lambda n: progress(done + n, evaluations + finalists)
        return evaluator.robustnesses(space.decode(rows), part, progress=tick)

    rows = design(space, evaluations, seed, how)
    found = measure(rows, 0)
    targets = np.array([(each.natural, each.robust) for each in found])
    predictor = Predictor(space, kind, seed=seed).fit(rows, targets)
    looked, values, known = _search(domain, predictor, objectives, rows, predictions, seed)
    chosen = _finalists(values, known, finalists)
    predicted: list[tuple[float, float] | None] = [None] * evaluations
    predicted += [(float(-natural), float(-robust)) for natural, robust in values[chosen, :2]]
    found += measure(looked[chosen], evaluations)
    rows = np.concatenate([rows, looked[chosen]])
    costs = space.cost(rows)
    students = [
        RobustStudent(arch, each, {name: float(column[i]) for name, column in costs.items()}, guess)
        for i, (arch, each, guess) in enumerate(
            zip(space.decode(rows), found, predicted, strict=True)
        )
    ]
    front = _front(students, domain.feasible(rows), objectives)
    if part != "test" and len(data.test.labels):
        front = [replace(s, test=evaluator.robustness(s.arch, "test")) for s in front]
    return RobustFront(
        tuple(front), tuple(students), predictor, objectives, evaluator.attack, len(looked) - known
    )


def _search(
    domain: Domain,
    predictor: Predictor,
    objectives: tuple[str, ...],
    rows: Matrix,
    predictions: int,
    seed: int,
) -> tuple[Matrix, Floats, int]:
    """Rows with what NSGA-II minimised: -natural, -robust, costs; the first ones are measured.

    Returns:
        Rows ``[N, genes]``, values ``[N, objectives]`` and how many were measured before.
    """
    space = domain.space

    def predicted(rows: Matrix) -> Floats:
        costs = space.cost(rows)
        return np.column_stack([-predictor.predict(rows), *(costs[name] for name in objectives)])

    # What is measured is told as predicted: no child would ever beat a lucky measurement.
    known = rows[domain.feasible(rows)]
    searcher = create_searcher("nsga2", domain, rows[:0], 2 + len(objectives), seed)
    looked, values = [known], [predicted(known)] if len(known) else []
    if len(known):
        searcher.tell(known, values[0])
    seen = set(space.keys(known))
    stale = count = 0
    while count < predictions and stale < STALE_ASKS:
        asked = searcher.ask(min(searcher.group_size, predictions - count))
        asked = asked[domain.feasible(asked)]
        new = []
        for i, key in enumerate(space.keys(asked)):
            if key not in seen:
                seen.add(key)
                new.append(i)
        stale = 0 if new else stale + 1
        if new:
            looked.append(asked[new])
            values.append(predicted(asked[new]))
            searcher.tell(looked[-1], values[-1])
            count += len(new)
    return np.concatenate(looked), np.concatenate(values), len(known)


def _finalists(values: Floats, known: int, count: int) -> npt.NDArray[np.int64]:
    """Rows of the predicted front that were not measured yet, far from each other.

    The best in each objective, then again and again the one furthest from all chosen (Gonzalez,
    Theor. Comput. Sci. 1985), every objective scaled to the front's range.
    """
    front = np.flatnonzero(moocore.is_nondominated(values, keep_weakly=True))
    front = front[front >= known]
    if len(front) <= count:
        return front
    points = values[front] - values[front].min(axis=0)
    points /= np.where(points.max(axis=0) > 0, points.max(axis=0), 1.0)
    chosen = list(dict.fromkeys(points.argmin(axis=0).tolist()))[:count]
    nearest = np.full(len(points), np.inf)
    for turn in range(count):
        if turn == len(chosen):
            chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.linalg.norm(points - points[chosen[turn]], axis=1))
    return front[chosen]


def _front(
    students: list[RobustStudent], inside: npt.NDArray[np.bool_], objectives: tuple[str, ...]
) -> list[RobustStudent]:
    """Of the measured ones inside the budget those that none beats, cheapest first."""
    feasible = [s for s, ok in zip(students, inside, strict=True) if ok]
    if not feasible:
        return []
    costs = [tuple(s.costs[name] for name in objectives) for s in feasible]
    points = [
        (-s.measured.natural, -s.measured.robust, *cost)
        for s, cost in zip(feasible, costs, strict=True)
    ]
    kept = moocore.is_nondominated(np.array(points), keep_weakly=False)
    order = sorted(np.flatnonzero(kept), key=lambda i: (*costs[i], feasible[i].arch.key))
    return [feasible[i] for i in order]
