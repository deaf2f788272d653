"""Uniform sampling inside the budget: the baseline of every searcher."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...searchspace.space import Matrix
from .base import Searcher, register_searcher

__all__ = ["RandomSearcher"]


@register_searcher("random")
class RandomSearcher(Searcher):
    """Uniform architectures inside the budget, with replacement."""

    def propose(self, n: int) -> Matrix:
        return self.domain.sample(n, self.rng)

    def tell(self, rows: Matrix, objectives: npt.NDArray[np.float64]) -> None:
        """Nothing to learn."""
