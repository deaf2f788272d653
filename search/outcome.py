"""What a search found, in memory: candidates, the front, the pick."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ..searchspace.architecture import Architecture
from ..searchspace.errors import ScholarchError
from ..searchspace.space import SearchSpace
from .measured import Measured, over_budget, read_measured
from .settings import RunSettings
from .student import Student, TrainedWeights
from .weights import FrontWeights

__all__ = ["Candidate", "SearchOutcome"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One architecture that was evaluated.

    Attributes:
        order: of evaluation, from 0.
        arch: the architecture.
        costs: by name.
        score: what was maximised; NaN where it failed.
        scores: every proxy, oriented; NaN = failed.
        failures: proxy → reason.
    """

    order: int
    arch: Architecture
    costs: Mapping[str, float]
    score: float
    scores: Mapping[str, float]
    failures: Mapping[str, str]


@dataclass(eq=False)
class SearchOutcome:
    """The outcome of a search.

    Attributes:
        space: searched.
        settings: what repeats the run.
        candidates: every distinct architecture evaluated, in order.
        objectives: costs minimised beside the score.
        info: versions, host, command, teacher, seconds.
        notes: what a reader has to know.
        out: the run's folder, or ``None``.
        database: the run's store, as the bytes of a SQLite file.
        weights: of the front's networks, where they were found on a trained supernet.
    """

    space: SearchSpace
    settings: RunSettings
    candidates: list[Candidate]
    objectives: tuple[str, ...]
    info: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    out: str | None = None
    database: bytes = b""
    weights: FrontWeights | None = None

    @cached_property
    def front(self) -> list[Candidate]:
        """Candidates that no other beats in score and every objective, cheapest first."""
        import moocore

        scored = [c for c in self.candidates if math.isfinite(c.score)]
        if not scored:
            return []
        points = np.array(
            [[-c.score, *(c.costs[name] for name in self.objectives)] for c in scored]
        )
        kept = moocore.is_nondominated(points, keep_weakly=True)
        return sorted(
            (c for c, keep in zip(scored, kept, strict=True) if keep),
            key=lambda c: (*(c.costs[name] for name in self.objectives), -c.score, c.arch.key),
        )

    @cached_property
    def pick(self) -> Candidate | None:
        """The best score inside the budget; of equals the cheaper, ``None`` if all failed.

        What was timed on this machine and found slower than its bound is passed over, unless
        nothing else is left.
        """
        slow = over_budget(self.measured, self.settings.budget)
        best = min(
            [c for c in self.front if c.arch.key not in slow] or self.front,
            key=lambda c: (-c.score, *(c.costs[name] for name in self.objectives), c.arch.key),
            default=None,
        )
        return best

    @property
    def measured(self) -> list[Measured]:
        """The top of the front as timed on this machine, where a table was built on it."""
        return read_measured(self.info.get("measured"))

    @property
    def best(self) -> Student:
        """The pick, as a student.

        Raises:
            ScholarchError: if no candidate could be scored.
        """
        if self.pick is None:
            reasons = "; ".join(f"{n}× {reason}" for reason, n in self.failures.items())
            raise ScholarchError(f"no candidate could be scored: {reasons or 'none was tried'}")
        return self._student(self.pick)

    @property
    def pareto(self) -> list[Student]:
        """The front as students, cheapest first."""
        return [self._student(candidate) for candidate in self.front]

    @property
    def failures(self) -> dict[str, int]:
        """Reason → how many scores failed for it."""
        counts: dict[str, int] = {}
        for candidate in self.candidates:
            for proxy, reason in candidate.failures.items():
                counts[f"{proxy}: {reason}"] = counts.get(f"{proxy}: {reason}", 0) + 1
        return counts

    @property
    def tested(self) -> dict[str, float]:
        """Key → accuracy on the test part, of the front where it was read; else empty."""
        return dict(self.info.get("test", {}).get("accuracy", {}))

    def validated(self, candidate: Candidate) -> float:
        """Accuracy on the validation part, of a search on a supernet; NaN off its front."""
        if self.settings.measured:
            return candidate.score
        return float(self.info.get("val", {}).get(candidate.arch.key, math.nan))

    def _student(self, candidate: Candidate) -> Student:
        return Student(
            candidate.arch,
            self.space,
            candidate.costs,
            candidate.score,
            candidate.scores,
            self.settings.seed,
            None if self.settings.supernet is None else self._inherited(candidate),
        )

    def _inherited(self, candidate: Candidate) -> TrainedWeights:
        """The candidate's weights out of the supernet, and where they come from."""
        weights = self.weights or FrontWeights.nowhere()
        settings, told = self.settings, self.info.get("supernet", {})
        found = {"val": self.validated(candidate)}
        if candidate.arch.key in self.tested:
            found["test"] = self.tested[candidate.arch.key]
        return TrainedWeights(
            lambda: weights.module(candidate.arch),
            found,
            {
                "by": "weights inherited from a supernet, batch norm calibrated",
                "supernet": {**(settings.supernet or {}), "path": told.get("path")},
                "data": settings.data["name"],
                "input": {"mean": told.get("mean"), "std": told.get("std")},
                **({"score": told["score"]} if "score" in told else {}),
            },
        )

    # ------------------------------------------------------------------ for others

    def to_json(self) -> dict[str, Any]:
        """Plain data: pick, front, counts, notes."""
        return {
            "best": self.best.to_json() if self.pick else None,
            "pareto": [student.to_json() for student in self.pareto],
            "objectives": ["score", *self.objectives],
            "score": self.settings.score["name"],
            "budget": self.settings.budget,
            "evaluations": len(self.candidates),
            "failures": self.failures,
            "measured": [one.to_json() for one in self.measured],
            **({"predictor": self.info["predictor"]} if "predictor" in self.info else {}),
            "notes": self.notes,
            "out": self.out,
        }

    def pareto_csv(self) -> str:
        """The front as CSV: costs whole, scores to 6 digits; equal runs give equal bytes."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        # A proxy named like a cost is that cost: one column.
        costs_too = self.settings.costs
        proxies = [name for name in self.settings.proxies if name not in costs_too]
        tested = self.tested
        last = ["test-accuracy"] if tested else []
        writer.writerow(["arch", "key", "score", *self.settings.costs, *proxies, *last])
        for c in self.front:
            costs = [f"{c.costs[name]:.12g}" for name in self.settings.costs]
            scores = [f"{c.scores[name]:.6g}" for name in proxies]
            scores += [f"{tested[c.arch.key]:.6g}"] if tested else []
            writer.writerow([c.arch.text, c.arch.key, f"{c.score:.6g}", *costs, *scores])
        return text.getvalue()
