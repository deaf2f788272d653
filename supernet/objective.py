"""What a pass minimises. A new one is a function that :func:`register_objective` decorates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..searchspace.registry import Registry
from .schedule import Pass
from .task import label_loss

__all__ = ["COSTS", "OBJECTIVES", "Outcome", "View", "register_objective"]

Divergence = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class View:
    """What an objective sees of a pass.

    Attributes:
        forward: images in [0, 1], ``[B, C, H, W]``, to the architecture's logits, ``[B, K]``.
        images: of the step, in [0, 1].
        labels: int64 ``[B]``, or targets float32 ``[B, D]``.
        soft: the teacher's logits, ``[B, K]``, where the pass has a teacher.
        spec: the pass.
        smoothing: of labels.
        divergence: (student's logits, teacher's) → mean divergence.
        generator: for attacks, seeded by step and rank.
        indices: of the images in the training part, int64 ``[B]``.
        coach: what a distillation run computes in an objective's place; ``None`` elsewhere.
        quiet: like ``forward``, but batch norm's running statistics stay where they are: for
            attacks, whose images are not what they are of.
    """

    forward: Callable[[Tensor], Tensor]
    images: Tensor
    labels: Tensor
    soft: Tensor | None
    spec: Pass
    smoothing: float
    divergence: Divergence
    generator: torch.Generator
    quiet: Callable[[Tensor], Tensor]
    indices: Tensor
    coach: Callable[[View], Outcome] | None = None


class Outcome(NamedTuple):
    """Loss and what it took.

    Attributes:
        loss: scalar, to be minimised.
        logits: of the step's own images, ``[B, K]``.
        forwards: forward passes.
        backwards: backward passes, those of the loss included, one a forward pass in it.
        input_backwards: backward passes to the images alone, an attack's: without the weights'
            gradients each costs half of another.
    """

    loss: Tensor
    logits: Tensor
    forwards: int = 1
    backwards: int = 1
    input_backwards: int = 0


Objective = Callable[[View], Outcome]
OBJECTIVES: Registry[Objective] = Registry("objective")
COSTS: dict[str, Callable[[Pass], float]] = {}
"""Forward passes that a pass costs, of objectives that take more than one and its gradient."""


def register_objective(
    name: str, cost: Callable[[Pass], float] | None = None
) -> Callable[[Objective], Objective]:
    """Register ``f(view) -> Outcome`` under ``name``.

    Args:
        name: see :attr:`~scholarch.supernet.schedule.Pass.objective`.
        cost: forward passes that a pass of it costs, ``forwards + input_backwards + 2 ·
            backwards``, by which a budget becomes steps; default 3, one and its gradient.
    """

    def register(function: Objective) -> Objective:
        if cost is not None:
            COSTS[name] = cost
        return OBJECTIVES.add(name, function)

    return register


@register_objective("distil")
def distil(view: View) -> Outcome:
    """Loss against the labels and divergence from the teacher, weighted as the pass says."""
    logits = view.forward(view.images)
    loss = logits.new_zeros((), dtype=torch.float32)
    if view.spec.labels:
        loss = loss + view.spec.labels * label_loss(logits, view.labels, view.smoothing)
    if view.spec.soft and view.soft is not None:
        loss = loss + view.spec.soft * view.divergence(logits, view.soft)
    return Outcome(loss, logits)
