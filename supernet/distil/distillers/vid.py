"""Variational information distillation: the teacher's maps predicted, with their variance."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..checks import positive
from ..distiller import Distiller, Pair, Sides, register_distiller
from ..layers import generator_of, one_by_one
from ..matching import matched_channels, matched_maps

__all__ = ["VID"]

#: Least variance, and the one at the start, of the authors' program.
LEAST, START = 1e-5, 5.0


@register_distiller("vid")
class VID(Distiller):
    """VID: −log q(teacher's map | student's), q Gaussian (Ahn et al., CVPR 2019, §3).

    A stage's loss is the mean of ½ (x_T − μ(x_S))²/σ_c² + ½ log σ_c² over images, channels and
    positions, the sum over stages is taken; ½ log 2π is left out. μ is learnt, three 1×1
    convolutions with ReLU between them, and so is a variance a channel, σ_c² = softplus(s_c) +
    1e-5, which starts at 5.

    Args:
        sides: shapes.
        weight: λ.
    """

    zero_at_teacher = False

    def __init__(self, sides: Sides, *, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = positive("weight", weight)
        generator = generator_of(sides.seed)
        self.means = nn.ModuleList()
        self.scales = nn.ParameterList()
        for student, teacher in matched_channels(sides):
            widths = (student, teacher, teacher, teacher)
            convs = [one_by_one(*both, generator) for both in pairwise(widths)]
            self.means.append(nn.Sequential(convs[0], nn.ReLU(), convs[1], nn.ReLU(), convs[2]))
            self.scales.append(torch.full((teacher,), math.log(math.expm1(START - LEAST))))

    def forward(self, pair: Pair) -> Tensor:
        """The loss of a batch."""
        losses = []
        maps = matched_maps(pair)
        for (student, teacher), mean, scale in zip(maps, self.means, self.scales, strict=True):
            variance = functional.softplus(scale).view(1, -1, 1, 1) + LEAST
            squares = (mean(student) - teacher).square()
            losses.append(0.5 * (squares / variance + variance.log()).mean())
        return self.weight * torch.stack(losses).sum()
