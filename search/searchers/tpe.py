"""The tree-structured Parzen estimator on Optuna's sampler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._optuna import OptunaSearcher
from .base import register_searcher

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

__all__ = ["TPESearcher"]


@register_searcher("tpe")
class TPESearcher(OptunaSearcher):
    """Optuna's multivariate, multi-objective tree-structured Parzen estimator.

    Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011; several
    objectives as of Ozaki et al., "Multiobjective Tree-Structured Parzen Estimator", JAIR 2022.
    """

    group_size = 8
    # Categories even where values have an order: Optuna's kernels over integers narrow with the
    # number of trials to a small part of one step, and then repeat known rows (two suggestions
    # of three in 500 evaluations over 45 genes of 5 values; 1 in 100 as categories).
    ordered = False

    def _sampler(self, seed: int) -> BaseSampler:
        from optuna.samplers import TPESampler

        # Joint densities: genes of one stage act together. Gene by gene, Optuna's default for
        # several objectives, also sorts all trials once a gene: 45 times an ask.
        return TPESampler(seed=seed, multivariate=True)
