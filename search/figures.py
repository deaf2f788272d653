"""The report's figures, by matplotlib's object-oriented API (never pyplot's global state)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from .figure_style import (
    ACCENT,
    CARD,
    DOTS,
    FAINT,
    MUTED,
    figure_svg,
    printable,
    save_png,
    settle,
    style,
)
from .report_numbers import Floats, Growth, growth, is_scored, staircase, usual_low
from .units import cost_label, cost_value, decimal, number

if TYPE_CHECKING:
    from .report_data import ReportCandidate, ReportData

__all__ = ["figure_svg", "front_figure", "growth_figure", "save_png", "tooltips"]

_SIZE = (5.0, 3.6)
#: Beyond this many dots a bitmap is smaller than their outlines.
_MOST_VECTOR_DOTS = 600
#: Beyond this many members the front's markers carry no tooltips.
_MOST_TOOLTIPS = 200
_LONGEST_LABEL = 26


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.grid(axis="y")
    return figure, axes


def front_figure(data: ReportData, cost: str) -> Figure:
    """Score against one cost: dominated points faint, the front a staircase, the budget a line.

    Members of the front that another one beats on this cost (they hold their place by another
    cost) are marked but not joined by the line.

    Args:
        data: the run.
        cost: e.g. ``"macs"``.
    """
    points = [
        (i, candidate)
        for i, candidate in enumerate(data.candidates)
        if is_scored(candidate) and math.isfinite(candidate.costs.get(cost, math.nan))
    ]
    with style():
        figure, axes = _axes()
        unit = " (ms)" if cost.startswith("latency") else ""
        axes.set_xlabel(printable(cost_label(cost)) + unit)
        axes.set_ylabel(f"{printable(data.score_name)} score, higher is better")
        if not points:
            _say(axes, "no candidate was scored")
            return settle(figure)
        x = np.array([candidate.costs[cost] for _, candidate in points])
        y = np.array([candidate.score for _, candidate in points])
        front = np.array([candidate.on_front for _, candidate in points])
        picked = np.array([i == data.pick for i, _ in points])
        _limits(axes, x, y, y[front | picked], data.budget.get(cost))
        if cost in data.budget:
            _draw_budget(axes, data.budget[cost], cost)
        plain = ~front & ~picked
        axes.plot(
            x[plain],
            y[plain],
            "o",
            markersize=3.2,
            markeredgewidth=0,
            color=DOTS,
            alpha=0.45 * min(1.0, math.sqrt(_MOST_VECTOR_DOTS / max(1, plain.sum()))),
            rasterized=int(plain.sum()) > _MOST_VECTOR_DOTS,
        )
        _draw_front(axes, x, y, front & ~picked, front, [i for i, _ in points])
        for place in np.flatnonzero(picked):
            _draw_pick(axes, points[place][1], float(x[place]), float(y[place]))
        return settle(figure)


def _say(axes: Axes, words: str) -> None:
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", color=MUTED)
    axes.set_xticks([])
    axes.set_yticks([])


def _limits(axes: Axes, x: Floats, y: Floats, important: Floats, bound: float | None) -> None:
    """Scales and limits that show all costs, the bound, and all scores but far outliers."""
    shown = x if bound is None else np.append(x, bound)
    left, right = float(shown.min()), float(shown.max())
    if left > 0 and right / left > 20:
        axes.set_xscale("log")
        margin = (right / left) ** 0.05
        subs = (1.0, 2.0, 5.0) if right / left < 300 else (1.0,)
        axes.set_xlim(left / margin, right * margin)
        axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=9))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        margin = 0.06 * (right - left) or 0.1 * abs(right) or 1.0
        axes.set_xlim(left - margin, right + margin)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))

    low, high = float(y.min()), float(y.max())
    usual = usual_low(y, important)
    if usual - low > 0.6 * (high - usual):  # a few wrecks would flatten all the rest
        low = usual
        hidden = int((y < low - 0.05 * (high - low)).sum())
        if hidden:
            words = f"{hidden} lower score{'s' if hidden > 1 else ''} not shown"
            axes.annotate(
                words,
                (0, 0),
                (5, 4),
                xycoords="axes fraction",
                textcoords="offset points",
                color=MUTED,
                fontsize=8,
            )
    span = high - low or abs(high) or 1.0
    axes.set_ylim(low - 0.05 * span, high + 0.14 * span)  # headroom for the pick's label
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: decimal(value)))


def _draw_budget(axes: Axes, bound: float, cost: str) -> None:
    limits = axes.get_xlim()
    if bound < limits[1]:
        axes.axvspan(max(bound, limits[0]), limits[1], facecolor=FAINT, edgecolor="none", zorder=0)
    axes.axvline(bound, color=MUTED, linewidth=1.1, linestyle=(0, (4, 3)), zorder=1.5)
    axes.set_xlim(limits)
    axes.annotate(
        f"budget {cost_value(cost, bound)}",
        (bound, 0),
        (3, 5),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        rotation=90,
        ha="left",
        va="bottom",
        color=MUTED,
        fontsize=8.5,
    )


def _draw_front(
    axes: Axes,
    x: Floats,
    y: Floats,
    shown: np.ndarray[tuple[int], np.dtype[np.bool_]],
    front: np.ndarray[tuple[int], np.dtype[np.bool_]],
    indices: list[int],
) -> None:
    if not front.any():
        return
    steps = np.flatnonzero(front)[staircase(x[front], y[front])]
    axes.plot(x[steps], y[steps], drawstyle="steps-post", color=ACCENT, linewidth=1.5)
    look: dict[str, Any] = {
        "marker": "o",
        "markersize": 5.0,
        "markerfacecolor": CARD,
        "markeredgecolor": ACCENT,
        "markeredgewidth": 1.3,
        "linestyle": "none",
    }
    places = np.flatnonzero(shown)
    if len(places) > 30:
        look["markersize"] = 4.0
    if len(places) > _MOST_TOOLTIPS:
        look |= {"markersize": 3.5, "rasterized": len(places) > _MOST_VECTOR_DOTS}
        axes.plot(x[places], y[places], **look)
        return
    for place in places:  # one artist each: its id finds the tooltip
        axes.plot(x[place], y[place], gid=f"tip-{indices[place]}", **look)


def _draw_pick(axes: Axes, candidate: ReportCandidate, x: float, y: float) -> None:
    text = printable(candidate.text)
    label = f"pick: {text}" if len(text) <= _LONGEST_LABEL else "pick"
    axes.plot(x, y, "o", markersize=14, color=ACCENT, alpha=0.2, markeredgewidth=0)
    axes.plot(x, y, "o", markersize=8, color=ACCENT, markeredgecolor=CARD, gid="tip-pick")
    across = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))[0]
    ha = "left" if across < 0.45 else "right"
    axes.annotate(
        label,
        (x, y),
        (9 if ha == "left" else -9, 10),
        textcoords="offset points",
        ha=ha,
        fontweight="bold",
        bbox={"facecolor": CARD, "edgecolor": "none", "alpha": 0.85, "pad": 1.5},
        zorder=6,
    )


def tooltips(data: ReportData, cost: str) -> dict[str, str]:
    """Id of each marker of :func:`front_figure` -> what hovering over it says."""
    tips = {}
    for i, candidate in enumerate(data.candidates):
        if (candidate.on_front or i == data.pick) and is_scored(candidate):
            value = cost_value(cost, candidate.costs.get(cost, math.nan))
            tips["tip-pick" if i == data.pick else f"tip-{i}"] = (
                f"{printable(candidate.text)}\n{data.score_name} {decimal(candidate.score)},"
                f" {cost_label(cost)} {value}"
            )
    return tips


def growth_figure(data: ReportData, curve: Growth | None = None) -> Figure:
    """Hypervolume of the front, as a share of the final one, against evaluations.

    Args:
        data: the run.
        curve: :func:`~.report_numbers.growth` of it, where it is known already.
    """
    curve = growth(data) if curve is None else curve
    with style():
        figure, axes = _axes()
        axes.set_xlabel("evaluations")
        axes.set_ylabel("hypervolume, share of the final one")
        if curve is None:
            _say(axes, "the front spans no area")
            return settle(figure)
        axes.axhline(1, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.plot(
            curve.evaluations, curve.share, drawstyle="steps-post", color=ACCENT, linewidth=1.8
        )
        axes.set_ylim(0, 1.1)
        axes.set_xlim(0, max(curve.evaluations[-1], 2) * 1.02)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
        height = curve.share[curve.evaluations.index(curve.settled)]
        axes.plot(
            [curve.settled, curve.settled], [0, height], color=MUTED, linewidth=0.8, linestyle=":"
        )
        axes.plot(curve.settled, height, "o", markersize=5, color=ACCENT)
        late = curve.settled > 0.55 * curve.evaluations[-1]
        axes.annotate(
            f"95 % after {curve.settled:,}",
            (curve.settled, 0),
            (-5 if late else 5, 7),
            textcoords="offset points",
            ha="right" if late else "left",
            fontsize=8.5,
        )
        return settle(figure)
