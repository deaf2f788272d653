"""Cosine: the direction of an embedding, and which of a batch are alike."""

from __future__ import annotations

from torch import Tensor

from ....searchspace.errors import InvalidInputError
from ..checks import not_negative
from ..distiller import Distiller, Pair, Shapes, Sides, register_distiller
from ..relations import unit_rows

__all__ = ["Cosine"]


@register_distiller("cosine")
class Cosine(Distiller):
    """Cosine: 1 − cos of student's and teacher's embeddings (Reimers and Gurevych, EMNLP 2020, §2).

    The paper makes a student imitate its teacher's sentence embeddings; its mean square is here
    taken of unit vectors, ½‖s − t‖² = 1 − cos, since similarities are all that is asked of
    them. Beside it the mean square between the batch's matrices of cosines may be taken. What is
    compared are the networks' outputs: embeddings or logits.

    Args:
        sides: shapes.
        weight: of 1 − cos.
        similarity: weight of the matrices of cosines.
    """

    logits_only = True
    labels = 0.0

    def __init__(self, sides: Sides, *, weight: float = 1.0, similarity: float = 0.0) -> None:
        super().__init__()
        self.weight = not_negative("weight", weight)
        self.similarity = not_negative("similarity", similarity)
        student, teacher = _outputs(sides.student), _outputs(sides.teacher)
        if student != teacher:
            raise InvalidInputError(
                f"outputs are compared number by number: the student tells {student} classes"
                f" apart, the teacher {teacher}, or embeds in so many; give a student of as many"
            )

    def forward(self, pair: Pair) -> Tensor:
        """The loss of a batch."""
        student = pair.student.pooled if pair.student.logits is None else pair.student.logits
        teacher = pair.teacher.pooled if pair.teacher.logits is None else pair.teacher.logits
        s, t = unit_rows(student), unit_rows(teacher.detach())
        loss = self.weight * 0.5 * (s - t).square().sum(dim=1).mean()
        if self.similarity:
            loss = loss + self.similarity * (s @ s.T - t @ t.T).square().mean()
        return loss


def _outputs(shapes: Shapes) -> int:
    return shapes.classes or shapes.pooled
