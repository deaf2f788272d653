"""Similarity-preserving distillation: which images are alike."""

from __future__ import annotations

from torch import Tensor

from ....proxies.diswot import image_relation
from ..checks import positive
from ..distiller import Distiller, Pair, Sides, register_distiller

__all__ = ["SP"]


@register_distiller("sp")
class SP(Distiller):
    """SP: ‖G_S − G_T‖² / B² of the images' similarities (Tung and Mori, ICCV 2019, §3).

    G is the Gram matrix of the images' final maps, its rows of length 1. Neither widths nor
    resolutions need match. The paper may sum over several layers; as in the experiments on
    CIFAR from which the weight comes it is the last one.

    Args:
        sides: shapes.
        weight: γ.
    """

    def __init__(self, sides: Sides, *, weight: float = 3000.0) -> None:  # noqa: ARG002
        super().__init__()
        self.weight = positive("weight", weight)

    def forward(self, pair: Pair) -> Tensor:
        """The loss of a batch."""
        reference = image_relation(pair.teacher.final_map.detach())
        return self.weight * (image_relation(pair.student.final_map) - reference).square().mean()
