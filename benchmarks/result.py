"""What a benchmark found, as data."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .controls import RULE, ControlRow
from .metrics import Column
from .summary import STATISTICS, ScoreRow

__all__ = ["BenchmarkResult"]


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


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
