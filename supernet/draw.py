"""Which architectures a step trains."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..searchspace.architecture import Architecture
from ..searchspace.extremes import largest, smallest
from ..searchspace.space import Matrix, SearchSpace
from .schedule import kind_of

__all__ = ["Drawer"]

#: Rows among which one near a target cost is looked for; AttentiveNAS' tables hold as many.
_POOL = 256

#: A draw inside the freed genes that the space refuses is drawn again so often.
_TRIES = 100


class Drawer:
    """Draws architectures of a space from a generator that the caller seeds.

    Args:
        space: what is drawn from.
        resolution: of the images; of the multiply-accumulates.

    Attributes:
        largest: of most multiply-accumulates.
        smallest: of fewest.
    """

    def __init__(self, space: SearchSpace, resolution: int | None = None) -> None:
        self.space = space
        self.resolution = resolution
        self.largest = largest(space)
        self.smallest = smallest(space)
        self._top = space.encode([self.largest])[0]
        self._kinds = [kind_of(gene.name) for gene in space.genes]

    def macs(self, matrix: Matrix) -> np.ndarray:
        """Multiply-accumulates of one image, ``[N]``."""
        return self.space.cost(matrix, resolution=self.resolution)["macs"]

    def rows(
        self, n: int, rng: np.random.Generator, free: Mapping[str, int | None] | None = None
    ) -> Matrix:
        """``n`` rows uniform over the values that are free, ``[n, genes]``.

        Args:
            n: how many.
            rng: where randomness comes from.
            free: see :class:`~scholarch.supernet.schedule.Phase`; default everything.
        """
        matrix = self.space.sample_matrix(n, rng)
        if free is None or all(free.get(kind, 1) is None for kind in self._kinds):
            return matrix
        for _ in range(_TRIES):
            for i, kind in enumerate(self._kinds):
                count = free.get(kind, 1)
                if count is not None:
                    values = self._nearest(i, count)
                    matrix[:, i] = values[rng.integers(0, len(values), size=n)]
            if self.space.valid(matrix).all():
                return matrix
            matrix = self.space.sample_matrix(n, rng)
        return np.repeat(self._top[None], n, axis=0)  # nothing else is valid there

    def spread(
        self,
        n: int,
        rng: np.random.Generator,
        free: Mapping[str, int | None] | None = None,
    ) -> Matrix:
        """``n`` rows near one cost that is uniform between the smallest's and the largest's.

        The nearest of a pool, nearest first. The pool's rows lean to one side each, as far as
        a number that is uniform says, since rows uniform over gene values hold few small and
        few large networks.
        """
        ends = self.macs(self.space.encode([self.smallest, self.largest]))
        target = rng.uniform(ends[0], ends[1])
        pool = self.rows(max(_POOL, 16 * n), rng, free)
        towards = rng.random(len(pool))
        lean = np.where(towards < 0.5, 1.0 - 2.0 * towards, 2.0 * towards - 1.0)
        bottom = self.space.encode([self.smallest])[0]
        corner = np.where((towards < 0.5)[:, None], bottom, self._top)
        pulled = rng.random(pool.shape) < lean[:, None]
        if free is not None:
            fixed = np.array([free.get(kind, 1) is not None for kind in self._kinds])
            pulled &= ~fixed | (towards >= 0.5)[:, None]
        leaning = np.where(pulled, corner, pool)
        pool = np.where(self.space.valid(leaning)[:, None], leaning, pool)
        return pool[np.argsort(np.abs(self.macs(pool) - target), kind="stable")[:n]]

    def decode(self, matrix: Matrix) -> list[Architecture]:
        """Architectures of rows."""
        return self.space.decode(matrix)

    def _nearest(self, gene: int, count: int) -> np.ndarray:
        """The ``count`` values of a gene nearest to the largest's, by index."""
        indices = np.arange(len(self.space.genes[gene].values))
        order = np.argsort(np.abs(indices - self._top[gene]), kind="stable")
        return np.asarray(indices[order[:count]])
