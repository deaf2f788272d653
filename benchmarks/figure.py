"""Kendall's τ of every score with its interval, and the first score against the truth."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..search.figure_style import ACCENT, DOTS, FAINT, INK, LINE, MUTED, printable, settle, style
from .controls import CONTROLS
from .metrics import ranks
from .result import BenchmarkResult
from .summary import ScoreRow

__all__ = ["tau_figure"]

_MARKS = dict(zip(CONTROLS, ("s", "^", "D", "v"), strict=True))
_CONTROL = "#e0882e"
_ROW, _HEAD = 0.31, 1.35
_LONGEST = 28


def tau_figure(result: BenchmarkResult) -> Figure:
    """Draw a benchmark.

    Left, a dot and its 95 % interval for each score, baselines in grey, what controls gave as
    lighter marks under it; right, the first score asked for against the truth.
    """
    rows = _in_order(result)
    checked = {row.name: row for row in result.controls}
    heights = [1.5 if row.name in checked else 1.0 for row in rows]
    tall = max(3.4, _ROW * sum(heights) + _HEAD + (0.3 if checked else 0.0))
    with style():
        figure = Figure(figsize=(9.6, tall), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.45, 1.0))
        _dots(left, rows, heights, result)
        _scatter(right, result)
        settings = result.settings
        figure.suptitle(
            printable(
                f"{settings['benchmark']}: {settings['candidates']:,} candidates by"
                f" {settings['truth']}"
            ),
            x=0.01,
            ha="left",
            fontsize=11,
            fontweight="bold",
        )
        if checked:
            _legend(figure)
        return settle(figure)


def _in_order(result: BenchmarkResult) -> list[ScoreRow]:
    """Best τ first, scores before baselines."""
    return sorted(
        result.rows, key=lambda row: (row.is_baseline, -np.nan_to_num(row.numbers["tau"], nan=-2))
    )


def _dots(axes: Axes, rows: list[ScoreRow], heights: list[float], result: BenchmarkResult) -> None:
    checked = {row.name: row for row in result.controls}
    places = np.cumsum([0.0, *heights[:-1]])
    first_baseline = next((i for i, row in enumerate(rows) if row.is_baseline), len(rows))
    places[first_baseline:] += 0.4
    axes.axvline(0.0, color=LINE, linewidth=0.8, zorder=0)
    seen = [0.0]
    for y, row in zip(places, rows, strict=True):
        tau, low, high = (row.numbers[key] for key in ("tau", "tau_low", "tau_high"))
        color = DOTS if row.is_baseline else ACCENT if row.kind == "ensemble" else INK
        if not math.isfinite(tau):
            axes.text(0.01, y, "ranks nothing", color=MUTED, va="center", fontsize=8)
            continue
        axes.plot([low, high], [y, y], color=color, linewidth=2.0, alpha=0.55, zorder=2)
        axes.plot(tau, y, "o", color=color, markersize=6, zorder=3)
        axes.annotate(
            f"{tau:.2f}".replace("0.", ".").replace("-", "\N{MINUS SIGN}"),
            (tau, y),
            (0, 5),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=7,
            color=color,
        )
        seen += [low, high]
        if row.name in checked:
            for control, mark in _MARKS.items():
                value = checked[row.name].tau[control]
                if math.isfinite(value):
                    axes.plot(value, y + 0.5, mark, color=_CONTROL, markersize=4, zorder=2)
                    seen.append(value)
    axes.set_yticks(places, [printable(_short(row.name)) for row in rows])
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_color(MUTED if row.is_baseline else INK)
    axes.set_ylim(places[-1] + 0.7, -0.9)
    margin = 0.05
    values = [value for value in seen if math.isfinite(value)]
    axes.set_xlim(max(-1.02, min(values) - margin), min(1.02, max(values) + margin))
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("Kendall's τ, with its 95 % interval")


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _scatter(axes: Axes, result: BenchmarkResult) -> None:
    """Ranks of the first score, so that outliers do not squeeze the rest."""
    row = result.rows[0]
    count = len(result.truth)
    size, alpha = (14.0, 0.8) if count <= 500 else (4.0, 0.35)
    color = DOTS if row.is_baseline else ACCENT if row.kind == "ensemble" else INK
    axes.scatter(
        ranks(row.values), result.truth, s=size, color=color, alpha=alpha, linewidths=0,
        rasterized=True,
    )  # fmt: skip
    axes.set_xlabel(f"rank by {printable(_short(row.name))}, best right")
    axes.set_ylabel(f"{printable(str(result.settings['truth']))} (%)")
    axes.grid(axis="y")
    low, high = np.quantile(result.truth, [0.02, 1.0])
    if float(result.truth.min()) < low - 2.0 * (high - low):
        # A few networks that never trained would press all others into a line.
        axes.set_ylim(low - 0.1 * (high - low), high + 0.05 * (high - low))
    axes.spines["left"].set_color(FAINT)


def _legend(figure: Figure) -> None:
    handles = [
        Line2D([], [], color=_CONTROL, marker=mark, linewidth=0, markersize=4)
        for mark in _MARKS.values()
    ]
    labels = [f"teacher: {control}" for control in _MARKS]
    figure.legend(
        handles, labels, loc="outside lower left", ncols=4, frameon=False, fontsize=8,
        title="the same score with less of a teacher", title_fontsize=8, alignment="left",
    )  # fmt: skip
