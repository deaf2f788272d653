"""Ranks against a fixed reference sample, and their combination.

A rank among the candidates seen so far changes as others arrive; a rank against a sample
drawn once does not. :class:`ReferenceRank` is the continuous, strictly increasing map from a
score to its rank fraction in such a sample; :func:`log_rank_sum` adds the logarithms, the
combination AZ-NAS uses (Lee & Ham, CVPR 2024, eq. 9) with the sample in place of the
population.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ..searchspace.errors import InvalidInputError

__all__ = ["ReferenceRank", "log_rank_sum"]

Column = npt.NDArray[np.float64]


class ReferenceRank:
    """Rank fraction of scores in a fixed sample, in (0, 1), strictly increasing.

    Linear between the sample's distinct values, each at the middle of its ties' ranks
    (i − ½)/m. Beyond the extremes the fraction goes on to 0 and 1 as 1/(1 + z), z the
    distance in units of the sample's spread, so that better still ranks higher still.

    Args:
        sample: scores of the reference sample ``[m]``; NaN are left out.

    Raises:
        InvalidInputError: if no finite score is left.
    """

    def __init__(self, sample: Column) -> None:
        finite = np.sort(sample[np.isfinite(sample)])
        if not finite.size:
            raise InvalidInputError("a reference sample without one finite score ranks nothing")
        self._values, first, counts = np.unique(finite, return_index=True, return_counts=True)
        self._ranks = (first + counts / 2.0) / finite.size
        spread = float(np.subtract(*np.percentile(finite, [75, 25])))
        # A sample of equal values has no spread of its own: take the value's size.
        self._scale = spread or float(np.ptp(finite)) or abs(float(finite[0])) or 1.0

    def log(self, scores: Column) -> Column:
        """Logarithms of the rank fractions of scores ``[N]``, < 0; NaN stays NaN.

        The upper tail is told apart where the fraction itself has long rounded to 1.
        """
        scores = np.asarray(scores, dtype=np.float64)
        inside = np.log(np.interp(scores, self._values, self._ranks))
        below = np.maximum(self._values[0] - scores, 0.0) / self._scale
        above = np.maximum(scores - self._values[-1], 0.0) / self._scale
        low = np.log(self._ranks[0]) - np.log1p(below)
        high = np.log1p((self._ranks[-1] - 1.0) / (1.0 + above))
        out = np.where(below > 0, low, np.where(above > 0, high, inside))
        return np.asarray(np.where(np.isnan(scores), np.nan, out))

    def __call__(self, scores: Column) -> Column:
        """Rank fractions of scores ``[N]``; NaN stays NaN."""
        return np.asarray(np.exp(self.log(scores)))


def log_rank_sum(
    columns: Mapping[str, Column],
    reference: Mapping[str, Column],
    weights: Mapping[str, float] | None = None,
) -> Column:
    """Σ weight · log rank fraction over the columns, ``[N]``, ≤ 0; NaN where a part failed.

    Args:
        columns: oriented scores of N candidates, by proxy.
        reference: oriented scores of the reference sample, by the same names.
        weights: by the same names; default 1 each.
    """
    parts = [
        (1.0 if weights is None else weights[name]) * ReferenceRank(reference[name]).log(column)
        for name, column in columns.items()
    ]
    return np.asarray(np.sum(parts, axis=0, dtype=np.float64))
