"""What a benchmark found, as files."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

from ..search.figure_style import save_png
from ..searchspace.files import make_folder, write_atomic
from .controls import ControlRow
from .figure import tau_figure
from .measure import TRAINED
from .page import page
from .result import BenchmarkResult
from .summary import STATISTICS, ScoreRow

__all__ = ["save"]

TABLE, PAGE, SCORES, PICTURE, CONTROLS_TABLE = (
    "table.csv",
    "table.md",
    "scores.csv",
    "tau.png",
    "controls.csv",
)


def save(result: BenchmarkResult, folder: str | Path) -> None:
    """Write ``table.csv``, ``table.md``, ``tau.png``, ``scores.csv`` and ``controls.csv``.

    ``scores.csv`` holds every candidate's truth and averaged scores, so that others can take
    their own statistics.

    Raises:
        StoreError: if the folder cannot be written.
    """
    folder = Path(folder)
    make_folder(folder)
    write_atomic(folder / TABLE, _csv([_as_cells(row) for row in result.rows]))
    write_atomic(folder / SCORES, _scores(result))
    if result.controls:
        write_atomic(
            folder / CONTROLS_TABLE, _csv([_control_cells(row) for row in result.controls])
        )
    write_atomic(folder / PAGE, page(result, PICTURE))
    save_png(tau_figure(result), folder / PICTURE)


def _scores(result: BenchmarkResult) -> str:
    return _csv(
        [
            {"arch": arch, "truth": f"{result.truth[i]:.6g}"}
            | {row.name: _text(float(row.values[i]), ".9g") for row in result.rows}
            for i, arch in enumerate(result.archs)
        ]
    )


def _text(value: float, form: str) -> str:
    return f"{value:{form}}" if math.isfinite(value) else ""


def _as_cells(row: ScoreRow) -> dict[str, str]:
    numbers = {key: _text(row.numbers[key], ".4f") for key in STATISTICS}
    return {"score": row.name, "kind": row.kind} | numbers | {"failed": str(row.failed)}


def _control_cells(row: ControlRow) -> dict[str, str]:
    cells = {"score": row.name}
    for teacher, tau in row.tau.items():
        cells[f"tau {teacher}"] = _text(tau, ".4f")
        cells[f"seed tau {teacher}"] = _text(row.seeds[teacher], ".4f")
        cells[f"seed sd {teacher}"] = _text(row.spread[teacher], ".4f")
        if teacher != TRAINED:
            low, high = row.margin[teacher]
            cells[f"margin {teacher}"] = f"{_text(low, '.4f')} to {_text(high, '.4f')}"
    return cells | {"verdict": row.verdict}


def _csv(rows: list[dict[str, str]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
