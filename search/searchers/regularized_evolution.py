"""Regularised evolution, in the setting of DisWOT (CVPR 2023) on NAS-Bench-201.

Real et al., "Regularized Evolution for Image Classifier Architecture Search", AAAI 2019.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from ...searchspace.space import Matrix
from ..domain import Domain
from .base import Searcher, register_searcher

__all__ = ["RegularizedEvolutionSearcher"]

_ROUNDS = 20


@register_searcher("regularized-evolution")
class RegularizedEvolutionSearcher(Searcher):
    """Evolution of the score alone by tournament and mutation, where the oldest dies.

    A population of 36; each parent is the best of 8 drawn with replacement and has one child
    by the space's mutation, drawn again while it is outside the budget or known. The costs
    bound the search but are no objective of it.
    """

    # The paper's workers are asynchronous: a parent is picked from what is known by then. In
    # groups of 32 nearly the whole population would be replaced at once and no parent would
    # live to a second tournament; groups of 8 leave it four generations or so.
    group_size = 8
    population_size = 36
    sample_size = 8

    def __init__(self, domain: Domain, initial: Matrix, objectives: int, seed: int) -> None:
        super().__init__(domain, initial, objectives, seed)
        self._population: deque[tuple[Matrix, float]] = deque(maxlen=self.population_size)
        self._told: set[str] = set()

    def tell(self, rows: Matrix, objectives: npt.NDArray[np.float64]) -> None:
        for row, key, values in zip(rows, self.domain.space.keys(rows), objectives, strict=True):
            # A remembered row would enter again as the youngest; nothing was learnt of it.
            if key not in self._told and np.isfinite(values).all():
                self._population.append((row, float(values[0])))
            self._told.add(key)

    def propose(self, n: int) -> Matrix:
        found = self.domain.sample(0, self.rng)
        if self._population:
            taken = set(self._told)
            for _ in range(_ROUNDS):
                children = self.domain.space.mutate(self._parents(n), self.rng)
                children = children[self.domain.feasible(children)]
                fresh = []
                for i, key in enumerate(self.domain.space.keys(children)):
                    if key not in taken:
                        taken.add(key)
                        fresh.append(i)
                found = np.concatenate([found, children[fresh]])
                if len(found) >= n:
                    return found[:n]
        return np.concatenate([found, self.domain.sample(n - len(found), self.rng)])

    def _parents(self, n: int) -> Matrix:
        """Winners of ``n`` tournaments; of equals the first drawn."""
        scores = np.array([score for _, score in self._population])
        drawn = self.rng.integers(0, len(scores), size=(n, self.sample_size))
        winners = drawn[np.arange(n), scores[drawn].argmin(axis=1)]
        return np.stack([self._population[i][0] for i in winners])
