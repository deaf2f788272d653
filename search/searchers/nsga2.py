"""NSGA-II (Deb et al., IEEE TEC 2002): sorting and selection by DEAP, variation by the space.

DEAP's ``creator`` writes classes into a global namespace and its tournament draws from the
global generator, so neither is used: individuals are plain objects and parents are picked
here by the paper's crowded comparison.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from deap import base, tools

from ...searchspace.space import Matrix
from ..domain import Domain
from .base import Searcher, register_searcher

__all__ = ["NSGA2Searcher"]

_ROUNDS = 20


class _Individual:
    """A row with the fitness DEAP sorts by."""

    def __init__(self, row: Matrix, fitness: Any) -> None:
        self.row = row
        self.fitness = fitness


@register_searcher("nsga2")
class NSGA2Searcher(Searcher):
    """Multi-objective evolution: non-dominated sorting, crowding, uniform crossover, mutation.

    Populations of 32. A child comes from two parents by crossover with probability 0.9, then
    mutates one gene on average; children outside the budget are drawn again.
    """

    population_size = 32
    crossover_rate = 0.9

    def __init__(self, domain: Domain, initial: Matrix, objectives: int, seed: int) -> None:
        super().__init__(domain, initial, objectives, seed)
        self._fitness = type("Fitness", (base.Fitness,), {"weights": (-1.0,) * objectives})
        self._population: list[_Individual] = []
        self._told: set[bytes] = set()
        #: Rows of the population, best first; empty until a tournament asks for it.
        self._order: list[Matrix] = []

    def tell(self, rows: Matrix, objectives: npt.NDArray[np.float64]) -> None:
        self._order = []
        for row, values in zip(rows, objectives, strict=True):
            if row.tobytes() in self._told or not np.isfinite(values).all():
                continue
            self._told.add(row.tobytes())
            self._population.append(_Individual(row, self._fitness(tuple(values.tolist()))))
        if self._population:
            self._population = tools.selNSGA2(
                self._population, min(self.population_size, len(self._population))
            )

    def propose(self, n: int) -> Matrix:
        if not self._population:
            return self.domain.sample(n, self.rng)
        found = self.domain.sample(0, self.rng)
        known = set(self._told)
        for _ in range(_ROUNDS):
            children = self._children(n)
            children = children[self.domain.feasible(children)]
            fresh = []
            for child in children:
                if child.tobytes() not in known:
                    known.add(child.tobytes())
                    fresh.append(child)
            if fresh:
                found = np.concatenate([found, np.stack(fresh)])
            if len(found) >= n:
                break
        return found[:n]

    def _children(self, n: int) -> Matrix:
        first, second = self._tournament(n), self._tournament(n)
        crossed = self.domain.space.crossover(first, second, self.rng)
        crosses = self.rng.random(n) < self.crossover_rate
        return self.domain.space.mutate(np.where(crosses[:, None], crossed, first), self.rng)

    def _tournament(self, n: int) -> Matrix:
        """Winners of ``n`` binary tournaments by front, then by crowding distance."""
        if not self._order:
            fronts = tools.sortNondominated(self._population, len(self._population))
            self._order = [
                individual.row
                for front in fronts
                for individual in sorted(front, key=lambda i: -i.fitness.crowding_dist)
            ]
        pairs = self.rng.integers(0, len(self._order), size=(n, 2))
        return np.stack([self._order[i] for i in pairs.min(axis=1)])
