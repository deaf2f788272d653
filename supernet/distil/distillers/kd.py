"""Knowledge distillation: the teacher's softened answers."""

from __future__ import annotations

from torch import Tensor

from ...losses import kl_divergence
from ..checks import classes_of, logits_of, positive
from ..distiller import Distiller, Pair, Sides, register_distiller

__all__ = ["KD"]


@register_distiller("kd")
class KD(Distiller):
    """KD: weight · T² · KL(teacher ‖ student) of logits over T (Hinton et al., 2015, §2).

    The defaults are those of the benchmark that most distillers report on, .1 of the labels
    and .9 of the teacher at T = 4 (CRD: Tian et al., ICLR 2020, §A.1).

    Args:
        sides: shapes.
        temperature: T.
        weight: of the divergence.
    """

    logits_only = True
    of_classes = True
    labels = 0.1

    def __init__(self, sides: Sides, *, temperature: float = 4.0, weight: float = 0.9) -> None:
        super().__init__()
        classes_of(sides)
        self.temperature = positive("temperature", temperature)
        self.weight = positive("weight", weight)

    def forward(self, pair: Pair) -> Tensor:
        """The loss of a batch."""
        student, teacher = logits_of(pair)
        return self.weight * kl_divergence(student, teacher, self.temperature)
