"""Predicted against measured latency: a picture and a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..searchspace.files import make_folder, write_atomic
from ..searchspace.latency.check import Check
from ..searchspace.latency.table import BlockTable
from .figure_style import ACCENT, INK, LINE, MUTED, printable, save_png, settle, style

__all__ = ["check_figure", "save_check"]


def check_figure(check: Check, table: BlockTable) -> Figure:
    """Left, measured against predicted with a band of ±10 %; right, how errors are spread."""
    numbers = check.to_json()
    with style():
        figure = Figure(figsize=(8.4, 3.9), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1.0))
        both = np.concatenate([check.predicted, check.measured])
        ends = np.array([both.min() * 0.95, both.max() * 1.05])
        left.fill_between(ends, ends * 0.9, ends * 1.1, color=LINE, lw=0, label="±10 %")
        left.plot(ends, ends, color=MUTED, lw=0.8)
        left.scatter(check.predicted, check.measured, s=14, color=ACCENT, alpha=0.8, lw=0)
        left.set(xlim=ends, ylim=ends, xlabel="predicted (ms)", ylabel="measured (ms)")
        left.legend(frameon=False, loc="upper left")
        percent = 100.0 * check.errors
        most = max(12.0, float(np.abs(percent).max()) * 1.05)
        right.axvspan(-5, 5, color=LINE, lw=0)
        right.hist(percent, bins=np.linspace(-most, most, 31).tolist(), color=ACCENT)
        right.axvline(0.0, color=INK, lw=0.8)
        right.set(xlabel="predicted against measured (%)", ylabel="networks")
        right.set_title(
            f"MAPE {numbers['mape']:.1%}, within 5 % {numbers['within5']:.0%},"
            f" 10 % {numbers['within10']:.0%}",
            fontsize=9.5,
            loc="left",
        )
        said = table.setting
        figure.suptitle(
            printable(
                f"{len(check.archs)} unseen networks of {table.space['name']} on {table.device},"
                f" {said['runtime']}, {_threads(said)}"
            ),
            x=0.01,
            ha="left",
            fontsize=11,
            fontweight="bold",
        )
        return settle(figure)


def _threads(setting: Mapping[str, Any]) -> str:
    threads = setting.get("threads", "?")
    return "1 thread" if threads == 1 else f"{threads} threads"


def save_check(check: Check, table: BlockTable, folder: Path) -> None:
    """Write ``check.png`` and ``check.csv`` (arch, predicted and measured ms, error)."""
    make_folder(folder)
    save_png(check_figure(check, table), folder / "check.png")
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(["arch", "predicted_ms", "measured_ms", "error"])
    for arch, predicted, measured, error in zip(
        check.archs, check.predicted, check.measured, check.errors, strict=True
    ):
        lines.writerow([arch.text, f"{predicted:.5g}", f"{measured:.5g}", f"{error:.4f}"])
    write_atomic(folder / "check.csv", file.getvalue())
