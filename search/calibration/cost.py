"""What labels will cost, before the first of them: counted, and timed on a few real steps."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.nn import functional

from ...proxies.batch import Batch
from ...proxies.devices import find_device, one_thread
from ...proxies.teacher import FORWARD_ERRORS, Teacher
from ...searchspace.architecture import Architecture
from ...searchspace.space import SearchSpace
from ..units import cost_text

__all__ = ["LabelCost", "duration", "label_cost"]

#: Steps that are timed, after one that is not; of them the middle counts.
_TIMED = 3


@dataclass(frozen=True)
class LabelCost:
    """The cost of a run's labels.

    Attributes:
        labels: distillations, over all teachers; those that are there already count.
        left: of them not yet made.
        epochs: of each.
        steps: of each.
        macs: multiply-accumulates of all, students and teachers: forward passes once, backward
            passes twice.
        seconds: that those left should take on this machine; NaN where it could not be timed.
        timed: the network whose steps were timed, of middling MACs.
        step_seconds: of one of its steps, with its teacher's forward pass.
    """

    labels: int
    left: int
    epochs: int
    steps: int
    macs: float
    seconds: float
    timed: str
    step_seconds: float

    def __str__(self) -> str:
        there = f" ({self.labels - self.left} are there)" if self.left < self.labels else ""
        return (
            f"calibration: {self.labels} distillations of {self.epochs} epochs{there},"
            f" {cost_text('macs', self.macs)} in all, {duration(self.seconds)} on this machine"
            f" ({self.step_seconds:.3g} s a step of {self.timed})"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data; an unknown time is ``None``."""
        told = asdict(self)
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in told.items()}


def label_cost(
    space: SearchSpace,
    archs: Sequence[Architecture],
    teachers: Sequence[Teacher],
    batch: Batch,
    images: int,
    *,
    epochs: int,
    batch_size: int,
    left: Sequence[tuple[Architecture, str]],
    device: str = "cpu",
) -> LabelCost:
    """Count the labels' multiply-accumulates, and time steps of the one of middling MACs.

    The time of another student is in proportion to its MACs. Teachers are counted as if they
    saw every image of every epoch; cached soft labels make it less.

    Args:
        space: of the students.
        archs: students, each of whom every teacher teaches.
        teachers: one or more, of different names.
        batch: real images to time steps on.
        images: of the training part.
        epochs: of each distillation.
        batch_size: images a step.
        left: pairs of student and teacher's name that are yet to be distilled.
        device: where.
    """
    steps = epochs * max(images // batch_size, 1)
    macs = space.cost(list(archs))["macs"]
    taught = float(sum(teacher.macs or 0 for teacher in teachers))
    whole = steps * batch_size * (3.0 * float(macs.sum()) * len(teachers) + taught * len(archs))
    middle = sorted(range(len(archs)), key=lambda i: (macs[i], i))[len(archs) // 2]
    place = find_device(device)
    # A step of other images than at hand is taken to cost in proportion.
    share = batch_size / len(batch)
    try:
        with one_thread():
            own = share * _step_seconds(space, archs[middle], batch, place)
            guided = {t.name: share * _teacher_seconds(t, batch, place) for t in teachers}
    except FORWARD_ERRORS:
        # A network that does not run fails as a label, with its reason.
        own, guided = math.nan, {}
    of = {a.key: float(m) / max(float(macs[middle]), 1.0) for a, m in zip(archs, macs, strict=True)}
    return LabelCost(
        labels=len(archs) * len(teachers),
        left=len(left),
        epochs=epochs,
        steps=steps,
        macs=whole,
        seconds=sum(
            (steps * (own * of[a.key] + guided.get(name, math.nan)) for a, name in left), start=0.0
        ),
        timed=archs[middle].text,
        step_seconds=own + max(guided.values(), default=math.nan),
    )


def _step_seconds(
    space: SearchSpace, arch: Architecture, batch: Batch, place: torch.device
) -> float:
    """Of a student's forward and backward pass and update."""
    network = space.build(arch).to(place).train()
    shape = (1, -1, 1, 1)
    mean, std = (torch.tensor(x).view(shape) for x in (batch.mean, batch.std))
    images, labels = ((batch.images - mean) / std).to(place), batch.labels.to(place)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01)

    def step() -> None:
        optimiser.zero_grad()
        functional.cross_entropy(network(images), labels).backward()
        optimiser.step()

    return _middle_seconds(step, place)


def _teacher_seconds(teacher: Teacher, batch: Batch, place: torch.device) -> float:
    """Of a teacher's forward pass."""
    images = teacher.prepare(batch).to(place)
    module = teacher.module.to(place)
    try:
        with torch.no_grad():
            return _middle_seconds(lambda: module(images), place)
    finally:
        module.to("cpu")


def _middle_seconds(step: Callable[[], object], place: torch.device) -> float:
    seconds = []
    for _ in range(1 + _TIMED):
        began = time.perf_counter()
        step()
        if place.type == "cuda":
            torch.cuda.synchronize(place)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def duration(seconds: float) -> str:
    """``42 s``, ``12 min`` or ``3.5 h``."""
    if math.isnan(seconds):
        return "an unknown time"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
