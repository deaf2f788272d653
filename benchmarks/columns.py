"""The columns in which scores are shown, on a terminal and on a page."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from .controls import ControlRow
from .measure import TRAINED
from .summary import BUDGETS, ScoreRow

__all__ = ["COLUMNS", "ShownColumn", "control_columns", "fraction"]

_DASH = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"
_REGRET = (
    "points of accuracy that the best-scored candidate loses to the best one, both within that"
    " quantile of the candidates' MACs"
)


@dataclass(frozen=True)
class ShownColumn:
    """A column of a table.

    Attributes:
        head: short; its last word may stand on a line of its own.
        text: of a row.
        about: what it tells.
    """

    head: str
    text: Callable[[ScoreRow], str]
    about: str


def fraction(value: float, digits: int = 3) -> str:
    """A number between −1 and 1 without its leading zero: ``.712``; a dash for NaN."""
    if not math.isfinite(value):
        return _DASH
    text = f"{abs(value):.{digits}f}"
    text = text.removeprefix("0") if text.startswith("0.") else text
    return (_MINUS if value < 0 and float(f"{value:.{digits}f}") != 0.0 else "") + text


def _points(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else _DASH


def _interval(key: str) -> Callable[[ScoreRow], str]:
    def text(row: ScoreRow) -> str:
        low, high = row.numbers[f"{key}_low"], row.numbers[f"{key}_high"]
        return f"{fraction(low, 2)} … {fraction(high, 2)}"

    return text


def _seed(row: ScoreRow) -> str:
    deviation = row.numbers["seed_tau_sd"]
    if not math.isfinite(deviation):
        return _DASH
    return f"{fraction(row.numbers['seed_tau'])} ± {fraction(deviation)}"


def _plain(key: str) -> Callable[[ScoreRow], str]:
    return lambda row: fraction(row.numbers[key])


def _regret(share: float) -> ShownColumn:
    key = f"regret_{share:.0%}".rstrip("%")
    return ShownColumn(f"regret {share:.0%}", lambda row: _points(row.numbers[key]), _REGRET)


COLUMNS: tuple[ShownColumn, ...] = (
    ShownColumn("τ", _plain("tau"), "Kendall's τ-b of the score averaged over seeds"),
    ShownColumn(
        "95%", _interval("tau"), "bootstrap interval of that τ, isomorphism classes drawn whole"
    ),
    ShownColumn("a seed", _seed, "τ of one seed, mean ± standard deviation"),
    ShownColumn("ρ", _plain("rho"), "Spearman's ρ"),
    ShownColumn("nDCG", _plain("ndcg"), "of the 1,000 best-scored, accuracies in percent"),
    ShownColumn("top 10%", _plain("top_rho"), "ρ among the truly best tenth"),
    ShownColumn(
        "τ in size strata",
        _plain("tau_in_sizes"),
        "τ-b over the pairs of candidates in the same stratum of params",
    ),
    ShownColumn("in strata 95%", _interval("tau_in_sizes"), "bootstrap interval of that"),
    ShownColumn("τ in params", _plain("tau_in_params"), "mean τ inside strata of like params"),
    ShownColumn("τ in MACs", _plain("tau_in_macs"), "mean τ inside strata of like MACs"),
    ShownColumn("equal size", _plain("pairs"), "pairs of |Δ ln params| < .12 in the right order"),
    *(_regret(share) for share in BUDGETS),
    ShownColumn("self ρ", _plain("self_rho"), "the score against itself over seeds"),
)


def control_columns(row: ControlRow) -> dict[str, str]:
    """Teacher → τ a seed ± standard deviation, then the verdict."""
    cells = {
        teacher: f"{fraction(row.seeds[teacher])} ± {fraction(row.spread[teacher])}"
        for teacher in row.tau
    }
    averaged = fraction(row.tau[TRAINED])
    return {"averaged": averaged, **cells, "verdict": row.verdict}
