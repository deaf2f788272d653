"""Attention transfer: where a network looks."""

from __future__ import annotations

import torch
from torch import Tensor

from ....proxies.kd_maps import attention
from ..checks import positive
from ..distiller import Distiller, Pair, Sides, register_distiller
from ..matching import matched_indices, matched_maps

__all__ = ["AT"]


@register_distiller("at")
class AT(Distiller):
    """AT: squares of differences of attention maps (Zagoruyko and Komodakis, ICLR 2017, §3.1).

    The attention of a stage is Σ_c x_c² at each position, as a vector of length 1. As in the
    authors' program the squared differences are averaged over positions and images and summed
    over stages; to that the weight belongs (10³ over the number of elements).

    Args:
        sides: shapes.
        weight: β.
    """

    def __init__(self, sides: Sides, *, weight: float = 1000.0) -> None:
        super().__init__()
        matched_indices(sides)
        self.weight = positive("weight", weight)

    def forward(self, pair: Pair) -> Tensor:
        """The loss of a batch."""
        losses = [(attention(s) - attention(t)).square().mean() for s, t in matched_maps(pair)]
        return self.weight * torch.stack(losses).sum()
