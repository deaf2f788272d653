"""Bayesian optimisation with Gaussian processes on Optuna's sampler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._optuna import OptunaSearcher
from .base import register_searcher

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

__all__ = ["GPSearcher"]


@register_searcher("gp")
class GPSearcher(OptunaSearcher):
    """Optuna's Gaussian processes with expected hypervolume improvement; at most 100 evaluations.

    Daulton et al., "Differentiable Expected Hypervolume Improvement for Parallel Multi-Objective
    Bayesian Optimization", NeurIPS 2020; constraints as of Gardner et al., "Bayesian
    Optimization with Inequality Constraints", ICML 2014.
    """

    # An ask fits one process an objective and one a constraint, in cubic time: seconds each,
    # next to which scoring in groups saves nothing. One row at a time is asked faster (nothing
    # is pending that the acquisition has to average over) and with all that is known.
    max_evaluations = 100
    group_size = 1
    tries = 3

    def _sampler(self, seed: int) -> BaseSampler:
        from optuna.samplers import GPSampler

        return GPSampler(seed=seed)
