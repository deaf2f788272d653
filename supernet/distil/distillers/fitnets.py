"""FitNets: hints from the middle of the teacher."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from ..checks import positive
from ..distiller import Distiller, Pair, Sides, register_distiller
from ..layers import batch_norm, generator_of, one_by_one
from ..matching import matched_channels, matched_maps

__all__ = ["FitNets"]


@register_distiller("fitnets")
class FitNets(Distiller):
    """FitNets: ‖r(x_S) − x_T‖² of a middle stage (Romero et al., ICLR 2015, §2.2, eq. 3).

    r is learnt: a 1×1 convolution to the teacher's channels and batch norm. The paper trains on
    hints first and distils then; here, as in the benchmark from which the weight comes (CRD:
    Tian et al., ICLR 2020, §A.1), the hint's mean square is added to the student's loss
    throughout. That benchmark's ReLU after r is left out: not every teacher's stage ends in one.

    Args:
        sides: shapes.
        weight: of the hint.
    """

    zero_at_teacher = False

    def __init__(self, sides: Sides, *, weight: float = 100.0) -> None:
        super().__init__()
        self.weight = positive("weight", weight)
        channels = matched_channels(sides)
        self.stage = len(channels) // 2
        student, teacher = channels[self.stage]
        generator = generator_of(sides.seed)
        self.regressor = nn.Sequential(one_by_one(student, teacher, generator), batch_norm(teacher))

    def forward(self, pair: Pair) -> Tensor:
        """The loss of a batch."""
        student, teacher = matched_maps(pair)[self.stage]
        return self.weight * functional.mse_loss(self.regressor(student), teacher)
