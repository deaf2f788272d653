"""Hypervolume against evaluations, one panel a searcher, random in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

Curves = Mapping[str, npt.NDArray[np.float64]]
COLOUR, GREY = "#0a5fb4", "#8a8a8a"


def band(
    axes: Axes, counts: npt.NDArray[np.int64], curves: npt.NDArray[np.float64], colour: str
) -> None:
    """Mean and one standard deviation over seeds, as far as the curves reach."""
    reach = np.isfinite(curves).all(axis=0)
    mean, sd = curves[:, reach].mean(axis=0), curves[:, reach].std(axis=0, ddof=1)
    axes.fill_between(counts[reach], mean - sd, mean + sd, color=colour, alpha=0.18, linewidth=0)
    axes.plot(counts[reach], mean, color=colour, linewidth=1.6)


def draw(counts: Sequence[int], curves: Curves, path: Path, *, title: str, start: int) -> None:
    """Write the figure.

    Args:
        counts: of evaluations.
        curves: searcher → ``[seeds, counts]``, as shares of the best front known.
        path: of the PNG.
        title: what was searched.
        start: evaluations that every searcher draws uniformly.
    """
    names = [name for name in curves if name != "random"] or ["random"]
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    figure, grid = plt.subplots(
        lines,
        columns,
        figsize=(3.1 * columns, 2.3 * lines + 0.5),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    x = np.array(counts)
    for axes, name in zip(grid.flat, names, strict=False):
        axes.axvline(start, color="#cccccc", linewidth=0.9, linestyle=(0, (4, 3)))
        if "random" in curves:
            band(axes, x, curves["random"], GREY)
        if name != "random":
            band(axes, x, curves[name], COLOUR)
        axes.set_title(name, fontsize=10, loc="left", color=COLOUR)
        axes.grid(axis="y", color="#eeeeee")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    figure.supxlabel("evaluations", fontsize=9)
    figure.supylabel("hypervolume / that of the best front known", fontsize=9)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=150)
    plt.close(figure)
