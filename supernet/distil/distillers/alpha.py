"""The α-divergence of supernets, for one student."""

from __future__ import annotations

from torch import Tensor

from ....searchspace.errors import InvalidInputError
from ...losses import alpha_divergence
from ..checks import classes_of, finite, logits_of, positive
from ..distiller import Distiller, Pair, Sides, register_distiller

__all__ = ["Alpha"]


@register_distiller("alpha")
class Alpha(Distiller):
    """AlphaNet's loss: the larger of two α-divergences (Wang et al., ICML 2021, §4).

    The one of a negative α punishes a student that is less sure than its teacher, that of a
    positive α one that is surer; see :func:`~scholarch.supernet.losses.alpha_divergence`. The
    paper trains its students on soft labels alone, and clips gradients by value at 1.

    Args:
        sides: shapes.
        temperature: divides the logits; the loss is multiplied by its square.
        alpha_min: the lower α.
        alpha_max: the upper α.
        clip: largest importance weight.
        weight: of the loss.
    """

    logits_only = True
    of_classes = True
    labels = 0.0

    def __init__(
        self,
        sides: Sides,
        *,
        temperature: float = 1.0,
        alpha_min: float = -1.0,
        alpha_max: float = 1.0,
        clip: float = 5.0,
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        classes_of(sides)
        self.temperature = positive("temperature", temperature)
        self.alpha_min = finite("alpha_min", alpha_min)
        self.alpha_max = finite("alpha_max", alpha_max)
        if alpha_min > alpha_max:
            raise InvalidInputError(
                f"alpha_min = {alpha_min} of the distiller is above alpha_max = {alpha_max}"
            )
        self.clip = positive("clip", clip)
        self.weight = positive("weight", weight)

    def forward(self, pair: Pair) -> Tensor:
        """The loss of a batch."""
        student, teacher = logits_of(pair)
        loss = alpha_divergence(
            student,
            teacher,
            self.temperature,
            alpha_min=self.alpha_min,
            alpha_max=self.alpha_max,
            clip=self.clip,
        )
        return self.weight * loss
