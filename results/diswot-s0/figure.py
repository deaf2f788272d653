"""Kendall's τ of every score as a dot plot, controls as lighter marks beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from rows import CONTROLS, TRAINED, Row, spread_of

mpl.use("Agg")
from matplotlib import pyplot as plt

COLOURS = {
    "reference": "#8a8a8a",
    "size": "#222222",
    "teacher-free": "#2a7f62",
    "takes a teacher": "#2f5f98",
}
TITLES = {
    "reference": "reference",
    "size": "size",
    "teacher-free": "takes no teacher",
    "takes a teacher": "takes the teacher",
}
MARKS = dict(zip(CONTROLS, ("s", "^", "D", "v"), strict=True))
FAINT = "#9cb6d6"


def draw(rows: Sequence[Row], path: Path, *, seeds: int) -> None:
    """Write the figure.

    Args:
        rows: sorted by kind and τ.
        path: of the PNG.
        seeds: how many.
    """
    shown = [row for row in rows if row.teacher in ("", TRAINED)]
    less = {(row.name, row.teacher): row for row in rows if row.teacher in CONTROLS}
    places: dict[str, float] = {}
    heads: list[tuple[float, str]] = []
    y = 0.0
    for kind in TITLES:
        group = [row for row in shown if row.kind == kind]
        if not group:
            continue
        heads.append((y, kind))
        y += 0.9
        for row in group:
            places[row.name] = y
            y += 1.25 if kind == "takes a teacher" else 1.0
        y += 0.5
    figure, axes = plt.subplots(figsize=(8.0, 0.27 * y + 1.1), layout="constrained")
    params = next(row.tau_mean for row in shown if row.name == "params")
    axes.axvline(params, color="#222222", linewidth=0.9, linestyle=(0, (5, 3)), zorder=1)
    axes.text(params + 0.008, -1.0, f"params {params:.2f}", fontsize=8, va="center")
    axes.axvline(0.0, color="#cccccc", linewidth=0.9, zorder=0)
    for row in shown:
        at, colour = places[row.name], COLOURS[row.kind]
        mean, sd = float(row.tau.mean()), spread_of(row.tau)
        axes.plot([mean - sd, mean + sd], [at, at], color=colour, linewidth=2.2, zorder=3)
        axes.plot(mean, at, "o", color=colour, markersize=6.5, zorder=4)
        if len(row.tau) > 1:
            axes.plot(
                row.tau_mean,
                at,
                "o",
                color=colour,
                markersize=6.5,
                markerfacecolor="white",
                zorder=3,
            )
        for control, mark in MARKS.items():
            if (row.name, control) in less:
                value = float(less[row.name, control].tau.mean())
                axes.plot(value, at + 0.42, mark, color=FAINT, markersize=4.5, zorder=2)
    for at, kind in heads:
        axes.text(
            -0.01, at, TITLES[kind], transform=axes.get_yaxis_transform(), ha="right", va="center",
            fontsize=9, fontweight="bold", color=COLOURS[kind],
        )  # fmt: skip
    axes.set_yticks(list(places.values()), list(places), fontsize=8.5)
    axes.set_ylim(y - 0.4, -1.6)
    low = min([0.0, *(row.tau.mean() - spread_of(row.tau) for row in rows)])
    axes.set_xlim(min(low - 0.05, -0.1), 1.0)
    axes.set_xlabel("Kendall's τ with distilled accuracy, 64 students of S0", fontsize=9)
    axes.grid(axis="x", color="#eeeeee", zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    _legend(figure, seeds)
    figure.savefig(path, dpi=160)
    plt.close(figure)


def _legend(figure: mpl.figure.Figure, seeds: int) -> None:
    dark = "#444444"
    handles = [
        plt.Line2D([], [], color=dark, marker="o", linewidth=2.2, markersize=6),
        plt.Line2D([], [], color=dark, marker="o", markerfacecolor="white", linewidth=0),
        *(plt.Line2D([], [], color=FAINT, marker=m, linewidth=0) for m in MARKS.values()),
    ]
    labels = [f"mean ± sd of {seeds} seeds", "score averaged over seeds"]
    labels += [f"control: {control}" for control in MARKS]
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
