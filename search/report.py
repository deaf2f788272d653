"""``report.html`` of one search run: one self-contained file, from plain data.

Nothing here knows the searcher, the store or torch; a run folder or a test can fill in
:class:`ReportData`. Equal data gives equal bytes.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ..searchspace.files import write_atomic
from .figures import figure_svg, front_figure, growth_figure, tooltips
from .report_data import ReportCandidate, ReportData
from .report_numbers import Growth, front_costs, growth, is_scored
from .report_table import MOST_ROWS, candidate_table, rank_table, stage_view
from .sizes import FEWEST_FOR_TAU, STRONG_DISAGREEMENT, Agreement, agreement, percentiles
from .units import cost_head, cost_label, cost_text, cost_value, decimal, number

__all__ = ["ReportCandidate", "ReportData", "environment", "render_report", "write_report"]


def render_report(data: ReportData) -> str:
    """The report as HTML.

    Raises:
        IndexError: if ``data.pick`` points at no candidate.
    """
    scored = [candidate for candidate in data.candidates if is_scored(candidate)]
    pick = None if data.pick is None else data.candidates[data.pick]
    curve = growth(data)
    ranks = agreement(scored)
    shares = percentiles(data.candidates)
    html = (
        environment()
        .get_template("report.html.j2")
        .render(
            data=data,
            pick=pick,
            bounds=_bounds(data, pick),
            counts=_counts(data, len(scored)),
            fronts=_fronts(data) if scored else [],
            growth=_growth(data, curve),
            stages=stage_view(data.stages),
            standing=_standing(data, shares),
            # Of measured accuracies none need be told how well sizes would have done.
            ranks=None if data.by_accuracy else rank_table(data, scored, ranks),
            taus=_taus(ranks),
            few=FEWEST_FOR_TAU,
            strong=decimal(STRONG_DISAGREEMENT),
            table=candidate_table(data, shares),
            most_rows=MOST_ROWS,
        )
    )
    # A file name in the command may hold bytes that are no UTF-8: shown escaped.
    return html.encode(errors="backslashreplace").decode()


def write_report(data: ReportData, path: Path) -> None:
    """Write the report so that ``path`` holds the whole of it or is left as it was.

    Args:
        data: what to show.
        path: of the HTML file; its folder exists.

    Raises:
        StoreError: if it cannot be written.
    """
    write_atomic(path, render_report(data))


@cache
def environment() -> jinja2.Environment:
    """Where reports' templates lie, with their filters."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    found.filters |= {
        "cost_label": cost_label,
        "cost_text": cost_text,
        "cost_value": cost_value,
        "decimal": decimal,
    }
    return found


def _drawn(svg: str) -> Markup:
    """SVG as it is: ElementTree wrote it and escaped every text in it."""
    return Markup(svg)  # noqa: S704


def _bounds(data: ReportData, pick: ReportCandidate | None) -> list[dict[str, Any]]:
    """The pick's budgeted costs beside their bounds."""
    if pick is None:
        return []
    rows = []
    for cost, bound in data.budget.items():
        value = pick.costs.get(cost, math.nan)
        share = value / bound if bound > 0 else math.nan
        percent = f"{100 * share:.0f} %" if share < 10 else f"{number(share)} times"
        rows.append(
            {
                "text": cost_text(cost, value),
                "bound": cost_value(cost, bound),
                "percent": "" if math.isnan(share) else percent,
                "width": f"{min(100.0, 100 * share):.1f}" if share >= 0 else "0",
                "over": share > 1,
            }
        )
    return rows


def _standing(data: ReportData, shares: dict[str, list[float]]) -> str:
    """The pick among all candidates by size: ``83 % by params, 97 % by MACs, 60 % by depth``."""
    if data.pick is None:
        return ""
    return ", ".join(
        f"{share[data.pick]:.0f}\N{NO-BREAK SPACE}% by {cost_head(axis)}"
        for axis, share in shares.items()
        if math.isfinite(share[data.pick])
    )


def _counts(data: ReportData, scored: int) -> dict[str, int]:
    return {
        "evaluated": len(data.candidates),
        "scored": scored,
        "failed": len(data.candidates) - scored,
        "front": sum(candidate.on_front for candidate in data.candidates),
    }


def _fronts(data: ReportData) -> list[dict[str, Any]]:
    """One picture of the front for each cost of the budget."""
    pictures = []
    for i, cost in enumerate(front_costs(data)):
        label = (
            f"Score against {cost_label(cost)} of every scored candidate, the front as a line"
            + (", the budget as a dashed line" if cost in data.budget else "")
        )
        svg = figure_svg(front_figure(data, cost), f"front{i}", label, tooltips(data, cost))
        pictures.append({"cost": cost, "svg": _drawn(svg), "bounded": cost in data.budget})
    return pictures


def _growth(data: ReportData, curve: Growth | None) -> dict[str, Any] | None:
    if curve is None:
        return None
    reference = [f"score {decimal(curve.reference['score'])}"]
    reference += [cost_text(c, value) for c, value in curve.reference.items() if c != "score"]
    label = "Hypervolume of the front against evaluations"
    return {
        "svg": _drawn(figure_svg(growth_figure(data, curve), "growth", label)),
        "reference": ", ".join(reference),
        "final": f"{100 * curve.final:.0f} %",
        "settled": curve.settled,
        "evaluations": curve.evaluations[-1],
        "unsettled": curve.settled > 0.8 * curve.evaluations[-1],
    }


def _taus(ranks: Agreement | None) -> list[tuple[str, list[tuple[str, bool]]]]:
    """Rows of the table of Kendall's τ: label, then text and "disagrees strongly" a column."""
    if ranks is None:
        return []
    return [
        (
            name if name == "score" else cost_head(name),
            [
                ("1" if i == j else decimal(tau, 2), i != j and tau < STRONG_DISAGREEMENT)
                for j, tau in enumerate(ranks.tau[i])
            ],
        )
        for i, name in enumerate(ranks.names)
    ]
