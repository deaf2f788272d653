"""How well a score ranks: pure functions of scores and the truth.

Higher is better in both. Scores may hold NaN, a failed candidate: it ranks below every other,
all failed ones level. A statistic that is not defined, for want of candidates or because all
scores or all truths are equal, is NaN.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

__all__ = [
    "EQUAL_SIZE",
    "NDCG_TOP",
    "agreement_between_seeds",
    "kendall",
    "ndcg",
    "pair_accuracy",
    "pooled_kendall",
    "ranks",
    "regret",
    "spearman",
    "strata",
    "stratified_kendall",
    "top_spearman",
]

Column = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

#: |Δ ln size| below which two candidates count as of equal size.
EQUAL_SIZE = 0.12
#: Candidates nDCG looks at, VKDNW's P.
NDCG_TOP = 1000
#: Least candidates in a stratum that tells anything; else fewer, larger strata.
_LEAST = 20
_BLOCK = 256


def ranks(scores: Column) -> Column:
    """Ranks 1 … N, ties at their mean; NaN below all, tied with each other, ``[N]``."""
    return np.asarray(stats.rankdata(np.where(np.isnan(scores), -np.inf, scores)))


def kendall(scores: Column, truth: Column) -> float:
    """Kendall's τ-b: (P − Q) / √((P + Q + T)(P + Q + U)).

    P and Q count pairs in agreeing and in opposite order, T those tied in the scores alone, U
    those tied in the truth alone.
    """
    if len(truth) < 2:
        return float("nan")
    return float(stats.kendalltau(ranks(scores), truth).statistic)


def spearman(scores: Column, truth: Column) -> float:
    """Spearman's ρ: Pearson's correlation of the ranks."""
    return _pearson(ranks(scores), ranks(truth))


def _pearson(x: Column, y: Column) -> float:
    if len(x) < 2 or np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def ndcg(scores: Column, truth: Column, top: int = NDCG_TOP) -> float:
    """Normalised discounted cumulative gain of the ``top`` best-scored candidates.

    (1/Z) Σ_{j ≤ P} (2^{a_j} − 1) / log₂(1 + j), a_j the accuracy **in percent** of the candidate
    that the scores put at place j, Z the same sum in the true order (Tybl & Neumann, CVPR 2025,
    §4.1, P = 1000). A point of accuracy more doubles the gain; with accuracies as fractions any
    order would come out above .97. Tied scores share the mean gain of their places.

    Args:
        scores: ``[N]``.
        truth: accuracies in percent, ``[N]``.
        top: P; all candidates where there are fewer.
    """
    if not len(truth):
        return float("nan")
    gain = np.exp2(truth) - 1.0
    order = ranks(scores)
    group = np.unique(order, return_inverse=True)[1]
    mean = np.bincount(group, gain) / np.bincount(group)
    by_score = mean[group][np.argsort(-order, kind="stable")]
    discount = 1.0 / np.log2(np.arange(2, min(top, len(truth)) + 2))
    best = np.sort(gain)[::-1]
    ideal = float(best[: len(discount)] @ discount)
    return float(by_score[: len(discount)] @ discount) / ideal if ideal > 0.0 else float("nan")


def top_spearman(scores: Column, truth: Column, share: float = 0.1) -> float:
    """Spearman's ρ among the truly best ``share`` of the candidates, three at least."""
    count = max(3, int(np.ceil(share * len(truth))))
    if count > len(truth):
        return float("nan")
    best = np.argsort(-truth, kind="stable")[:count]
    return spearman(scores[best], truth[best])


def strata(sizes: Column) -> Index:
    """Stratum of each candidate by size, ``[N]``: fifths, or thirds of fewer than 100.

    Equal sizes share a stratum, so strata may differ in number and fill.
    """
    count = 5 if len(sizes) >= 5 * _LEAST else 3
    edges = np.quantile(sizes, np.arange(1, count) / count)
    return np.asarray(np.searchsorted(edges, sizes, side="left"), dtype=np.int64)


def stratified_kendall(scores: Column, truth: Column, strata: Index) -> float:
    """Mean of τ-b inside each stratum, weighted by its number of candidates.

    A stratum without a τ, e.g. of a single candidate, is left out; one in which all scores tie
    counts as 0, since there the score tells nothing.
    """
    total, weight = 0.0, 0
    for stratum in np.unique(strata):
        inside = strata == stratum
        if inside.sum() < 2 or np.ptp(truth[inside]) == 0.0:
            continue
        tau = kendall(scores[inside], truth[inside])
        total += inside.sum() * (0.0 if np.isnan(tau) else tau)
        weight += int(inside.sum())
    return total / weight if weight else float("nan")


def pooled_kendall(scores: Column, truth: Column, strata: Index) -> float:
    """Kendall's τ-b over the pairs that share a stratum, all strata's pairs together.

    Σ (P − Q) / √(Σ (P + Q + T) · Σ (P + Q + U)), sums over strata, letters as in
    :func:`kendall`. Unlike :func:`stratified_kendall` it weighs pairs alike, so that a stratum of
    few candidates, whose own τ is mostly noise, has little say.
    """
    order = ranks(scores)
    agreeing, told, true_told = 0.0, 0.0, 0.0
    for stratum in np.unique(strata):
        inside = strata == stratum
        apart, true_apart = _untied(order[inside]), _untied(truth[inside])
        told, true_told = told + apart, true_told + true_apart
        if apart and true_apart:
            tau = float(stats.kendalltau(order[inside], truth[inside]).statistic)
            agreeing += tau * np.sqrt(apart * true_apart)
    return float(agreeing / np.sqrt(told * true_told)) if told and true_told else float("nan")


def _untied(values: Column) -> float:
    """Pairs of different values."""
    count = np.unique(values, return_counts=True)[1].astype(np.float64)
    return float(count.sum() ** 2 - (count**2).sum()) / 2.0


def pair_accuracy(scores: Column, truth: Column, sizes: Column) -> tuple[float, int]:
    """Share of pairs of equal size that the scores put in the right order; chance is ½.

    Args:
        scores: ``[N]``.
        truth: ``[N]``.
        sizes: > 0; a pair counts where |Δ ln size| < :data:`EQUAL_SIZE` and the truths differ.

    Returns:
        The share, a tie of scores counting one half, and how many pairs there are.
    """
    order = np.argsort(sizes, kind="stable")
    size, score, true = np.log(sizes[order]), ranks(scores)[order], truth[order]
    right, pairs = 0.0, 0
    for start in range(0, len(size), _BLOCK):  # all pairs at once would not fit for thousands
        rows = np.arange(start, min(start + _BLOCK, len(size)))
        last = np.searchsorted(size, size[rows[-1]] + EQUAL_SIZE, side="right")
        columns = np.arange(start, last)
        near = (size[columns][None, :] - size[rows][:, None] < EQUAL_SIZE) & (
            columns[None, :] > rows[:, None]
        )
        difference = np.sign(true[columns][None, :] - true[rows][:, None])
        near &= difference != 0.0
        agreement = np.sign(score[columns][None, :] - score[rows][:, None]) * difference
        right += float(((agreement[near] + 1.0) / 2.0).sum())
        pairs += int(near.sum())
    return (right / pairs if pairs else float("nan")), pairs


def regret(scores: Column, truth: Column, costs: Column, bound: float) -> float:
    """Truth lost by taking the best-scored candidate within a budget, in the truth's unit.

    Best truth among candidates of cost ≤ ``bound`` minus the truth of the best-scored of them,
    the mean of those that tie.
    """
    inside = costs <= bound
    if not inside.any():
        return float("nan")
    order = ranks(scores[inside])
    return float(truth[inside].max() - truth[inside][order == order.max()].mean())


def agreement_between_seeds(columns: list[Column]) -> float:
    """Mean Spearman's ρ over all pairs of seeds: the score against itself; NaN for one seed."""
    found = [
        spearman(first, second) for i, first in enumerate(columns) for second in columns[i + 1 :]
    ]
    return float(np.mean(found)) if found else float("nan")
