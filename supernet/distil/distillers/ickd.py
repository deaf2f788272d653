"""Inter-channel correlation: which channels respond alike."""

from __future__ import annotations

from torch import Tensor, nn

from ..checks import positive
from ..distiller import Distiller, Pair, Sides, register_distiller
from ..layers import batch_norm, generator_of, one_by_one
from ..relations import unit_rows

__all__ = ["ICKD"]


@register_distiller("ickd")
class ICKD(Distiller):
    """ICKD-C: ‖G_S − G_T‖² of the channels' correlations (Liu et al., ICCV 2021, §3).

    G is F Fᵀ of an image's final map F as a C × H·W matrix; the student's map is first brought
    to the teacher's channels by a learnt 1×1 convolution and batch norm. As in the authors'
    program for CIFAR the rows of G have length 1 and the squares are summed over columns, then
    averaged over rows and images. Resolutions need not match.

    Args:
        sides: shapes.
        weight: β₁ of the paper.
    """

    zero_at_teacher = False

    def __init__(self, sides: Sides, *, weight: float = 2.5) -> None:
        super().__init__()
        self.weight = positive("weight", weight)
        channels = sides.teacher.final[0]
        generator = generator_of(sides.seed)
        self.embed = nn.Sequential(
            one_by_one(sides.student.final[0], channels, generator), batch_norm(channels)
        )

    def forward(self, pair: Pair) -> Tensor:
        """The loss of a batch."""
        student = _correlations(self.embed(pair.student.final_map))
        difference = student - _correlations(pair.teacher.final_map.detach())
        return self.weight * difference.square().sum(dim=2).mean()


def _correlations(x: Tensor) -> Tensor:
    """Inner products of an image's channels, rows of length 1, ``[B, C, H, W]`` → ``[B, C, C]``."""
    f = x.flatten(2)
    return unit_rows(f @ f.transpose(1, 2))
