"""DIST: the teacher's order instead of its values."""

from __future__ import annotations

from torch import Tensor

from ...losses import at_least_float32
from ..checks import classes_of, logits_of, not_negative, positive
from ..distiller import Distiller, Pair, Sides, register_distiller
from ..relations import unit_rows

__all__ = ["DIST"]


@register_distiller("dist")
class DIST(Distiller):
    """DIST: β · inter-class + γ · intra-class relation (Huang et al., NeurIPS 2022, §3).

    Each is T² · (1 − Pearson's correlation) of student's and teacher's probabilities: of an
    image's classes, the mean over images; of a class's images, the mean over classes. A row
    that is constant correlates 0. The defaults are the paper's, T that of CIFAR-100 (on
    ImageNet it is 1).

    Args:
        sides: shapes.
        temperature: T.
        beta: weight of the relations between classes.
        gamma: weight of the relations inside classes.
    """

    logits_only = True
    of_classes = True

    def __init__(
        self,
        sides: Sides,
        *,
        temperature: float = 4.0,
        beta: float = 2.0,
        gamma: float = 2.0,
    ) -> None:
        super().__init__()
        classes_of(sides)
        self.temperature = positive("temperature", temperature)
        self.beta = not_negative("beta", beta)
        self.gamma = not_negative("gamma", gamma)

    def forward(self, pair: Pair) -> Tensor:
        """The loss of a batch."""
        student, teacher = (
            (at_least_float32(logits) / self.temperature).softmax(dim=1)
            for logits in logits_of(pair)
        )
        inter = _correlation_distance(student, teacher)
        intra = _correlation_distance(student.T, teacher.T)
        return self.temperature**2 * (self.beta * inter + self.gamma * intra)


def _correlation_distance(a: Tensor, b: Tensor) -> Tensor:
    """1 − Pearson's correlation of each row, the mean over rows, ``[N, D]`` each."""
    x, y = (unit_rows(z - z.mean(dim=1, keepdim=True)) for z in (a, b))
    return 1.0 - (x * y).sum(dim=1).mean()
