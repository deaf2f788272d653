"""What is known of a candidate without training it, as columns for the Gaussian process."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from ...proxies.ranks import ReferenceRank
from ...searchspace.space import Matrix, SearchSpace
from ...supernet.encoding import Encoder

__all__ = ["Features"]

Floats = npt.NDArray[np.float64]

#: Rank fractions nearer to 0 or 1 count as these: ±3.7 standard deviations.
_NEAREST = 1e-4

_SPREAD = 1e-9


class Features:
    """Genes, sizes and proxies of candidates, on the scales of a pool.

    Three blocks count alike, however many columns each has: a column for each value of each
    gene; the logarithms of params, MACs and depth; and the rank-gauss of each proxy. Genes and
    sizes have mean 0 and standard deviation 1 over the pool; what never varies in it is left
    out.

    Args:
        space: of the candidates.
        pool: candidates that ranks and scales are taken from, ``[P, genes]``.
        scores: of the pool, what the training-free search maximised, ``[P]``.
        proxies: of the pool, name → ``[P]``; NaN = failed.

    Raises:
        InvalidInputError: if the pool has not one finite score.
    """

    def __init__(
        self, space: SearchSpace, pool: Matrix, scores: Floats, proxies: Mapping[str, Floats]
    ) -> None:
        self._encoder = Encoder(space)
        self._rank = ReferenceRank(scores)
        self._proxies = {
            name: ReferenceRank(column)
            for name, column in proxies.items()
            if np.isfinite(column).any()
        }
        codes = self._encoder(pool)
        self._mean, spread = codes.mean(axis=0), codes.std(axis=0)
        self._kept = spread > _SPREAD
        self._spread = np.where(self._kept, spread, 1.0)
        sizes = np.array([name.startswith("log ") for name in self._encoder.names])
        self._blocks = [np.flatnonzero(self._kept & chosen) for chosen in (~sizes, sizes)]

    def prior(self, scores: Floats) -> Floats:
        """Rank-gauss of scores in the pool, ``[N]``: Φ⁻¹ of the rank fraction; NaN stays NaN."""
        return _gauss(self._rank, scores)

    def __call__(self, rows: Matrix, proxies: Mapping[str, Floats]) -> Floats:
        """The columns of N candidates, ``[N, F]``, with a mean square of about 1 a row.

        Args:
            rows: ``[N, genes]``.
            proxies: by the names given before, ``[N]``; one that failed counts as middling.
        """
        codes = (self._encoder(rows) - self._mean) / self._spread
        blocks = [codes[:, chosen] for chosen in self._blocks]
        ranks = [_gauss(rank, proxies[name]) for name, rank in self._proxies.items()]
        if ranks:
            blocks.append(np.nan_to_num(np.stack(ranks, axis=1)))
        blocks = [block for block in blocks if block.shape[1]]
        if not blocks:
            return np.zeros((len(rows), 0))
        total = sum(block.shape[1] for block in blocks)
        # A column of a block of k counts total / (blocks · k), so that each block's columns sum
        # to the same, and the mean over all columns is that of the blocks.
        return np.concatenate(
            [np.sqrt(total / (len(blocks) * block.shape[1])) * block for block in blocks], axis=1
        )


def _gauss(rank: ReferenceRank, values: Floats) -> Floats:
    fractions = np.clip(rank(np.asarray(values, dtype=np.float64)), _NEAREST, 1.0 - _NEAREST)
    return np.asarray(norm.ppf(fractions))
