"""Whether a score knows its teacher: the same score with teachers that know less.

A score that ranks as well with a teacher that says of one image what it should say of another,
that knows the labels and nothing else, that says the same of every image, or that was never
trained, has learnt nothing from the teacher.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from torch import nn

from ..proxies.batch import Batch
from ..proxies.controls import constant, labels_only, shuffled_images
from ..proxies.taps import Taps
from ..proxies.teacher import Teacher
from .intervals import interval, kendall_draws
from .measure import TRAINED, Guide
from .metrics import Column, Index, kendall

__all__ = ["CONTROLS", "RULE", "ControlRow", "control_row", "random_teacher", "teachers_of"]

CONTROLS = ("shuffled", "labels", "constant", "random")

RULE = (
    "A score is called teacher-aware only if its τ with the trained teacher exceeds its τ under"
    " every control: by more than the larger standard deviation between seeds, and with the"
    " whole 95 % bootstrap interval of the difference above 0. Otherwise it is teacher-free."
)


def teachers_of(teacher: Teacher, batch: Batch, seed: int, *, controls: bool) -> dict[str, Guide]:
    """The teacher, and with ``controls`` what is left of it, by name.

    Nothing is computed before it is asked for: a finished benchmark asks for nothing.

    Args:
        teacher: trained.
        batch: what it sees.
        seed: of the shuffle and of the random weights.
        controls: without, the trained teacher alone.
    """
    taps = cache(lambda: teacher.observe(batch))
    mark = teacher.fingerprint
    guides = {TRAINED: Guide(mark, taps)}
    if controls:
        weak: dict[str, Callable[[], Taps]] = {
            "shuffled": lambda: shuffled_images(taps(), seed),
            "labels": lambda: labels_only(taps(), batch.labels, batch.num_classes),
            "constant": lambda: constant(taps()),
            "random": lambda: random_teacher(teacher, seed).observe(batch),
        }
        guides |= {name: Guide(f"{mark}/{name}", weak[name]) for name in CONTROLS}
    return guides


def random_teacher(teacher: Teacher, seed: int = 0) -> Teacher:
    """The same network, measured in the same places, as if never trained.

    Matrices and kernels are N(0, 2 / fan-in), scales 1, biases 0, batch norm takes the batch's
    statistics.
    """
    module = copy.deepcopy(teacher.module)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.dim() > 1:
                deviation = math.sqrt(2.0 / parameter[0].numel())
                parameter.normal_(0.0, deviation, generator=generator)
            else:
                nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
    return replace(teacher, module=module, trained=False, accuracy=None)


@dataclass(frozen=True)
class ControlRow:
    """One score under every teacher.

    Attributes:
        name: of the score.
        tau: teacher → Kendall's τ of the score averaged over seeds.
        seeds: teacher → mean τ of a seed.
        spread: teacher → standard deviation of τ between seeds; 0 for one seed.
        margin: control → 95 % interval of τ(trained) − τ(control), of the averaged scores.
        holds: controls under which the score ranks as well, by :data:`RULE`.
    """

    name: str
    tau: dict[str, float]
    seeds: dict[str, float]
    spread: dict[str, float]
    margin: dict[str, tuple[float, float]]
    holds: tuple[str, ...]

    @property
    def aware(self) -> bool:
        """Whether the score drops under every control."""
        return not self.holds

    @property
    def verdict(self) -> str:
        """One line."""
        if self.aware:
            return "teacher-aware: drops under every control"
        return f"teacher-free: holds under {', '.join(self.holds)}"


def control_row(
    name: str,
    columns: Mapping[str, Sequence[Column]],
    averaged: Mapping[str, Column],
    truth: Column,
    draws: Index,
) -> ControlRow:
    """What the controls say of one score.

    Args:
        name: of the score.
        columns: teacher → scores ``[N]`` of each seed.
        averaged: teacher → scores averaged over seeds, ``[N]``.
        truth: ``[N]``.
        draws: how often each candidate is in each bootstrap draw, ``[draws, N]``; the same
            for every teacher, so that differences are paired.
    """
    by_seed = {
        teacher: np.array([kendall(column, truth) for column in found])
        for teacher, found in columns.items()
    }
    drawn = {teacher: kendall_draws(column, truth, draws) for teacher, column in averaged.items()}
    tau = {teacher: kendall(column, truth) for teacher, column in averaged.items()}
    seeds = {teacher: float(values.mean()) for teacher, values in by_seed.items()}
    spread = {
        teacher: float(values.std(ddof=1)) if len(values) > 1 else 0.0
        for teacher, values in by_seed.items()
    }
    margin = {}
    holds = []
    for control in (teacher for teacher in columns if teacher != TRAINED):
        if not math.isfinite(tau[control]):
            # All scores tie, or all failed: without its images the score tells nothing.
            margin[control] = interval(drawn[TRAINED])
            gap = seeds[TRAINED]
            noise = spread[TRAINED]
        else:
            margin[control] = interval(drawn[TRAINED] - drawn[control])
            gap = seeds[TRAINED] - seeds[control]
            noise = max(spread[TRAINED], spread[control])
        if not (gap > noise and margin[control][0] > 0.0):  # NaN holds, too
            holds.append(control)
    return ControlRow(name, tau, seeds, spread, margin, tuple(holds))
