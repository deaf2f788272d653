"""What the commands look like in a terminal: live progress, then tables."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from .proxies.scoring import ScoreTable
from .search.budget import human
from .search.result import SearchResult
from .search.run import Progress as Step
from .search.sizes import SIZE_AXES
from .search.units import cost_text, cost_value
from .searchspace.architecture import Architecture
from .searchspace.latency.check import Check
from .searchspace.latency.fitted import FittedTable
from .searchspace.latency.table import BlockTable
from .supernet.score import score_text

if TYPE_CHECKING:
    from .supernet.session import Progress as TrainStep

__all__ = [
    "BenchConsole",
    "SearchConsole",
    "TrainConsole",
    "print_check",
    "print_fit",
    "print_latency_table",
    "print_line",
    "print_result",
    "print_scores",
]

_ROWS = 15
#: Parts of a score that still fit beside it; of more, the report shows them.
_PARTS = 3
_REASONS = 3


class _Bars:
    """Bars of progress on stderr, one below the other, as things begin.

    Args:
        columns: left of the count.
        texts: fields of a task shown right of the time left.
        visible: ``False`` prints nothing.
    """

    def __init__(self, columns: Sequence[ProgressColumn], *texts: str, visible: bool) -> None:
        self._progress = Progress(
            *columns,
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            *(TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in texts),
            console=Console(stderr=True),
            disable=not visible,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave the bars as they are."""
        if self._tasks:  # without, it would print a blank line before an error's one line
            self._progress.stop()

    def _show(self, name: str, done: int, total: int, **texts: Any) -> None:
        if name not in self._tasks:
            self._progress.start()
            # Where a run goes on, what was done before says nothing of the time left.
            start = max(0, done - 1)
            self._tasks[name] = self._progress.add_task(name, total=total, completed=start, **texts)
        self._progress.update(self._tasks[name], completed=done, **texts)


class SearchConsole(_Bars):
    """Live progress of a search: a bar a phase, the best so far, the time left.

    Args:
        visible: ``False`` prints nothing.
    """

    def __init__(self, *, visible: bool = True) -> None:
        super().__init__([TextColumn("{task.description:9}")], "best", visible=visible)

    def update(self, step: Step) -> None:
        """Show how far the run is."""
        best = "" if math.isnan(step.best) else f"best {step.best:.4g}  {step.text}"
        self._show(step.phase, step.done, step.total, best=best)


class TrainConsole(_Bars):
    """Live progress of a supernet's training: steps, phase, loss, best mean accuracy.

    Args:
        visible: ``False`` prints nothing.
    """

    def __init__(self, *, visible: bool = True) -> None:
        super().__init__([TextColumn("{task.description}")], "now", visible=visible)

    def update(self, step: TrainStep) -> None:
        """Show how far the run is."""
        best = "" if math.isnan(step.best) else f"  best mean {score_text(step.best, step.score)}"
        now = f"{step.phase}  loss {step.loss:.3f}{best}"
        self._show("training", step.step, step.steps, now=now)


def print_result(result: SearchResult) -> None:
    """The front as a table, the pick, and where everything lies."""
    console = Console(markup=False, emoji=False, highlight=False)
    pick = result.pick
    front = result.front
    shown = front
    if len(front) > _ROWS:
        step = (len(front) - 1) / (_ROWS - 1)
        shown = [front[round(i * step)] for i in range(_ROWS)]
        if pick is not None and pick not in shown:
            shown = sorted([*shown, pick], key=front.index)
    score = str(result.settings.score["name"])
    proxies = [name for name in result.settings.proxies if name not in result.settings.costs]
    parts = result.settings.score["parts"]
    if len(parts) > _PARTS:
        proxies = [name for name in proxies if name not in parts]
    proxies = [name for name in proxies if name != score]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    table.add_column("architecture", no_wrap=True, min_width=16, max_width=44)
    sizes = [name for name in SIZE_AXES if name in result.settings.costs]
    for name in (score, *sizes, *proxies):
        table.add_column(name.replace("-", "\n"), justify="right")
    for candidate in shown:
        table.add_row(
            "▶" if candidate is pick else "",
            candidate.arch.text,
            f"{candidate.score:.4g}",
            *(human(candidate.costs[name]) for name in sizes),
            *(f"{candidate.scores[name]:.4g}" for name in proxies),
            style="bold" if candidate is pick else None,
        )
    failed = sum(1 for c in result.candidates if math.isnan(c.score))
    left = f", {len(front) - len(shown)} more in pareto.csv" if len(front) > len(shown) else ""
    console.print(
        f"{len(result.candidates)} architecture{'' if len(result.candidates) == 1 else 's'}"
        f" evaluated, {failed} failed;"
        f" {len(front)} on the front{left}"
    )
    if front:
        console.print(table)
    for reason, count in Counter(result.failures).most_common(_REASONS):
        console.print(f"failed {count}×: {reason}", soft_wrap=True)
    for note in result.notes:
        console.print(f"note: {note}", soft_wrap=True)
    if pick is not None:
        budget = ", ".join(
            f"{cost_text(name, pick.costs[name])} of {cost_value(name, bound)}"
            for name, bound in result.settings.budget.items()
        )
        console.print(f"best student: {pick.arch.text}" + (f" ({budget})" if budget else ""))
    if result.out:
        # A path is not wrapped, so that it can be copied.
        console.print(f"report: {result.out}/report.html", soft_wrap=True)


def print_scores(archs: Sequence[Architecture], table: ScoreTable) -> None:
    """Scores as a table, failures under it."""
    console = Console(markup=False, emoji=False, highlight=False)
    view = Table(box=None, pad_edge=False, header_style="bold")
    view.add_column("architecture")
    for name in table:
        view.add_column(name, justify="right")
    for i, arch in enumerate(archs):
        view.add_row(arch.text, *(f"{table[name][i]:.6g}" for name in table))
    console.print(view)
    for (row, name), reason in table.failures.items():
        console.print(f"failed: {archs[row].text} {name}: {reason}")


class BenchConsole(_Bars):
    """Live progress of a latency bench: a bar for each thing that is done.

    Args:
        visible: ``False`` prints nothing.
    """

    def __init__(self, *, visible: bool = True) -> None:
        super().__init__([TextColumn("{task.description:32}")], visible=visible)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self._finish()
        self.stop()

    def update(self, what: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` of something are done; the thing before is over."""
        if what not in self._tasks:
            self._finish()
        self._show(what, done, total)

    def _finish(self) -> None:
        for task in self._progress.tasks:
            self._progress.update(task.id, completed=task.total)


def print_latency_table(table: BlockTable, path: object, *, blocks: int = 10) -> None:
    """What a table holds: setting, overhead, the slowest blocks."""
    console = Console(markup=False, emoji=False, highlight=False)
    said = ", ".join(f"{name} {value}" for name, value in table.setting.items())
    console.print(f"{table.device}: {said}", soft_wrap=True)
    versions = ", ".join(f"{name} {value}" for name, value in table.versions.items())
    console.print(f"{table.host}; {versions}; {table.date}", soft_wrap=True)
    for resolution, overhead in sorted(table.overheads.items()):
        fitted = f", {overhead.error:.1%} off on {overhead.networks} networks"
        console.print(
            f"{table.space['name']} at {resolution}x{resolution}: {overhead.ms:+.3f} ms"
            f" + {overhead.scale:.3f} x the sum of its blocks"
            + (fitted if overhead.networks else "")
        )
    view = Table(box=None, pad_edge=False, header_style="bold")
    view.add_column("ms", justify="right")
    view.add_column("±", justify="right")
    view.add_column(f"the slowest of {len(table.blocks)} blocks", overflow="fold")
    slowest = sorted(table.blocks.items(), key=lambda item: -item[1].ms)
    for key, time in slowest[:blocks]:
        view.add_row(f"{time.ms:.4g}", f"{time.spread:.1%}", key)
    console.print(view)
    console.print(f"table: {path}", soft_wrap=True)


def print_check(check: Check, out: object) -> None:
    """How well a table predicts held-out networks."""
    console = Console(markup=False, emoji=False, highlight=False)
    numbers = check.to_json()
    console.print(
        f"{numbers['networks']} networks, {check.measured.min():.3g} to"
        f" {check.measured.max():.3g} ms: MAPE {numbers['mape']:.1%},"
        f" within 5 % {numbers['within5']:.0%}, within 10 % {numbers['within10']:.0%},"
        f" Spearman {numbers['spearman']:.3f}"
    )
    console.print(
        f"the machine against itself {numbers['retest_mape']:.1%}; predictions are"
        f" {abs(numbers['bias']):.1%} too {'high' if numbers['bias'] > 0 else 'low'} in the median"
    )
    if out is not None:
        console.print(f"picture: {out}/check.png", soft_wrap=True)


def print_line(text: str) -> None:
    """One line that is not wrapped."""
    Console(markup=False, emoji=False, highlight=False).print(text, soft_wrap=True)


def print_fit(table: FittedTable, out: object) -> None:
    """How well a fitted table predicts networks that were left out of the fit."""
    console = Console(markup=False, emoji=False, highlight=False)
    console.print(
        f"{len(table.measured.ms)} networks; of those left out in turn MAPE {table.mape:.1%},"
        f" Spearman {table.spearman:.3f}"
    )
    console.print(f"table: {out}", soft_wrap=True)
