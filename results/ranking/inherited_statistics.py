"""How well a score ranks beyond size, each number with its bootstrap standard error."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from _common import EQUAL_PARAMS, Column, pair_accuracy

from scholarch.benchmarks.intervals import kendall_draws
from scholarch.benchmarks.metrics import Index, kendall, ranks

__all__ = ["described"]


def partial(taus: Column) -> Column:
    """Partial τ of the first two columns given all others, from their τ ``[..., n, n]``."""
    inverse = np.linalg.pinv(taus, hermitian=True)
    norm = np.sqrt(np.abs(inverse[..., 0, 0] * inverse[..., 1, 1]))
    return np.asarray(-inverse[..., 0, 1] / norm)


def partial_draws(columns: list[Column], draws: Index) -> tuple[float, Column]:
    """:func:`partial` of the columns as they are, and of every bootstrap draw of them."""
    n = len(columns)
    found, drawn = np.eye(n), np.tile(np.eye(n), (len(draws), 1, 1))
    for i in range(n):
        for j in range(i):
            found[i, j] = found[j, i] = kendall(columns[i], columns[j])
            drawn[:, i, j] = drawn[:, j, i] = kendall_draws(columns[i], columns[j], draws)
    return float(partial(found)), partial(drawn)


def pair_draws(scores: Column, truth: Column, params: Column, draws: Index) -> Column:
    """:func:`pair_accuracy` of every bootstrap draw."""
    s, t = (np.sign(x[:, None] - x[None, :]) for x in (scores, truth))
    near = (np.abs(np.log(params[:, None] / params[None, :])) < EQUAL_PARAMS) & (t != 0)
    w = draws.astype(np.float64)
    right, all_ = (((w @ m) * w).sum(axis=1) for m in (near * (s * t + 1.0) / 2.0, near * 1.0))
    return np.asarray(right / all_)


def described(
    scores: Column, truth: Column, sizes: Mapping[str, Column], draws: Index
) -> dict[str, str]:
    """τ, partial τ, pair accuracy at equal params, and τ of Σ log-rank with params, ± error.

    Args:
        scores: of N candidates, higher is better.
        truth: likewise.
        sizes: ``params`` and ``macs``.
        draws: how often each candidate is in each bootstrap draw, ``[draws, N]``.
    """
    params, macs = sizes["params"], sizes["macs"]
    both = np.log(ranks(scores)) + np.log(ranks(params))
    values = {
        "τ": (kendall(scores, truth), kendall_draws(scores, truth, draws)),
        "τ given params": partial_draws([scores, truth, params], draws),
        "… and MACs": partial_draws([scores, truth, params, macs], draws),
        "pairs": (
            pair_accuracy(scores, truth, params)[0],
            pair_draws(scores, truth, params, draws),
        ),
        "τ with params": (kendall(both, truth), kendall_draws(both, truth, draws)),
    }
    return {
        name: f"{value:.3f} ± {np.nanstd(drawn):.3f}" for name, (value, drawn) in values.items()
    }
