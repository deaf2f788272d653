"""Params, MACs and depth beside the score: ranks, Kendall's τ, and where the orders disagree.

Size alone predicts accuracy about as well as most scores of untrained networks, but which size
depends on the space: over DisWOT's S0 it is params, over AutoFormer's depth. No run can tell, so
all of them are shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import stats

from .units import cost_head, cost_label, decimal

__all__ = [
    "FEWEST_FOR_TAU",
    "SIZE_AXES",
    "STRONG_DISAGREEMENT",
    "Agreement",
    "agreement",
    "percentiles",
    "size_note",
]

Floats = npt.NDArray[np.float64]

#: Costs that stand for "how large".
SIZE_AXES = ("params", "macs", "depth")
#: Below this Kendall tau two orders disagree strongly: 1 pair in 4 is reversed.
STRONG_DISAGREEMENT = 0.5
#: A rank correlation of fewer candidates says nothing.
FEWEST_FOR_TAU = 10


class Evaluated(Protocol):
    """What is read of a candidate."""

    @property
    def score(self) -> float:
        """Higher is better; NaN = failed."""

    @property
    def costs(self) -> Mapping[str, float]:
        """By name."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How the score and the size axes rank the scored candidates.

    Attributes:
        names: ``score`` and the size axes known for every scored candidate.
        tau: Kendall's tau-b between each two of ``names``; NaN where one is constant.
        ranks: name -> rank of each candidate, 1 = highest score or largest.
        warnings: sentences about orders that disagree strongly.
        enough: whether there are candidates enough for a tau to mean something.
    """

    names: list[str]
    tau: list[list[float]]
    ranks: dict[str, list[int]]
    warnings: list[str]
    enough: bool

    @property
    def low(self) -> list[tuple[str, str, float]]:
        """Two names and their tau, wherever it is below :data:`STRONG_DISAGREEMENT`."""
        if not self.enough:
            return []
        places = combinations(range(len(self.names)), 2)
        return [
            (self.names[i], self.names[j], self.tau[i][j])
            for i, j in places
            if self.tau[i][j] < STRONG_DISAGREEMENT  # False for NaN
        ]

    @property
    def with_score(self) -> str:
        """τ of the score with each size in one line: ``params 0.62, MACs 0.71, depth –``."""
        pairs = zip(self.names[1:], self.tau[0][1:], strict=True)
        return ", ".join(f"{cost_head(name)} {decimal(tau, 2)}" for name, tau in pairs)


def agreement(scored: Sequence[Evaluated]) -> Agreement | None:
    """Ranks by score, params, MACs and depth, and where they disagree; None without any.

    Args:
        scored: candidates of finite score.
    """
    columns: dict[str, Floats] = {"score": np.array([c.score for c in scored], dtype=np.float64)}
    for axis in SIZE_AXES:
        values = _column(scored, axis)
        if np.isfinite(values).all():
            columns[axis] = values
    names = list(columns)
    if not scored or len(names) < 2:
        return None
    ranks = {
        name: stats.rankdata(-values, method="min").astype(int).tolist()
        for name, values in columns.items()
    }
    tau = [[1.0 if a == b else _tau(columns[a], columns[b]) for b in names] for a in names]
    found = Agreement(names, tau, ranks, [], len(scored) >= FEWEST_FOR_TAU)
    found.warnings.extend(_warning(*pair) for pair in found.low)
    return found


def percentiles(candidates: Sequence[Evaluated]) -> dict[str, list[float]]:
    """Where each candidate stands by size among all, in percent: 0 the smallest, 100 the largest.

    Equals share the middle of their ranks. Of one candidate, or of an unknown size, NaN.

    Args:
        candidates: all that were evaluated, failed ones too.
    """
    shares = {}
    for axis in SIZE_AXES:
        values = _column(candidates, axis)
        known = np.isfinite(values)
        share = np.full(len(values), np.nan)
        if known.sum() > 1:
            share[known] = 100 * (stats.rankdata(values[known]) - 1) / (known.sum() - 1)
        shares[axis] = share.tolist()
    return shares


def size_note(candidates: Sequence[Evaluated]) -> str | None:
    """One sentence about the size axes that order a run's candidates differently; None if none.

    The orders of the sizes alone: that a score follows no size is the report's to tell.
    """
    ranks = agreement([c for c in candidates if math.isfinite(c.score)])
    if ranks is None:
        return None
    pairs = [(a, b, tau) for a, b, tau in ranks.low if a != "score"]
    if not pairs:
        return None
    shown = ", ".join(f"{_pair(a, b)} (τ = {decimal(tau, 2)})" for a, b, tau in pairs)
    return (
        f"Sizes disagree on these candidates: {shown}. Which of them counts depends on the space;"
        " the report shows their ranks beside the score."
    )


def _column(candidates: Sequence[Evaluated], axis: str) -> Floats:
    return np.array([c.costs.get(axis, math.nan) for c in candidates], dtype=np.float64)


def _tau(first: Floats, second: Floats) -> float:
    """Kendall's tau-b; NaN where it is undefined."""
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(stats.kendalltau(first, second).statistic)


def _pair(first: str, second: str) -> str:
    one, two = ("the score" if name == "score" else cost_label(name) for name in (first, second))
    return f"{one} and {two}"


def _warning(first: str, second: str, tau: float) -> str:
    pair, reversed_share = _pair(first, second), round(100 * (1 - tau) / 2)
    return (
        f"{pair[0].upper()}{pair[1:]} order these candidates differently: Kendall's"
        f" τ = {decimal(tau, 2)}, so about {reversed_share} of 100 pairs stand in the other order."
    )
