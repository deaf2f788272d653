"""NSGA-II on Optuna's sampler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._optuna import GeneticOptunaSearcher
from .base import register_searcher

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

__all__ = ["OptunaNSGA2Searcher"]


@register_searcher("optuna-nsga2")
class OptunaNSGA2Searcher(GeneticOptunaSearcher):
    """Optuna's NSGA-II: constrained domination, uniform crossover, mutation to any value.

    Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", IEEE TEC 2002.
    """

    def _sampler(self, seed: int) -> BaseSampler:
        from optuna.samplers import NSGAIISampler

        return NSGAIISampler(seed=seed, population_size=self.population_size)
