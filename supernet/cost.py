"""What training costs: multiply-accumulates passed, expected and counted.

A forward pass costs an image's multiply-accumulates times the images, a backward pass twice
that, to an attack's images alone once. Teachers and attacks count like any other pass.
"""

from __future__ import annotations

import math

import numpy as np

from ..proxies.teacher import Teacher
from ..searchspace.architecture import Architecture
from .draw import Drawer
from .objective import COSTS
from .schedule import Pass, Phase, Schedule
from .settings import TrainSettings
from .world import World

__all__ = ["FORWARD_BACKWARD", "StepCosts"]

FORWARD_BACKWARD = 3
"""Forward passes that a forward and a backward pass together cost."""

#: Rows whose mean stands for a draw's expected cost.
_SAMPLE = 2000
_PENDING = 256


class StepCosts:
    """Turns a budget into steps, and counts what is passed.

    Args:
        drawer: of the space.
        schedule: what is trained.
        settings: budget and batch size.
        teacher: external teacher, if any.
        world: ranks, all of which count.
    """

    def __init__(
        self,
        drawer: Drawer,
        schedule: Schedule,
        settings: TrainSettings,
        teacher: Teacher | None,
        world: World,
    ) -> None:
        self._drawer, self._schedule, self._settings = drawer, schedule, settings
        self._world = world
        encode = drawer.space.encode
        self._largest = float(drawer.macs(encode([drawer.largest]))[0])
        self._smallest = float(drawer.macs(encode([drawer.smallest]))[0])
        # A teacher whose cost cannot be counted counts for nothing.
        self._external = float((teacher.macs if teacher is not None else None) or 0)
        self._counted = 0.0
        self._pending: list[tuple[Architecture, int]] = []

    # ------------------------------------------------------------------ expected

    def steps(self, steps_per_epoch: int) -> int:
        """Steps that the settings' epochs or multiply-accumulates are, at least one."""
        settings = self._settings
        if settings.epochs is not None:
            return max(1, round(settings.epochs * steps_per_epoch))
        phases = self._schedule.phases
        total = math.fsum(phase.share for phase in phases)
        mean = math.fsum(phase.share / total * self.expected(phase) for phase in phases)
        return max(1, int(float(settings.macs or 0.0) / mean))

    def expected(self, phase: Phase) -> float:
        """Multiply-accumulates of a step of a phase, all ranks, in the mean over draws."""
        rng = np.random.default_rng(0)
        total = 0.0
        sources = set()
        for spec in phase.passes:
            if spec.soft and spec.source != "largest":
                sources.add(spec.source)
            total += spec.count * self._of_pass(spec, phase, rng)
        total += sum(self._external if s == "external" else self._largest for s in sources)
        return total * self._settings.batch_size * self._world.size

    def _of_pass(self, spec: Pass, phase: Phase, rng: np.random.Generator) -> float:
        special = COSTS.get(spec.objective)
        passes = FORWARD_BACKWARD if special is None else special(spec)
        if spec.draw in ("largest", "smallest"):
            each = self._largest if spec.draw == "largest" else self._smallest
            return passes * each
        if spec.draw == "random":
            rows = self._drawer.rows(_SAMPLE, rng, phase.free)
        else:
            draws = [self._drawer.spread(1, rng, phase.free) for _ in range(_SAMPLE // 20)]
            rows = np.concatenate(draws)
        looks = spec.candidates if spec.draw in ("best", "worst") else 0
        return (passes + looks) * float(self._drawer.macs(rows).mean())

    # ------------------------------------------------------------------ counted

    def count(self, arch: Architecture, forwards: int, backwards: int) -> None:
        """Count an architecture's passes over one batch on one rank."""
        self._pending.append((arch, forwards + 2 * backwards))
        if len(self._pending) >= _PENDING:
            self._settle()

    def count_teacher(self, source: str) -> None:
        """Count a teacher's forward pass over one batch on one rank."""
        self.count_passed(self._external if source == "external" else self._largest)

    def count_passed(self, macs: float) -> None:
        """Count multiply-accumulates of an image that something else passed on one rank."""
        self._counted += macs * self._scale

    @property
    def _scale(self) -> float:
        """Images of a batch, and ranks that do the same elsewhere."""
        return self._settings.batch_size * self._world.size / len(self._world.shards)

    def _settle(self) -> None:
        if self._pending:
            rows = self._drawer.space.encode([arch for arch, _ in self._pending])
            passes = np.array([n for _, n in self._pending], dtype=np.float64)
            self._counted += float(self._drawer.macs(rows) @ passes) * self._scale
            self._pending.clear()

    @property
    def passed(self) -> float:
        """Multiply-accumulates so far, of all ranks; other processes' are taken as ours."""
        self._settle()
        return self._counted

    @passed.setter
    def passed(self, value: float) -> None:
        self._pending.clear()
        self._counted = value
