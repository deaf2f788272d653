"""Accuracy that searches under latency lost, and tables of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from _common import Column, markdown_table
from latency_lookup import TRUTHS

TARGET = 0.4
RANDOM = "random cell"


@dataclass(frozen=True)
class Case:
    """One score under one budget.

    Attributes:
        device: name.
        quantile: of the device's latencies.
        bound: that is, in ms.
        feasible: rows within.
        classes: isomorphism classes of which the fastest is, which is what a search may pick.
        best: data set → accuracy of the best feasible row, in percent.
        least: data set → what the best of the classes' fastest cells loses against that.
        score: name.
        lost: data set → points of accuracy lost by each search, ``[seeds]``.
        top: data set → lost by the best-scored of all feasible cells, seed by seed of the scores,
            ``[score seeds]``; empty for chance.
        mean_top: data set → the same by the score averaged over its seeds; NaN for chance.
    """

    device: str
    quantile: float
    bound: float
    feasible: int
    classes: int
    best: dict[str, float]
    least: dict[str, float]
    score: str
    lost: dict[str, Column]
    top: dict[str, Column]
    mean_top: dict[str, float]

    def row(self) -> dict[str, object]:
        """A line of the CSV."""
        line: dict[str, object] = {
            "device": self.device,
            "quantile": self.quantile,
            "budget_ms": round(self.bound, 4),
            "feasible_rows": self.feasible,
            "feasible_classes": self.classes,
            "score": self.score,
        }
        for name in TRUTHS:
            lost, top = self.lost[name], self.top[name]
            line |= {
                f"{name}_best": round(self.best[name], 4),
                f"{name}_least": f"{self.least[name]:.4f}",
                f"{name}_search_mean": f"{lost.mean():.4f}",
                f"{name}_search_sd": f"{lost.std(ddof=1):.4f}",
                f"{name}_search_worst": f"{lost.max():.4f}" if len(top) else "",
                f"{name}_exhaustive_mean": f"{top.mean():.4f}" if len(top) else "",
                f"{name}_exhaustive_worst": f"{top.max():.4f}" if len(top) else "",
                f"{name}_exhaustive_averaged": f"{self.mean_top[name]:.4f}" if len(top) else "",
            }
        return line


def budget_table(cases: Sequence[Case], scores: Sequence[str], truth: str) -> str:
    """A line a budget: mean ± sd (worst) of the searches, and exhaustively."""
    lines = []
    for case in (c for c in cases if c.score == scores[0]):
        line: dict[str, object] = {
            "device": case.device,
            "budget": f"{case.bound:.2f} ms",
            "cells (classes)": f"{case.feasible:,} ({case.classes:,})",
            "best %": f"{case.best[truth]:.2f}",
            "least": f"{case.least[truth]:.2f}",
            f"{case.score}, all cells": f"{case.mean_top[truth]:.2f}",
        }
        for other in cases:
            same = (other.device, other.quantile) == (case.device, case.quantile)
            if same and other.score in (*scores, RANDOM):
                lost = other.lost[truth]
                worst = f" ({lost.max():.2f})" if len(other.top[truth]) else ""
                line[other.score] = f"{lost.mean():.2f} ± {lost.std(ddof=1):.2f}{worst}"
        lines.append(line)
    return markdown_table(lines)


def score_table(cases: Sequence[Case], scores: Sequence[str]) -> str:
    """A line a score, over all budgets."""
    lines = []
    for score in (*scores, RANDOM):
        of = [case for case in cases if case.score == score]
        line: dict[str, object] = {"score": score}
        for truth in TRUTHS:
            means = np.array([case.lost[truth].mean() for case in of])
            searched = score != RANDOM
            line |= {
                f"{truth}: mean": f"{means.mean():.2f}",
                f"{truth}: worst budget": f"{means.max():.2f}",
                f"{truth}: worst search": f"{max(c.lost[truth].max() for c in of):.2f}"
                if searched
                else "–",
                f"{truth}: all cells": f"{np.mean([c.mean_top[truth] for c in of]):.2f}"
                if searched
                else "–",
                f"{truth}: ≤ {TARGET} pp": f"{int((means <= TARGET).sum())} of {len(of)}",
            }
        lines.append(line)
    return markdown_table(lines)
