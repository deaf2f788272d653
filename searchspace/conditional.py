"""Spaces some of whose genes have no effect, such as those of layers beyond the depth."""

from __future__ import annotations

import abc

import numpy as np
import numpy.typing as npt

from .space import Matrix, SearchSpace

__all__ = ["ConditionalSpace"]


class ConditionalSpace(SearchSpace):
    """Rows that differ in inactive genes alone are one network: index 0 stands for them."""

    @abc.abstractmethod
    def _active(self, matrix: Matrix) -> npt.NDArray[np.bool_]:
        """Which genes have an effect, ``[N, genes]``."""

    def canonical(self, matrix: Matrix) -> Matrix:
        return np.where(self._active(matrix), matrix, 0)

    def mutate(self, matrix: Matrix, rng: np.random.Generator, rate: float | None = None) -> Matrix:
        """As the base class has it, but never a network equal to its parent."""
        children = super().mutate(matrix, rng, rate)
        active = self._active(matrix)
        same = self.canonical(children) == np.where(active, matrix, 0)
        idle = np.flatnonzero(same.all(axis=1))
        # The largest of uniform numbers on the active genes falls on each equally often.
        gene = np.where(active[idle], rng.random((len(idle), len(self.genes))), -1.0).argmax(axis=1)
        count = self._cardinalities[gene]
        children[idle, gene] = (matrix[idle, gene] + rng.integers(1, count)) % count
        return children
