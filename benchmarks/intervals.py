"""Bootstrap intervals: how far a τ could be off, had other candidates been trained.

Whole clusters are drawn, since isomorphic cells are one candidate trained several times: drawn
row by row, duplicates would make every interval too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .metrics import Column, Index, pooled_kendall, ranks

__all__ = ["draws_for", "interval", "kendall_draws", "resamples"]

LEVEL = 0.95
_DRAWS = 1000
#: Beyond so many rows fewer draws do: the interval is narrow, a τ takes milliseconds.
_MANY_ROWS, _FEWER_DRAWS = 2000, 200
#: Beyond so many rows sorting each draw beats comparing all pairs of all draws at once.
_MANY_PAIRS = 1000


def draws_for(rows: int) -> int:
    """How many bootstrap draws a table of so many rows gets."""
    return _DRAWS if rows <= _MANY_ROWS else _FEWER_DRAWS


def resamples(clusters: Sequence[str], draws: int, seed: int) -> Index:
    """How often each row is drawn: as many clusters as there are, with replacement, whole.

    Args:
        clusters: name of each row's cluster, ``[N]``.
        draws: how many.
        seed: of the draws.

    Returns:
        Counts, ``[draws, N]``.
    """
    names, member = np.unique(np.asarray(clusters), return_inverse=True)
    rng = np.random.default_rng([seed, 0xB0])
    drawn = rng.integers(0, len(names), size=(draws, len(names)))
    return np.stack([np.bincount(row, minlength=len(names))[member] for row in drawn])


def kendall_draws(
    scores: Column, truth: Column, draws: Index, strata: Index | None = None
) -> Column:
    """Kendall's τ-b of every draw, ``[draws]``.

    Args:
        scores: ``[N]``.
        truth: ``[N]``.
        draws: how often each row is drawn, ``[draws, N]``.
        strata: only pairs of the same stratum count, as in
            :func:`~scholarch.benchmarks.metrics.pooled_kendall`, ``[N]``; default all pairs.
    """
    ranked = ranks(scores)
    strata = np.zeros(len(truth), dtype=np.int64) if strata is None else strata
    if len(truth) > _MANY_PAIRS:
        rows = np.arange(len(truth))
        return np.array(
            [
                pooled_kendall(ranked[drawn], truth[drawn], strata[drawn])
                for drawn in (np.repeat(rows, counts) for counts in draws)
            ]
        )
    # τ-b = Σ w_i w_j s_ij t_ij / √(Σ w_i w_j s_ij² · Σ w_i w_j t_ij²), s and t the signs of the
    # differences, w the counts: products of matrices for all draws at once.
    together = strata[:, None] == strata[None, :]
    s = np.sign(ranked[:, None] - ranked[None, :]) * together
    t = np.sign(truth[:, None] - truth[None, :]) * together
    w = draws.astype(np.float64)
    agreeing, apart, true_apart = (((w @ m) * w).sum(axis=1) for m in (s * t, s * s, t * t))
    norm = np.sqrt(apart * true_apart)
    return np.where(norm > 0.0, agreeing / np.where(norm > 0.0, norm, 1.0), np.nan)


def interval(values: Column) -> tuple[float, float]:
    """The central 95 % of bootstrapped values (percentile method); NaN are left out."""
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
    return float(low), float(high)
