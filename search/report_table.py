"""The report's tables: candidates, ranks by size, stages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .report_numbers import is_scored, within_budget
from .sizes import Agreement
from .units import column_scale, cost_head, cost_label, cost_value, decimal, number

if TYPE_CHECKING:
    from ..searchspace.architecture import Stage
    from .report_data import ReportCandidate, ReportData

__all__ = ["MOST_ROWS", "Column", "candidate_table", "rank_table", "stage_view"]

#: More rows would make the page slow; the rest is in the run's store.
MOST_ROWS = 2000
#: Shown beside the score whatever the score weighs; other proxies only on request.
_ALWAYS_SHOWN = {
    "diswot-semantic": "similarity to the teacher",
    "diswot-relation": "similarity to the teacher",
    "predicted-accuracy": "what a predictor said before it was evaluated",
}
_EXTRA_COSTS = ("flops", "peak_memory", "weight_memory")
_RANK_ROWS = 10
#: Longest notation that stays on one line.
_SHORT = 28
#: Pixels of the widest stage and of the tallest and widest block of the drawing.
_STAGE_WIDTH, _BLOCK_HEIGHT, _BLOCK_WIDTH, _BLOCK_GAP = 280.0, 112.0, 30.0, 2.0


@dataclass(frozen=True, slots=True)
class Column:
    """A numeric column of the table of candidates.

    Attributes:
        label: its header.
        unit: what its numbers are divided by, e.g. ``"M"``.
        hint: a longer word about it.
        extra: whether it is hidden at first.
    """

    label: str
    unit: str
    hint: str
    extra: bool


def candidate_table(data: ReportData, shares: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Columns and rows: the front first, then by score, failures last.

    Args:
        data: of the run.
        shares: cost -> each candidate's place among all in percent, shown beside that cost.
    """
    order = sorted(range(len(data.candidates)), key=lambda i: _precedence(data, i))
    shown = [data.candidates[i] for i in order[:MOST_ROWS]]
    columns: list[Column] = []
    cells: list[list[tuple[str, str]]] = []

    def add(column: Column, texts: list[str], places: Sequence[float] | None = None) -> None:
        columns.append(column)
        ranked = [places[i] for i in order[:MOST_ROWS]] if places else [math.nan] * len(texts)
        cells.append(
            [
                (text, f"{place:.0f}\N{NO-BREAK SPACE}%" if math.isfinite(place) else "")
                for text, place in zip(texts, ranked, strict=True)
            ]
        )

    add(Column(data.score_name, "", "the run's score, higher is better", extra=False),
        _score_cells([candidate.score for candidate in shown]))  # fmt: skip
    costs = list(dict.fromkeys(name for candidate in shown for name in candidate.costs))
    # Sizes stand beside the score, each with its place among all; other costs come last.
    sizes = [cost for cost in shares if cost in costs]

    def add_cost(cost: str) -> None:
        values = [candidate.costs.get(cost, math.nan) for candidate in shown]
        divisor, unit = column_scale(cost, values)
        hint = {"macs": "multiply–accumulates", "flops": "2 × MACs"}.get(cost, cost_label(cost))
        extra = cost in _EXTRA_COSTS and cost not in data.budget
        whole = divisor == 1 and all(v == int(v) for v in values if math.isfinite(v))
        column = Column(cost_head(cost), unit, hint, extra)
        texts = [decimal(value / divisor, 0 if whole else 3) for value in values]
        add(column, texts, shares.get(cost))

    for cost in sizes:
        add_cost(cost)
    proxies = dict.fromkeys(name for candidate in shown for name in candidate.scores)
    first = [name for name in _ALWAYS_SHOWN if name in proxies]
    for name in [*first, *(name for name in proxies if name not in first)]:
        if name == data.score_name:
            continue
        values = [candidate.scores.get(name, math.nan) for candidate in shown]
        hint = _ALWAYS_SHOWN.get(name, "proxy")
        column = Column(name, "", f"{hint}, higher is better", extra=name not in first)
        add(column, _score_cells(values))
    for cost in costs:
        if cost not in sizes:
            add_cost(cost)
    picked = None if data.pick is None else data.candidates[data.pick]
    return {
        "columns": columns,
        "rows": [
            {
                "candidate": candidate,
                "cells": row,
                "picked": candidate is picked,
                "failed": not is_scored(candidate),
                "long": len(candidate.text) > _SHORT,
            }
            for candidate, *row in zip(shown, *cells, strict=True)
        ],
        "total": len(data.candidates),
        "front": sum(candidate.on_front for candidate in shown),
        "extra": sum(column.extra for column in columns),
    }


def _precedence(data: ReportData, i: int) -> tuple[bool, bool, float, int]:
    candidate = data.candidates[i]
    failed = not is_scored(candidate)
    first = candidate.on_front or i == data.pick
    return (not first, failed, 0.0 if failed else -candidate.score, candidate.order)


def _score_cells(values: Sequence[float]) -> list[str]:
    """One format a column, so that the digits stand under each other."""
    finite = [abs(value) for value in values if math.isfinite(value)]
    largest = max(finite, default=0.0)
    if largest and not 1e-4 <= largest < 1e5:
        return [_exponent(value) for value in values]
    digits = 2 if largest >= 100 else 4 if largest >= 1e-2 else 6
    return [decimal(value, digits) for value in values]


def _exponent(value: float) -> str:
    return f"{value:.3e}".replace("-", "\N{MINUS SIGN}") if math.isfinite(value) else decimal(value)


def rank_table(
    data: ReportData, scored: Sequence[ReportCandidate], ranks: Agreement | None
) -> dict[str, Any] | None:
    """The best candidates' ranks by score and by size, and who would win by size alone."""
    if ranks is None:
        return None
    picked = None if data.pick is None else data.candidates[data.pick]
    best = sorted(range(len(scored)), key=lambda i: (ranks.ranks["score"][i], scored[i].order))
    shown = best[:_RANK_ROWS]
    place = next((i for i in best if scored[i] is picked), None)
    if place is not None and place not in shown:
        shown.append(place)
    rows = [
        {
            "candidate": scored[i],
            "picked": i == place,
            "long": len(scored[i].text) > _SHORT,
            "ranks": [
                # The bar is full for the first and empty for the last.
                (f"{rank:,}", f"{100 * (1 - (rank - 1) / max(1, len(scored) - 1)):.0f}")
                for rank in (ranks.ranks[name][i] for name in ranks.names)
            ],
        }
        for i in shown
    ]
    inside = [i for i in best if within_budget(scored[i], data.budget)]
    winners = []
    for axis in ranks.names[1:] if inside else []:
        i = min(inside, key=lambda i: ranks.ranks[axis][i])  # of equals the best score
        winners.append(
            {
                "axis": cost_head(axis),
                "candidate": scored[i],
                "picked": i == place,
                "long": len(scored[i].text) > _SHORT,
                "cost": cost_value(axis, scored[i].costs[axis]),
                "score": decimal(scored[i].score),
                "rank": f"{ranks.ranks['score'][i]:,}",
            }
        )
    heads = [name if name == "score" else cost_head(name) for name in ranks.names]
    return {
        "heads": heads,
        "rows": rows,
        "winners": winners,
        "warnings": ranks.warnings,
        "enough": ranks.enough,
        "with_score": ranks.with_score,
        "of": f"{len(scored):,}",
    }


def stage_view(stages: Sequence[Stage]) -> list[dict[str, Any]]:
    """Stages with the geometry of their drawing, in pixels: height ~ resolution, width ~ channels.

    One scale serves all stages; it is chosen so that the widest stage fits a phone.
    """
    if not stages:
        return []
    tallest = max(1, *(stage.resolution for stage in stages))
    widest = max(1, *(stage.width for stage in stages))
    room = min(
        (_STAGE_WIDTH - _BLOCK_GAP * (stage.blocks - 1)) / (stage.blocks * stage.width / widest)
        for stage in stages
        if stage.blocks and stage.width
    ) if any(stage.blocks and stage.width for stage in stages) else _BLOCK_WIDTH  # fmt: skip
    unit = min(_BLOCK_WIDTH, max(room, 1.0))
    params = max(1, sum(stage.params for stage in stages))
    macs = max(1, sum(stage.macs for stage in stages))
    return [
        {
            "stage": stage,
            "height": f"{max(3.0, _BLOCK_HEIGHT * stage.resolution / tallest):.1f}",
            "width": f"{max(2.0, unit * stage.width / widest):.1f}",
            "params": number(stage.params),
            "macs": cost_value("macs", stage.macs),
            "params_share": f"{100 * stage.params / params:.0f}",
            "macs_share": f"{100 * stage.macs / macs:.0f}",
        }
        for stage in stages
    ]
