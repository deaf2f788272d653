"""Neuron selectivity transfer: what each channel responds to."""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import positive
from ..distiller import Distiller, Pair, Sides, register_distiller
from ..matching import matched_indices, matched_maps
from ..relations import neuron_selectivity

__all__ = ["NST"]


@register_distiller("nst")
class NST(Distiller):
    """NST: MMD² of the channels' maps, kernel ⟨x, y⟩² (Huang and Wang, 2017, §4).

    Each channel of an image is a vector over positions, of length 1; the two networks' channels
    are samples of which the mean discrepancy is taken, stage by stage. So widths need not match.

    Args:
        sides: shapes.
        weight: λ of the polynomial kernel on CIFAR.
    """

    def __init__(self, sides: Sides, *, weight: float = 50.0) -> None:
        super().__init__()
        matched_indices(sides)
        self.weight = positive("weight", weight)

    def forward(self, pair: Pair) -> Tensor:
        """The loss of a batch."""
        losses = [neuron_selectivity(s, t) for s, t in matched_maps(pair)]
        return self.weight * torch.stack(losses).sum()
