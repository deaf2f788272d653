"""NSGA-III on Optuna's sampler."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from ._optuna import GeneticOptunaSearcher
from .base import register_searcher

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

__all__ = ["OptunaNSGA3Searcher"]


@register_searcher("optuna-nsga3")
class OptunaNSGA3Searcher(GeneticOptunaSearcher):
    """Optuna's NSGA-III: NSGA-II whose diversity comes from reference directions, for many costs.

    Deb and Jain, "An Evolutionary Many-Objective Optimization Algorithm Using Reference-Point-
    Based Nondominated Sorting Approach", IEEE TEC 2014.
    """

    def _sampler(self, seed: int) -> BaseSampler:
        from optuna.exceptions import ExperimentalWarning
        from optuna.samplers import NSGAIIISampler

        with warnings.catch_warnings():
            # Optuna calls the class experimental: its interface may change, which the range of
            # versions guards against; its users need not be told.
            warnings.simplefilter("ignore", ExperimentalWarning)
            return NSGAIIISampler(seed=seed, population_size=self.population_size)
