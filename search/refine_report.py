"""``report.html`` of a refined search: both searches, what lay between, and the student."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ..searchspace.errors import InvalidInputError
from ..searchspace.files import write_atomic
from .distil_report import DISTIL, distil_view, picture
from .figures import figure_svg, front_figure, tooltips
from .report import environment
from .report_data import ReportData
from .report_numbers import front_costs
from .report_table import stage_view
from .result import SearchResult
from .summary import report_data
from .units import cost_label, cost_text, cost_value, decimal, number

__all__ = ["REFINE", "REPORT", "read_refine", "refined_html", "write_refine"]

REFINE = "refine.json"
REPORT = "report.html"

_CURVES = "curves.svg"


def write_refine(folder: Path, told: Mapping[str, Any]) -> None:
    """Write ``refine.json``.

    Raises:
        StoreError: if the disk is full.
    """
    write_atomic(folder / REFINE, json.dumps(dict(told), indent=2, ensure_ascii=False) + "\n")


def read_refine(folder: Path) -> dict[str, Any]:
    """``refine.json`` of a finished refined search.

    Raises:
        InvalidInputError: if it is missing, damaged or of an unfinished one.
    """
    path = folder / REFINE
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        finished = told["finished"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(f"no refined search in {folder}: {error}") from error
    if not finished:
        raise InvalidInputError(
            f"the refined search in {folder} is not finished; run the same command to go on"
        )
    return dict(told)


def refined_html(
    first: SearchResult, second: SearchResult, told: Mapping[str, Any], training: Path
) -> str:
    """The report as one self-contained page.

    Args:
        first: the search without training.
        second: the search on the trained supernet.
        told: see :func:`read_refine`.
        training: the folder of the supernet's run; its picture is shown where it has one.
    """
    before, after = report_data(first), report_data(second)
    pick, tuned = second.pick, told["finetune"]
    budget = second.settings.budget
    html = (
        environment()
        .get_template("refine.html.j2")
        .render(
            title=after.title,
            pick=pick,
            costs=[cost_text(name, value) for name, value in pick.costs.items()] if pick else [],
            budget=[cost_text(name, bound) for name, bound in budget.items()],
            tuned={
                **tuned,
                "before": _percent(tuned["before"]),
                "after": _percent(tuned["after"]),
                "val": _percent(tuned["after"] if tuned["kept"] == "after" else tuned["before"]),
                "test": _percent(tuned["test"]),
            },
            onnx=told.get("onnx"),
            first=_search(first, before, "first"),
            second=_search(second, after, "second"),
            accuracies=after.accuracies,
            predictor=after.predictor,
            genes=[_gene(gene) for gene in told["genes"]],
            sizes=[f"{size:,}" if size < 10**9 else f"{size:.3g}" for size in told["sizes"]],
            training=_training(told["training"]),
            curves=picture(training / _CURVES),
            distil=distil_view(training.parent / DISTIL, pick.arch.text if pick else ""),
            stages=stage_view(after.stages),
            run={
                **after.run,
                "seconds": str(told.get("seconds", "")),
                "epochs": f"{told['settings']['refine_epochs']:g} of the supernet, "
                f"{tuned['epochs']} of the pick",
            },
            command=str(told.get("command", "")),
            notes=second.notes,
        )
    )
    return html.encode(errors="backslashreplace").decode()


def _search(result: SearchResult, data: ReportData, name: str) -> dict[str, Any]:
    """Pictures and numbers of one of the two searches."""
    pictures = []
    for i, cost in enumerate(front_costs(data)):
        label = f"Score against {cost_label(cost)}"
        svg = figure_svg(front_figure(data, cost), f"{name}{i}", label, tooltips(data, cost))
        pictures.append({"cost": cost, "svg": Markup(svg)})  # noqa: S704 (escaped by its writer)
    return {
        "pictures": pictures,
        "score": data.score_name,
        "evaluated": f"{len(result.candidates):,}",
        "front": f"{len(result.front):,}",
        "pick": result.pick.arch.text if result.pick else "",
    }


def _gene(gene: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table of genes: every value with its share, kept or not."""
    values = zip(gene["values"], gene["shares"], strict=True)
    return {
        "name": gene["gene"],
        "narrowed": len(gene["kept"]) < len(gene["values"]),
        "values": [
            {"value": value, "kept": value in gene["kept"], "share": f"{100 * share:.0f}"}
            for value, share in values
        ],
    }


def _training(told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "steps": f"{told['steps']:,}",
        "macs": number(told["macs_passed"]),
        "seconds": f"{told['seconds']:.0f}",
        "landmarks": [
            {
                "name": name,
                "arch": one["arch"],
                "long": len(one["arch"]) > 28,
                "macs": cost_value("macs", one["macs"]),
                "accuracy": _percent(one["accuracy"]),
            }
            for name, one in told["landmarks"].items()
        ],
    }


def _percent(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return decimal(math.nan)
    return f"{100 * value:.2f}\N{NO-BREAK SPACE}%"
