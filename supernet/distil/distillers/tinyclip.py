"""Affinity mimicking: which inputs of the batch are alike, in one tower or across two."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ....searchspace.errors import InvalidInputError
from ..checks import positive, whole
from ..distiller import Distiller, Pair, Sides, register_distiller
from ..relations import unit_rows

__all__ = ["TinyCLIP"]


@register_distiller("tinyclip")
class TinyCLIP(Distiller):
    """Affinity mimicking: which inputs are alike in a batch (TinyCLIP: Wu et al., ICCV 2023, §3.1).

    Affinities are softmaxes of cosines over a temperature, from images to texts and from texts to
    images; the loss is half the sum of KL(teacher ‖ student) of both, whose gradients are those
    of the paper's cross-entropies. Two towers are given as one network whose pooled features are
    the image tower's and the text tower's side by side, ``[B, 2·F]``. Of one tower the affinities
    are those between its own inputs, each one's with itself left out. Widths need not match.

    Args:
        sides: shapes.
        weight: of the loss.
        temperature: of both sides; CLIP's learnt one ends at .01.
        towers: 1 or 2.
    """

    def __init__(
        self, sides: Sides, *, weight: float = 1.0, temperature: float = 0.01, towers: int = 1
    ) -> None:
        super().__init__()
        self.weight = positive("weight", weight)
        self.temperature = positive("temperature", temperature)
        self.towers = whole("towers", towers)
        odd = [shapes.pooled for shapes in (sides.student, sides.teacher) if shapes.pooled % towers]
        if towers > 2 or odd:
            raise InvalidInputError(
                f"towers = {towers} of the distiller; need 1, or 2 whose features, equally many,"
                f" stand side by side (the student has {sides.student.pooled}, the teacher"
                f" {sides.teacher.pooled})"
            )

    def forward(self, pair: Pair) -> Tensor:
        """The loss of a batch."""
        student, teacher = pair.student.pooled, pair.teacher.pooled.detach()
        if len(student) < 3 - self.towers:
            return 0.0 * student.sum()  # of one input alone there is nothing to compare
        s, t = self._affinities(student), self._affinities(teacher)
        return self.weight * 0.5 * (_divergence(s, t) + _divergence(s.T, t.T))

    def _affinities(self, features: Tensor) -> Tensor:
        towers = [unit_rows(half) for half in features.chunk(self.towers, dim=1)]
        affinities = towers[0] @ towers[-1].T / self.temperature
        if self.towers == 1:
            itself = torch.eye(len(features), dtype=torch.bool, device=features.device)
            affinities = affinities.masked_fill(itself, -math.inf)
        return affinities


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    log_q, log_p = student.log_softmax(dim=1), teacher.log_softmax(dim=1)
    # Where neither has an affinity, -∞ − -∞ is none.
    gap = torch.where(log_p > -math.inf, log_p, 0.0) - torch.where(log_q > -math.inf, log_q, 0.0)
    return (log_p.exp() * gap).sum(dim=1).mean()
