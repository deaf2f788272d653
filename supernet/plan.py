"""A schedule laid out in steps: which phase, what learning rate, how much of the ramp."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..searchspace.errors import InvalidInputError
from .schedule import Phase, Schedule

__all__ = ["Place", "Plan"]


@dataclass(frozen=True)
class Place:
    """Where a step stands.

    Attributes:
        phase: its phase.
        index: of the phase.
        first: whether it is the phase's first step.
        lr: learning rate.
        weight: of the gradient of all networks but the largest.
    """

    phase: Phase
    index: int
    first: bool
    lr: float
    weight: float


class Plan:
    """Steps of a schedule.

    The learning rate is a cosine from ``lr`` to ``lr · final`` behind a linear warm-up; phases
    with a peak of their own have a cosine of their own. In a ramp the gradient of the smaller
    networks has the weight β(t) = lr(W) · (n / N) / lr(t), n of N steps into the ramp that ends
    at W, so that what they move per step grows linearly (DεpS §3.2).

    Args:
        schedule: what is laid out.
        steps: of all phases.
        lr: the peak.
        final: the last learning rate, as a share of its peak.
        warmup: share of the steps in which the learning rate rises.

    Raises:
        InvalidInputError: if there are fewer steps than phases.
    """

    def __init__(
        self, schedule: Schedule, steps: int, *, lr: float, final: float, warmup: float
    ) -> None:
        phases = schedule.phases
        if steps < len(phases):
            raise InvalidInputError(
                f"{steps} steps for the {len(phases)} phases of schedule {schedule.name!r}; train"
                " longer or on smaller batches"
            )
        self.schedule = schedule
        self.steps = steps
        self._lr, self._final = lr, final
        self._warmup = warmup
        self.starts = _starts([phase.share for phase in phases], steps)
        self._joint = [i for i, phase in enumerate(phases) if phase.lr is None]

    def at(self, step: int) -> Place:
        """Where a step stands, ``0 ≤ step < steps``."""
        index = max(i for i, start in enumerate(self.starts[:-1]) if start <= step)
        phase = self.schedule.phases[index]
        start, end = self.starts[index], self.starts[index + 1]
        lr, weight = self._rate(step, index), 1.0
        if phase.ramp:
            done = (step - start) / (end - start)
            weight = self._rate(min(end, self.steps - 1), index) * done / lr
        return Place(phase, index, step == start, lr, weight)

    def _rate(self, step: int, index: int) -> float:
        """The learning rate of a step by the cosine of a phase."""
        peak = self.schedule.phases[index].lr
        if peak is not None:
            start, end = self.starts[index], self.starts[index + 1]
            return self._cosine(step - start, end - start, self._lr * peak, warm=index == 0)
        # One cosine over the phases that share it, as if the others were not there.
        before = sum(max(0, min(step, self.starts[i + 1]) - self.starts[i]) for i in self._joint)
        total = sum(self.starts[i + 1] - self.starts[i] for i in self._joint)
        return self._cosine(before, total, self._lr, warm=True)

    def _cosine(self, step: int, total: int, peak: float, *, warm: bool) -> float:
        rise = int(self._warmup * total) if warm else 0
        if step < rise:
            return peak * (step + 1) / rise
        done = (step - rise) / max(1, total - rise)
        low = peak * self._final
        return low + 0.5 * (peak - low) * (1.0 + math.cos(math.pi * min(1.0, done)))


def _starts(shares: Sequence[float], steps: int) -> list[int]:
    """First step of each phase, and the number of steps; a step a phase at least."""
    total = math.fsum(shares)
    ends = [round(steps * math.fsum(shares[: i + 1]) / total) for i in range(len(shares))]
    starts = [0, *ends[:-1], steps]
    for i in range(1, len(shares)):
        starts[i] = max(starts[i], starts[i - 1] + 1)
    for i in range(len(shares) - 1, 0, -1):
        starts[i] = min(starts[i], starts[i + 1] - 1)
    return starts
