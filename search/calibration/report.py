"""``report.html`` of a calibrated search, and the page on which teachers are compared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..distil_report import DISTIL, distil_view, notes_beside
from ..report import environment
from ..report_table import stage_view
from ..result import SearchResult
from ..summary import report_data
from ..two_searches import search_view
from ..units import cost_text, cost_value, decimal, number, percent
from .cost import duration

__all__ = ["REPORT", "calibrated_html", "teachers_html"]

REPORT = "report.html"

_LONG = 28


def calibrated_html(first: SearchResult, second: SearchResult, told: Mapping[str, Any]) -> str:
    """The report as one self-contained page.

    Args:
        first: the search without training.
        second: the search that went on with the calibrated rank; where its folder lies beside that
            of a distillation, this is shown too.
        told: ``calibration.json``.
    """
    before, after = report_data(first), report_data(second)
    pick = second.pick
    cost = told["cost"]
    distil: dict[str, Any] = {}
    if second.out is not None:
        distil = distil_view(Path(second.out).parent / DISTIL, pick.arch.text if pick else "")
    return _rendered(
        "calibration/calibrated.html.j2",
        title=after.title,
        pick=pick,
        costs=[cost_text(name, value) for name, value in pick.costs.items()] if pick else [],
        budget=[cost_text(name, bound) for name, bound in second.settings.budget.items()],
        told=told,
        cost={
            **cost,
            "macs": cost_text("macs", cost["macs"]),
            "expected": duration(_number(cost["seconds"])),
            "spent": duration(sum(row["seconds"] for row in told["labels"])),
        },
        rows=[_row(row) for row in told["labels"]],
        first=search_view(first, before, "first"),
        second=search_view(second, after, "second"),
        teachers=_teachers(told.get("teachers")),
        distil=distil,
        stages=stage_view(after.stages),
        run={**after.run, "seconds": str(told.get("seconds", ""))},
        command=str(told.get("command", "")),
        notes=notes_beside(second.notes, distil),
        small=_small(told["tau_prior"]),
        small_after=_small(told["tau_left_out"]),
        small_ranks=_small(told["tau_ranks"]),
        pick_score=decimal(_number(told["pick"]["posterior"]), 2),
        pick_sd=decimal(_number(told["pick"]["sd"]), 2),
    )


def teachers_html(result: SearchResult, told: Mapping[str, Any]) -> str:
    """How a teacher was chosen among several, as one self-contained page.

    Args:
        result: of the search.
        told: ``result.info["teachers"]``.
    """
    return _rendered(
        "calibration/teachers.html.j2",
        title=report_data(result).title,
        teachers=_teachers(told),
        command=str(result.info.get("command", "")),
    )


def _rendered(template: str, **data: Any) -> str:
    html = environment().get_template(template).render(**data)
    return html.encode(errors="backslashreplace").decode()


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A distilled student."""
    return {
        "text": row["arch"],
        "long": len(row["arch"]) > _LONG,
        "macs": cost_value("macs", row["macs"]),
        "params": cost_value("params", row["params"]),
        "prior_place": row["prior_place"],
        "posterior_place": row["posterior_place"],
        "prior": decimal(_number(row["prior"]), 2),
        "posterior": decimal(_number(row["posterior"]), 2),
        "sd": decimal(_number(row["sd"]), 2),
        "accuracy": percent(row["accuracy"]),
        "failure": row["failure"],
    }


def _teachers(told: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The tables of the comparison as texts; ``None`` of a single teacher."""
    if not told:
        return None
    labels = told.get("labels", {})
    controls = [name for row in told["similarities"][:1] for name in row["mean"]]
    return {
        "chosen": told["chosen"],
        "why": told["why"],
        "labelled": bool(labels),
        "students": told["students"],
        "controls": controls,
        "differences": [one["text"] for one in told.get("differences", ())],
        "rows": [
            {
                "name": row["name"],
                "chosen": row["name"] == told["chosen"],
                "params": number(row["params"]),
                "params_ratio": _times(row["params_ratio"]),
                "macs_ratio": _times(row["macs_ratio"]),
                "accuracy": percent(row["accuracy"]),
                "entropy": decimal(_number(row["entropy"]), 3),
                "confidence": percent(row["confidence"]),
                "labels": percent(labels.get(row["name"])),
            }
            for row in told["rows"]
        ],
        "similarities": [
            {
                "score": row["score"],
                "teacher": row["teacher"],
                "means": [decimal(_number(row["mean"].get(name)), 3) for name in controls],
                "taus": [
                    "" if name not in row["tau"] else _small(row["tau"][name]) for name in controls
                ],
                "holds": ", ".join(row["holds"]) or "none",
            }
            for row in told["similarities"]
        ],
    }


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _small(value: float | None) -> str:
    return decimal(_number(value), 2)


def _times(value: float | None) -> str:
    return decimal(math.nan) if value is None else f"{value:.3g}×"
