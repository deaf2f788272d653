"""``report.html`` of a refined search: both searches, what lay between, and the student."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..searchspace.files import write_atomic
from .distil_report import DISTIL, distil_view, picture
from .report import environment
from .report_table import stage_view
from .result import SearchResult
from .summary import report_data
from .two_searches import read_told, search_view
from .units import cost_text, cost_value, number, percent

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
    return read_told(folder, REFINE, "refined search")


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
                "before": percent(tuned["before"]),
                "after": percent(tuned["after"]),
                "val": percent(tuned["after"] if tuned["kept"] == "after" else tuned["before"]),
                "test": percent(tuned["test"]),
            },
            onnx=told.get("onnx"),
            first=search_view(first, before, "first"),
            second=search_view(second, after, "second"),
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
                "accuracy": percent(one["accuracy"]),
            }
            for name, one in told["landmarks"].items()
        ],
    }
