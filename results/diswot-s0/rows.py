"""One score's agreement with the truth, and what the controls say of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from _common import Column

#: With the teacher as it is, and with what is left of it.
TRAINED = "trained"
CONTROLS = ("permuted channels", "shuffled images", "constant", "random")


@dataclass(frozen=True)
class Row:
    """One score under one teacher.

    Attributes:
        name: of the score.
        kind: ``"size"``, ``"reference"``, ``"teacher-free"`` or ``"takes a teacher"``.
        teacher: :data:`TRAINED`, one of :data:`CONTROLS`, or empty.
        tau: Kendall's with distilled accuracy, one a seed.
        rho: Spearman's.
        pairs: pair accuracy at equal params.
        tau_mean: of the score averaged over seeds; likewise the next two.
        rho_mean: see ``tau_mean``.
        pairs_mean: see ``tau_mean``.
        failures: how many values are missing.
    """

    name: str
    kind: str
    teacher: str
    tau: Column
    rho: Column
    pairs: Column
    tau_mean: float
    rho_mean: float
    pairs_mean: float
    failures: int


RULE = """A score is called **teacher-free** if, for any control, its mean τ with the trained
teacher exceeds its mean τ under the control by no more than the larger of the two standard
deviations between seeds. Permuted channels count only for scores that they change: a score
that does not depend on how channels are numbered is untouched by construction."""


def verdict(rows: Mapping[str, Row]) -> str:
    """What the controls say of one score.

    Args:
        rows: teacher → row.
    """
    real = rows[TRAINED]
    holds = []
    for control in CONTROLS:
        less = rows[control]
        unmoved = np.allclose(less.tau, real.tau, atol=1e-3)
        if control == "permuted channels" and unmoved:
            continue
        spread = max(spread_of(real.tau), spread_of(less.tau))
        if real.tau.mean() - less.tau.mean() <= spread:
            holds.append(control)
    return f"teacher-free: holds under {', '.join(holds)}" if holds else "drops under every control"


def spread_of(values: Column) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def as_csv(row: Row) -> dict[str, object]:
    cells: dict[str, object] = {"score": row.name, "kind": row.kind, "teacher": row.teacher}
    for key in ("tau", "rho", "pairs"):
        values = getattr(row, key)
        cells[key] = f"{values.mean():.4f}"
        cells[f"{key}_sd"] = f"{spread_of(values):.4f}" if len(values) > 1 else ""
        cells[f"{key}_of_mean_score"] = f"{getattr(row, f'{key}_mean'):.4f}"
    return cells | {"seeds": len(row.tau), "failures": row.failures}
