"""What a trained supernet looks like in a terminal."""

from __future__ import annotations

import math
import shlex

from rich.console import Console
from rich.table import Table

from .search.budget import human
from .supernet.folder import CURVES
from .supernet.score import score_text
from .supernet.trained import TrainedSupernet

__all__ = ["print_trained"]


def print_trained(trained: TrainedSupernet, data: str) -> None:
    """How well the networks of a supernet do, and what comes next.

    Args:
        trained: in a folder.
        data: as the next command's ``--data`` takes it.
    """
    console = Console(markup=False, emoji=False, highlight=False)
    console.print(
        f"{trained.steps} steps, {human(trained.macs_passed)} MACs passed,"
        f" {trained.seconds:.0f} s of training"
    )
    view = Table(box=None, pad_edge=False, header_style="bold")
    view.add_column("network", no_wrap=True)
    view.add_column("architecture", min_width=16)
    for name in ("params", "MACs", f"val {trained.score}"):
        view.add_column(name, justify="right", no_wrap=True)
    for one in trained.landmarks:
        accuracy = "" if math.isnan(one.accuracy) else score_text(one.accuracy, trained.score)
        view.add_row(one.name, one.arch.text, human(one.params), human(one.macs), accuracy)
    console.print(view)
    if trained.path is None:
        return
    folder = trained.path.parent
    middle = trained.landmarks[len(trained.landmarks) // 2].macs
    words = ["scholarch", "search", "--supernet", str(folder), "--data", data]
    words += ["--max-macs", human(middle), "--out", str(folder / "search")]
    # Not wrapped, so that they can be copied.
    console.print(f"curves: {folder / CURVES}", soft_wrap=True)
    console.print(f"next: {shlex.join(words)}", soft_wrap=True)
