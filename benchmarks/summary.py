"""Every number of one score, and what each is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from . import metrics
from .intervals import interval, kendall_draws
from .metrics import Column, Index

__all__ = ["BUDGETS", "STATISTICS", "Judge", "ScoreRow", "averaged"]

#: Budgets that regret is told for: quantiles of the candidates' MACs.
BUDGETS = (0.25, 0.5, 0.75, 1.0)


def _regret(share: float) -> str:
    """Key of the regret under a budget: ``regret_25`` for a quarter."""
    return f"regret_{100 * share:.0f}"


#: Key → what it is, in the order of tables. All but ``seed_*`` and ``self_rho`` are of the score
#: averaged over seeds.
STATISTICS = {
    "tau": "Kendall's τ-b",
    "tau_low": "τ, lower end of its 95 % bootstrap interval",
    "tau_high": "τ, upper end",
    "seed_tau": "τ of a single seed, mean",
    "seed_tau_sd": "τ of a single seed, standard deviation",
    "rho": "Spearman's ρ",
    "ndcg": f"nDCG of the {metrics.NDCG_TOP:,} best-scored, accuracies in percent",
    "top_rho": "Spearman's ρ among the truly best tenth",
    "tau_in_sizes": "τ over the pairs inside strata of equal params",
    "tau_in_sizes_low": "τ inside size strata, lower end of its 95 % bootstrap interval",
    "tau_in_sizes_high": "τ inside size strata, upper end",
    "tau_in_params": "τ inside strata of equal params, their mean",
    "tau_in_macs": "τ inside strata of equal MACs, their mean",
    "pairs": f"pairs of |Δ ln params| < {metrics.EQUAL_SIZE} in the right order, share",
    **{
        _regret(share): (
            f"points of accuracy lost against the best within a budget of the {share:.0%} quantile"
            " of MACs"
        )
        for share in BUDGETS
    },
    "self_rho": "the score against itself over seeds, Spearman's ρ",
}


@dataclass(frozen=True)
class ScoreRow:
    """One score and its numbers.

    Attributes:
        name: of the score.
        kind: ``"size"``, ``"random"``, ``"proxy"`` or ``"ensemble"``.
        numbers: those of :data:`STATISTICS`; NaN where one is not defined.
        failed: values that are missing, of candidates × seeds.
        values: the score averaged over seeds, ``[N]``.
    """

    name: str
    kind: str
    numbers: dict[str, float]
    failed: int
    values: Column = field(repr=False, compare=False)

    @property
    def is_baseline(self) -> bool:
        """Whether it is told for comparison: a size, or chance."""
        return self.kind in ("size", "random")


def averaged(columns: Sequence[Column]) -> Column:
    """Mean over seeds, ``[N]``; of the seeds that scored a candidate, NaN where none did."""
    table = np.stack(columns)
    scored = np.isfinite(table)
    count = scored.sum(axis=0)
    total = np.where(scored, table, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


class Judge:
    """Takes every statistic of scores against one truth.

    Args:
        truth: accuracies in percent, ``[N]``.
        params: of the candidates as trained, ``[N]``.
        macs: likewise.
        draws: how often each candidate is in each bootstrap draw, ``[draws, N]``.
    """

    def __init__(self, truth: Column, params: Column, macs: Column, draws: Index) -> None:
        self.truth = truth
        self.draws = draws
        self._params, self._macs = params, macs
        self._by_params, self._by_macs = metrics.strata(params), metrics.strata(macs)

    def row(self, name: str, kind: str, columns: Sequence[Column]) -> ScoreRow:
        """The numbers of one score.

        Args:
            name: of the score.
            kind: see :class:`ScoreRow`.
            columns: scores ``[N]`` of each seed; one where no seed changes it.
        """
        mean, truth = averaged(columns), self.truth
        by_seed = np.array([metrics.kendall(column, truth) for column in columns])
        low, high = interval(kendall_draws(mean, truth, self.draws))
        inside = interval(kendall_draws(mean, truth, self.draws, self._by_params))
        numbers = {
            "tau": metrics.kendall(mean, truth),
            "tau_low": low,
            "tau_high": high,
            "seed_tau": float(by_seed.mean()),
            "seed_tau_sd": float(by_seed.std(ddof=1)) if len(columns) > 1 else float("nan"),
            "rho": metrics.spearman(mean, truth),
            "ndcg": metrics.ndcg(mean, truth),
            "top_rho": metrics.top_spearman(mean, truth),
            "tau_in_sizes": metrics.pooled_kendall(mean, truth, self._by_params),
            "tau_in_sizes_low": inside[0],
            "tau_in_sizes_high": inside[1],
            "tau_in_params": metrics.stratified_kendall(mean, truth, self._by_params),
            "tau_in_macs": metrics.stratified_kendall(mean, truth, self._by_macs),
            "pairs": metrics.pair_accuracy(mean, truth, self._params)[0],
            **{
                _regret(share): metrics.regret(
                    mean, truth, self._macs, float(np.quantile(self._macs, share))
                )
                for share in BUDGETS
            },
            "self_rho": metrics.agreement_between_seeds(list(columns)),
        }
        failed = int(sum(np.isnan(column).sum() for column in columns))
        return ScoreRow(name, kind, numbers, failed, mean)
