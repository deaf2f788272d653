"""What a distillation looks like in a terminal: bars while it runs, then a comparison."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from .console import TrainConsole
from .search.budget import human
from .search.distil_run import DistilProgress
from .supernet.score import ACCURACY, score_text

__all__ = ["DistilConsole", "print_distilled"]


class DistilConsole(TrainConsole):
    """Live progress of a distillation: a bar a stage, with loss and best accuracy.

    Args:
        visible: ``False`` prints nothing.
    """

    def show(self, step: DistilProgress) -> None:
        """Show how far the run is."""
        best = "" if math.isnan(step.best) else f"  best {score_text(step.best, step.score)}"
        now = f"{step.what}  loss {step.loss:.3f}{best}"
        self._show(step.stage, step.done, step.total, now=now)


def print_distilled(told: Mapping[str, Any], folder: Path) -> None:
    """How well the student does beside its teacher, why by this distiller, what comes next.

    Args:
        told: the content of ``distil.json``.
        folder: of the distillation.
    """
    console = Console(markup=False, emoji=False, highlight=False)
    if choice := told.get("choice"):
        _print_choice(console, choice)
    names = ", ".join(told["teachers"]) or "no teacher"
    how = "labels alone" if told["distiller"] == "none" else f"{told['distiller']} from {names}"
    console.print(
        f"{how}: {told['steps_done']:,} steps, {human(told['macs_passed'])} MACs passed,"
        f" {told['seconds']:.0f} s of training",
        soft_wrap=True,
    )
    view = Table(box=None, pad_edge=False, header_style="bold")
    view.add_column("", no_wrap=True)
    view.add_column("network", min_width=16)
    score = told.get("score", ACCURACY)
    for name in ("params", "MACs", f"val {score}", f"test {score}"):
        view.add_column(name, justify="right", no_wrap=True)
    rows = [("student", told["student"]["arch"], told["student"])]
    if told.get("baseline"):
        rows.append(("hand-made", told["baseline"]["arch"], told["baseline"]))
    rows += [("teacher", name, one) for name, one in (told.get("measured") or {}).items()]
    for what, name, one in rows:
        costs = ("" if one[cost] is None else human(one[cost]) for cost in ("params", "macs"))
        found = (one[part] for part in ("val", "test"))
        parts = ("" if value is None else score_text(value, score, 2) for value in found)
        view.add_row(what, name, *costs, *parts, style="bold" if what == "student" else None)
    console.print(view)
    parts = told["parts"]
    console.print(f"measured on {parts['val']:,} validation and {parts['test']:,} test inputs")
    for note in told.get("notes") or ():
        console.print(f"note: {note}", soft_wrap=True)
    # Not wrapped, so that they can be copied.
    console.print(f"student: {folder}/student", soft_wrap=True)
    console.print(f"report: {folder}/report.html", soft_wrap=True)
    words = ["scholarch", "export", str(folder), "--format", "onnx", "--out"]
    console.print(f"next: {shlex.join([*words, str(folder / 'student.onnx')])}", soft_wrap=True)


def _print_choice(console: Console, choice: Mapping[str, Any]) -> None:
    """The rungs as a table, a distiller a line, and why one was picked."""
    tries = choice["tries"]
    rungs = sorted({one["rung"] for one in tries})
    view = Table(box=None, pad_edge=False, header_style="bold")
    view.add_column("distiller", no_wrap=True)
    for rung in rungs:
        steps = max(one["steps"] for one in tries if one["rung"] == rung)
        view.add_column(f"{steps:,} steps", justify="right", no_wrap=True)
    for name in dict.fromkeys(one["distiller"] for one in tries):
        found = {one["rung"]: one for one in tries if one["distiller"] == name}
        cells = (_reached(found[rung]) if rung in found else "" for rung in rungs)
        view.add_row(name, *cells, style="bold" if name == choice["distiller"] else None)
    console.print(view)
    for one in tries:
        if one["failure"]:
            console.print(f"left out: {one['distiller']}: {one['failure']}", soft_wrap=True)
    console.print(f"picked: {choice['why']}", soft_wrap=True)


def _reached(tried: Mapping[str, Any]) -> str:
    return "failed" if tried["accuracy"] is None else f"{tried['accuracy']:.2%}"
