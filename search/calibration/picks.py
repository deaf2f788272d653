"""Which candidates are distilled: one from each quantile of the training-free rank."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...searchspace.errors import InvalidInputError
from .recipe import MIN_LABELS

__all__ = ["quantile_picks"]


def quantile_picks(scores: npt.NDArray[np.float64], count: int, seed: int) -> npt.NDArray[np.int64]:
    """Places of ``count`` candidates, worst first: one at random from each quantile of the score.

    Labels spread over the whole range tell how far the rank holds; the best alone would say
    nothing of its slope.

    Args:
        scores: of distinct candidates, ``[N]``; those that failed (NaN) are never picked.
        count: how many.
        seed: of the draws.

    Raises:
        InvalidInputError: if there are fewer candidates than that, or fewer than 3 are asked.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < MIN_LABELS:
        raise InvalidInputError(
            f"calibrate = {count!r}; need a whole number of at least {MIN_LABELS} distillations"
        )
    order = np.argsort(scores, kind="stable")
    order = order[np.isfinite(scores[order])]
    if count > len(order):
        raise InvalidInputError(
            f"calibrate = {count}; the search scored {len(order)} candidates, so at most"
            f" {len(order)} can be distilled: ask for fewer, or for more evaluations"
        )
    rng = np.random.default_rng([seed, 0xCA])
    return np.array(
        [rng.choice(quantile) for quantile in np.array_split(order, count)], dtype=np.int64
    )
