"""Affinity mimicking: which inputs of the batch are alike, in one tower or across two."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ....searchspace.errors import InvalidInputError
from ..checks import positive, whole
from ..distiller import Distiller, Pair, Sides, register_distiller
from ..layers import generator_of, linear
from ..relations import unit_rows

__all__ = ["TinyCLIP"]

#: In place of a number of towers: the second is the teacher's text tower.
_TEXTS = "texts"

_TEMPERATURE = 0.01


@register_distiller("tinyclip")
class TinyCLIP(Distiller):
    """Affinity mimicking: which inputs are alike in a batch (TinyCLIP: Wu et al., ICCV 2023, §3.1).

    Affinities are softmaxes of cosines over a temperature, from images to texts and from texts to
    images; the loss is half the sum of KL(teacher ‖ student) of both, whose gradients are those
    of the paper's cross-entropies. Widths need not match. Where the towers are depends:

    - ``"texts"``: of a two-tower teacher that classifies by names of classes (CLIP) the texts of a
      batch are those of its labels, the rows of the teacher's classifier, for both sides: a student
      has no text tower. Its image embedding is what its classifier is given where that is
      a direction as wide as the teacher's (students of spaces made from it), else a linear map of
      it, which is learned along and left behind. Classifiers are trained by the labels alone:
      without their cross-entropy a student has to begin with one (``init`` trained or teacher).
    - 2: both networks' pooled features are the images' tower's and the texts' side by side,
      ``[B, 2·F]``.
    - 1: affinities are those between a tower's own inputs, each one's with itself left out.

    Args:
        sides: shapes.
        weight: of the loss.
        temperature: of both sides; default with texts the teacher's own, which is in the lengths of
            what its logits are products of, else .01, where CLIP's learnt one ends.
        towers: 1, 2 or ``"texts"``; ``"auto"``: ``"texts"`` where the teacher's classifier is given
            directions, as a two-tower teacher's is, else 1.
    """

    def __init__(
        self,
        sides: Sides,
        *,
        weight: float = 1.0,
        temperature: float | None = None,
        towers: int | str = "auto",
    ) -> None:
        super().__init__()
        self.weight = positive("weight", weight)
        self.temperature = None if temperature is None else positive("temperature", temperature)
        student, teacher = sides.student, sides.teacher
        if towers == "auto":
            towers = _TEXTS if teacher.directions else 1
        self.texts = towers == _TEXTS
        self.towers = 2 if towers == _TEXTS else whole("towers", towers)  # type: ignore[arg-type]
        self.map: nn.Linear | None = None
        if self.texts:
            if not teacher.classes:
                raise InvalidInputError(
                    f"towers = {_TEXTS!r} of the distiller, and the teacher tells no classes apart,"
                    " whose texts are meant; give it names: TEACHER?classes=cat,dog, or towers=1"
                )
            if student.pooled != teacher.pooled or not student.directions:
                self.map = linear(student.pooled, teacher.pooled, generator_of(sides.seed))
            return
        odd = [shapes.pooled for shapes in (student, teacher) if shapes.pooled % self.towers]
        if self.towers > 2 or odd:
            raise InvalidInputError(
                f"towers = {towers} of the distiller; need 1, or 2 whose features, equally many,"
                f" stand side by side (the student has {student.pooled}, the teacher"
                f" {teacher.pooled}), or {_TEXTS}"
            )

    def forward(self, pair: Pair) -> Tensor:
        """The loss of a batch."""
        student, teacher = pair.student.pooled, pair.teacher.pooled.detach()
        if len(student) < 3 - self.towers:
            return 0.0 * student.sum()  # of one input alone there is nothing to compare
        if self.texts:
            rows = self._texts(pair)
            own = student if self.map is None else self.map(student)
            sharp = _scale(teacher, rows) if self.temperature is None else 1.0 / self.temperature
            s, t = (sharp * (unit_rows(x) @ unit_rows(rows).T) for x in (own, teacher))
        else:
            s, t = self._affinities(student), self._affinities(teacher)
        return self.weight * 0.5 * (_divergence(s, t) + _divergence(s.T, t.T))

    def _texts(self, pair: Pair) -> Tensor:
        """The labels' rows of the teacher's classifier, ``[B, F]``."""
        rows = pair.teacher.classifier
        if rows is None or pair.labels.is_floating_point():
            raise InvalidInputError(
                f"towers = {_TEXTS!r} of the distiller: texts are those of labels, and there are"
                " none; give data with classes, or towers=1"
            )
        return rows.detach().to(pair.student.pooled)[pair.labels]

    def _affinities(self, features: Tensor) -> Tensor:
        towers = [unit_rows(half) for half in features.chunk(self.towers, dim=1)]
        affinities = towers[0] @ towers[-1].T / (self.temperature or _TEMPERATURE)
        if self.towers == 1:
            itself = torch.eye(len(features), dtype=torch.bool, device=features.device)
            affinities = affinities.masked_fill(itself, -math.inf)
        return affinities


def _scale(features: Tensor, rows: Tensor) -> Tensor:
    """What a teacher's cosines are multiplied by in its logits."""
    lengths = torch.linalg.vector_norm(features, dim=1).mean()
    found: Tensor = lengths * torch.linalg.vector_norm(rows, dim=1).mean()
    return found


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    log_q, log_p = student.log_softmax(dim=1), teacher.log_softmax(dim=1)
    # Where neither has an affinity, -∞ − -∞ is none.
    gap = torch.where(log_p > -math.inf, log_p, 0.0) - torch.where(log_q > -math.inf, log_q, 0.0)
    return (log_p.exp() * gap).sum(dim=1).mean()
