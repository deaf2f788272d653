"""What a benchmark found, as data and as files."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..search.files import make_folder, write_atomic
from .controls import RULE, ControlRow
from .measure import TRAINED
from .metrics import Column
from .summary import STATISTICS, ScoreRow

__all__ = ["BenchmarkResult"]

TABLE, PAGE, SCORES, PICTURE, CONTROLS_TABLE = (
    "table.csv",
    "table.md",
    "scores.csv",
    "tau.png",
    "controls.csv",
)


@dataclass(frozen=True)
class BenchmarkResult:
    """Every number of every score.

    Attributes:
        settings: all that repeats it.
        command: the shell line, or empty.
        rows: scores as asked for, then baselines.
        controls: what the controls say of each score that takes a teacher, if asked for.
        teacherless: scores that controls were asked for and that take no teacher.
        archs: the candidates, in the space's notation.
        truth: their accuracies in percent.
        failures: (proxy, reason) → how many values are missing for it.
    """

    settings: Mapping[str, Any]
    command: str
    rows: tuple[ScoreRow, ...]
    controls: tuple[ControlRow, ...]
    teacherless: tuple[str, ...]
    archs: tuple[str, ...]
    truth: Column = field(repr=False)
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __getitem__(self, name: str) -> ScoreRow:
        """The row of a score; raises ``KeyError`` for another name."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def to_json(self) -> dict[str, Any]:
        """Plain data without NaN: what is not defined is ``None``."""
        return {
            "settings": dict(self.settings),
            "command": self.command,
            "statistics": STATISTICS,
            "scores": [
                {"name": row.name, "kind": row.kind}
                | {key: _finite(row.numbers[key]) for key in STATISTICS}
                | {"failed": row.failed}
                for row in self.rows
            ],
            "controls": [
                {
                    "name": row.name,
                    "tau": {teacher: _finite(value) for teacher, value in row.tau.items()},
                    "seed_tau": {teacher: _finite(value) for teacher, value in row.seeds.items()},
                    "seed_tau_sd": {t: _finite(value) for t, value in row.spread.items()},
                    "margin": {c: [_finite(end) for end in ends] for c, ends in row.margin.items()},
                    "holds_under": list(row.holds),
                    "teacher_aware": row.aware,
                }
                for row in self.controls
            ],
            "rule": RULE if self.controls else None,
            "take_no_teacher": list(self.teacherless),
            "failures": [
                {"proxy": proxy, "reason": reason, "count": count}
                for (proxy, reason), count in self.failures.most_common()
            ],
        }

    def save(self, folder: str | Path) -> None:
        """Write ``table.csv``, ``table.md``, ``tau.png``, ``scores.csv`` and ``controls.csv``.

        ``scores.csv`` holds every candidate's truth and averaged scores, so that others can
        take their own statistics.

        Raises:
            StoreError: if the folder cannot be written.
        """
        from .figure import tau_figure
        from .page import page

        folder = Path(folder)
        make_folder(folder)
        write_atomic(folder / TABLE, _csv([_as_cells(row) for row in self.rows]))
        write_atomic(folder / SCORES, self._scores())
        if self.controls:
            write_atomic(
                folder / CONTROLS_TABLE, _csv([_control_cells(row) for row in self.controls])
            )
        write_atomic(folder / PAGE, page(self, PICTURE))
        from ..search.figure_style import save_png

        save_png(tau_figure(self), folder / PICTURE)

    def _scores(self) -> str:
        return _csv(
            [
                {"arch": arch, "truth": f"{self.truth[i]:.6g}"}
                | {row.name: _text(float(row.values[i]), ".9g") for row in self.rows}
                for i, arch in enumerate(self.archs)
            ]
        )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


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
