"""How a supernet's training goes: accuracies and loss over what was spent."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ..searchspace.files import write_atomic
from ..supernet.score import ACCURACY
from ..supernet.session import TrainingRun
from ..supernet.trainer import Trainer
from .figure_style import ACCENT, CARD, DOTS, INK, MUTED, printable, settle, style
from .units import number

__all__ = ["Curves", "curves_figure", "save_curves"]

_SIZE = (7.2, 4.8)
#: Least distance of two labels at the right end, as a share of the axis.
_APART = 0.062
#: Share of the width below which a phase's name goes to a line of its own.
_NARROW = 0.13


class Curves:
    """Where a trainer's phases begin, in multiply-accumulates passed.

    Args:
        trainer: whose plan.
        title: of the picture; default says space, data and schedule.
    """

    def __init__(self, trainer: Trainer, title: str | None = None) -> None:
        plan, costs = trainer.plan, trainer.costs
        self.score = trainer.task.score
        phases = trainer.schedule.phases
        named = f"{trainer.space.name} on {trainer.data.name}, schedule {plan.schedule.name}"
        self.title = named if title is None else title
        self.names = [phase.name for phase in phases]
        self._starts = np.array(plan.starts, dtype=np.float64)
        steps = np.diff(self._starts)
        each = np.array([costs.expected(phase) for phase in phases])
        self._expected = np.concatenate([[0.0], np.cumsum(steps * each)])

    def starts(self, history: Sequence[Mapping[str, Any]]) -> list[float]:
        """First of each phase, and the end, in multiply-accumulates.

        What random networks cost is expected ahead of the last evaluation, and known behind.
        """
        steps = np.array([0.0, *(float(line["step"]) for line in history)])
        passed = np.array([0.0, *(float(line["macs"]) for line in history)])
        expected = np.interp(steps, self._starts, self._expected)
        known = np.interp(self._expected, expected, passed)
        ahead = passed[-1] + self._expected - expected[-1]
        found = np.where(self._expected <= expected[-1], known, ahead)
        return [float(start) for start in found]


def save_curves(run: TrainingRun, curves: Curves, path: Path) -> None:
    """Write the picture of a run as SVG, text as outlines: it looks the same everywhere.

    Raises:
        StoreError: if the disk is full.
    """
    figure = curves_figure(run.history, list(run.landmarks), curves)
    with style(), matplotlib.rc_context({"svg.fonttype": "path"}), io.StringIO() as stream:
        FigureCanvasSVG(figure).print_figure(
            stream, format="svg", metadata={"Date": None, "Creator": None}
        )
        write_atomic(path, stream.getvalue())


def curves_figure(
    history: Sequence[Mapping[str, Any]], names: Sequence[str], curves: Curves
) -> Figure:
    """Above, validation accuracy of the landmarks; below, the loss; phases as columns.

    Of one network, distilled or trained by itself, one curve.

    Args:
        history: a line an evaluation.
        names: of the landmarks, the smallest first.
        curves: where phases begin.
    """
    starts = curves.starts(history)
    x = np.array([float(line["macs"]) for line in history])
    has_accuracy = any("mean" in line for line in history)
    with style():
        figure = Figure(figsize=_SIZE, layout="constrained")
        if has_accuracy:
            top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1.0))
            _accuracies(top, x, history, names, curves.score)
            top.tick_params(bottom=False)
        else:
            bottom = top = figure.add_subplot()
        _losses(bottom, x, [float(line["loss"]) for line in history])
        for axes in {id(top): top, id(bottom): bottom}.values():
            axes.grid(axis="y")
            for start in starts[1:-1]:
                axes.axvline(start, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
        bottom.set_xlim(0.0, max(starts[-1], float(x[-1])))
        bottom.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]))
        bottom.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        bottom.set_xlabel("multiply-accumulates of training: forward once, backward twice")
        rows = _phases(top, curves.names if len(names) > 1 else [], starts)
        figure.suptitle(printable(curves.title), x=0.01, ha="left", fontsize=11, fontweight="bold")
        top.set_title(" " + "\n " * (rows - 1), fontsize=8.5)  # room for the phases' names
        return settle(figure)


def _phases(axes: Axes, names: Sequence[str], starts: Sequence[float]) -> int:
    """Names above the panel, those of narrow phases on lines of their own; how many lines."""
    whole = starts[-1] or 1.0
    row = rows = 0
    for i, name in enumerate(names):
        narrow = (starts[i + 1] - starts[i]) / whole < _NARROW
        row = row + 1 if narrow else 0
        rows = max(rows, row)
        axes.annotate(
            printable(name),
            (starts[i], 1.0),
            (3 if i else 0, 4 + 11 * row),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            color=MUTED,
            fontsize=8.5,
            annotation_clip=False,
        )
    return rows + 1


def _accuracies(
    axes: Axes,
    x: np.ndarray,
    history: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    score: str,
) -> None:
    """Of a correlation, the agreement with a teacher, a hundredth is a point as of a share."""
    columns = {n: np.array([100.0 * float(line[n]) for line in history]) for n in names}
    means = np.array([float(line["mean"]) for line in history])
    values = np.stack(list(columns.values()))
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = 0.08 * (high - low) or 1.0
    floor = 0.0 if score == ACCURACY else -100.0
    axes.set_ylim(max(floor, low - margin), min(100.0, high) + margin)
    for name, column in columns.items():
        colour, width = _look(name)
        axes.plot(x, column, "-", color=colour, linewidth=width, solid_joinstyle="round")
        axes.plot(
            x,
            column,
            "o",
            color=colour,
            markersize=2.6 + width / 2,
            markeredgewidth=0,
            clip_on=False,
        )
    if np.isfinite(means).any():
        best = int(np.nanargmax(means))
        for name, column in columns.items():
            axes.plot(
                x[best], column[best], "o", markersize=6.5, markerfacecolor=CARD,
                markeredgecolor=_look(name)[0], markeredgewidth=1.3, clip_on=False,
            )  # fmt: skip
        axes.annotate(
            "○ best mean, kept" if len(names) > 1 else "○ best, kept",
            (1, 0),
            (-5, 5),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="right",
            color=MUTED,
            fontsize=8.5,
        )
    axes.set_ylabel(f"validation {score} ({'%' if score == ACCURACY else '× 100'})")
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    _ends(axes, float(x[-1]), {name: float(column[-1]) for name, column in columns.items()})


def _ends(axes: Axes, x: float, values: Mapping[str, float]) -> None:
    """Each line's name and last value at its end, moved apart where they would touch."""
    low, high = axes.get_ylim()
    order = sorted((n for n in values if math.isfinite(values[n])), key=lambda n: values[n])
    places: list[float] = []
    for name in order:
        place = (values[name] - low) / (high - low)
        places.append(max(place, places[-1] + _APART) if places else place)
    for i in range(len(places) - 1, -1, -1):  # pushed down again from the upper edge
        limit = 1.0 if i == len(places) - 1 else places[i + 1] - _APART
        places[i] = min(places[i], limit)
    for name, place in zip(order, places, strict=True):
        label = "between" if name.startswith("between") else name
        axes.annotate(
            f"{values[name]:.1f}  {label}" if len(values) > 1 else f"{values[name]:.1f}",
            (x, low + place * (high - low)),
            (7, 0),
            textcoords="offset points",
            va="center",
            color=_look(name)[0] if label != "between" else MUTED,
            fontsize=8.5,
            annotation_clip=False,
            bbox={"facecolor": CARD, "edgecolor": "none", "pad": 1.0},
        )


def _losses(axes: Axes, x: np.ndarray, losses: Sequence[float]) -> None:
    axes.plot(x, losses, "-", color=INK, linewidth=1.2)
    axes.plot(x, losses, "o", color=INK, markersize=3, markeredgewidth=0, clip_on=False)
    axes.set_ylabel("training loss")
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _look(name: str) -> tuple[str, float]:
    looks = {"largest": (ACCENT, 1.8), "student": (ACCENT, 1.8), "smallest": (INK, 1.8)}
    return looks.get(name, (DOTS, 1.0))
