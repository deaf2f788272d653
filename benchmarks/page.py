"""The page and the terminal's table that tell what a benchmark found."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from ..search.find import REFERENCE_SIZE
from .columns import COLUMNS, control_columns
from .controls import RULE
from .metrics import EQUAL_SIZE
from .result import BenchmarkResult

__all__ = ["machine", "page", "print_benchmark"]

_REASONS = 5
_WIDEST = 1000


def ordered(result: BenchmarkResult) -> list[tuple[str, list[str]]]:
    """Names and cells of all rows, the best τ of each part first: scores, then baselines."""
    rows = sorted(
        result.rows, key=lambda row: (row.is_baseline, -np.nan_to_num(row.numbers["tau"], nan=-2))
    )
    return [(row.name, [column.text(row) for column in COLUMNS]) for row in rows]


def notes(result: BenchmarkResult) -> list[str]:
    """What has to be known to read the numbers."""
    settings = result.settings
    classes = int(settings["classes"])
    found = [
        f"{settings['candidates']:,} candidates"
        + (f" of {classes:,} isomorphism classes" if classes != settings["candidates"] else "")
        + (f", means of {settings['rows']:,} rows" if settings["unique"] else "")
        + f"; truth: {settings['truth']} of {settings['table']}."
    ]
    scored, quoted = settings["scored space"], settings["sizes quoted of"]
    differ = [
        f"{key} {quoted[key]} as trained, {scored[key]} as scored"
        for key in quoted
        if key in scored and quoted[key] != scored[key]
    ]
    if differ:
        found.append(f"Sizes are quoted as trained: {'; '.join(differ)}.")
    failed = [row for row in result.rows if row.failed]
    if failed:
        texts = ", ".join(f"{row.name} {row.failed}" for row in failed)
        found.append(f"Failed values, ranked last: {texts}.")
        for (proxy, reason), count in result.failures.most_common(_REASONS):
            found.append(f"{proxy} failed {count}×: {reason}.")
    if result.teacherless:
        found.append(
            f"No controls for {', '.join(result.teacherless)}: teacher-free, no teacher is asked."
        )
    return found


def print_benchmark(result: BenchmarkResult, out: Path | None = None) -> None:
    """The tables on stdout, wider than the terminal rather than cut."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    for column in COLUMNS:
        table.add_column("\n".join(column.head.rsplit(" ", 1)), justify="right", no_wrap=True)
    baselines = {row.name for row in result.rows if row.is_baseline}
    for name, cells in ordered(result):
        table.add_row(name, *cells, style="dim" if name in baselines else None)
    _print(table)
    if result.controls:
        view = Table(box=None, pad_edge=False, header_style="bold")
        rows = [{"τ with": row.name} | control_columns(row) for row in result.controls]
        for head in rows[0]:
            justify = "left" if head in ("τ with", "verdict") else "right"
            view.add_column(head, justify=justify, no_wrap=True)  # type: ignore[arg-type]
        for row in rows:
            view.add_row(*row.values())
        _print("")
        _print(view)
    _print("")
    for note in notes(result):
        _print(note)
    if out is not None:
        _print(f"written to {out}")


def _print(what: Table | str) -> None:
    console = Console(markup=False, emoji=False, highlight=False)
    if isinstance(what, Table):
        console.width = max(console.width, Console(width=_WIDEST).measure(what).maximum)
    console.print(what, soft_wrap=isinstance(what, str))


def page(result: BenchmarkResult, picture: str) -> str:
    """The result as Markdown.

    Args:
        result: what was found.
        picture: file name of the figure beside it.
    """
    settings = result.settings
    rows = [
        {"score": f"`{name}`"} | dict(zip((c.head for c in COLUMNS), cells, strict=True))
        for name, cells in ordered(result)
    ]
    parts = [
        f"# {settings['benchmark']}: how scores rank {settings['truth']}",
        *notes(result),
        f"![Kendall's τ of every score]({picture})",
        markdown_table(rows),
        "\n".join(f"- **{', '.join(heads)}**: {about}." for about, heads in _legend().items()),
        f"Strata are fifths by size (thirds of fewer than 100 candidates); a pair is of equal"
        f" size where |Δ ln params| < {EQUAL_SIZE}, chance is .5. Failed candidates rank last.",
    ]
    if result.controls:
        controls = [{"score": f"`{row.name}`"} | control_columns(row) for row in result.controls]
        parts += [
            "## What the teacher adds",
            "τ of the score averaged over seeds, then of a seed (mean ± standard deviation) with"
            " the trained teacher, with what it says of one image said of another, with the"
            " labels alone, with the same said of every image, and with the teacher's network"
            " untrained.",
            markdown_table(controls),
            RULE,
        ]
    parts += ["## How", "\n".join(f"- {line}" for line in _how(result))]
    return "\n\n".join(parts) + "\n"


def _legend() -> dict[str, list[str]]:
    """What columns tell → their heads."""
    heads: dict[str, list[str]] = {}
    for column in COLUMNS:
        heads.setdefault(column.about, []).append(column.head)
    return heads


def _how(result: BenchmarkResult) -> list[str]:
    settings = result.settings
    seeds = settings["seeds"]
    lines = [f"Make it again: `{result.command}`."] if result.command else []
    lines += [
        f"Seeds {seeds[0]} to {seeds[-1]}: each draws {settings['size']} images of"
        f" {settings['images']}, the weights, the reference sample and the lesser teachers."
        if len(seeds) > 1
        else f"Seed {seeds[0]}; {settings['size']} images of {settings['images']}.",
        f"Teacher: {settings['teacher'] or 'none'}.",
        *(
            f"`{name}`, Σ of log-ranks against {REFERENCE_SIZE} architectures of the space: "
            + ", ".join(f"{weight:g} {part}" for part, weight in ensemble["weights"].items())
            + (f" (version {ensemble['version']})." if ensemble["version"] else ".")
            for name, ensemble in settings["ensembles"].items()
        ),
        f"Space scored: {_options(settings['scored space'])}.",
        f"Intervals: {settings['bootstrap draws']} bootstrap draws.",
        f"Machine: {machine()}.",
    ]
    return lines


def _options(spec: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in spec.items())


def markdown_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows as a table; all but the first column and a verdict to the right."""
    heads = list(rows[0])
    sides = ["---" if head in (heads[0], "verdict") else "---:" for head in heads]
    lines = ["| " + " | ".join(_cell(head) for head in heads) + " |", f"|{'|'.join(sides)}|"]
    lines += ["| " + " | ".join(_cell(row[head]) for head in heads) + " |" for row in rows]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def machine() -> str:
    """Processor, cores and versions, in one line."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        models = [line for line in lines if line.startswith("model name")]
        if models:
            name = models[0].partition(":")[2].strip()
    return (
        f"{name}, {os.cpu_count()} cores, torch {torch.__version__}, numpy {np.__version__},"
        f" Python {platform.python_version()}"
    )
