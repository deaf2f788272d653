"""SRRL: what the teacher's classifier makes of the student's features."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ....searchspace.errors import InvalidInputError
from ..checks import not_negative
from ..distiller import Distiller, Pair, Sides, register_distiller
from ..layers import batch_norm, generator_of, one_by_one

__all__ = ["SRRL"]


@register_distiller("srrl")
class SRRL(Distiller):
    """SRRL: what the teacher's classifier makes of the student's features (Yang et al., ICLR 2021).

    The student's final map is brought to the teacher's features by a learnt 1×1 convolution and
    batch norm, and averaged over positions: h. The loss is α · the mean square of h − h_T plus
    β · that of the teacher's logits of h and of h_T (§3), both weights 1 as in the authors'
    program. Its ReLU before the average is left out: not every teacher's features are positive.

    Args:
        sides: shapes.
        alpha: weight of the features.
        beta: weight of the logits.
    """

    zero_at_teacher = False

    def __init__(self, sides: Sides, *, alpha: float = 1.0, beta: float = 1.0) -> None:
        super().__init__()
        if not sides.teacher.classes:
            raise InvalidInputError("srrl asks the teacher's classifier, and there is none")
        self.alpha = not_negative("alpha", alpha)
        self.beta = not_negative("beta", beta)
        width = sides.teacher.pooled
        self.connector = nn.Sequential(
            one_by_one(sides.student.final[0], width, generator_of(sides.seed)), batch_norm(width)
        )

    def forward(self, pair: Pair) -> Tensor:
        """The loss of a batch."""
        weight = pair.teacher.classifier
        if weight is None:
            raise InvalidInputError("srrl asks the teacher's classifier, and there is none")
        target = pair.teacher.pooled.detach()
        given: Tensor = self.connector(pair.student.final_map).mean(dim=(2, 3))
        # Biases cancel in the difference of two answers of one classifier.
        logits = (given - target) @ weight.detach().T
        features = functional.mse_loss(given, target)
        return self.alpha * features + self.beta * torch.mean(logits.square())
