"""Probabilistic knowledge transfer: who is whose neighbour."""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import positive
from ..distiller import Distiller, Pair, Sides, register_distiller
from ..relations import unit_rows

__all__ = ["PKT"]

#: Two images are never quite unlike.
TINY = 1e-7


@register_distiller("pkt")
class PKT(Distiller):
    """PKT: KL of the images' neighbourhoods (Passalis and Tefas, ECCV 2018, §3).

    p(j | i) ∝ (cos(xᵢ, xⱼ) + 1)/2 over the other images, x what the classifier is given; the
    loss is the mean over pairs of p_T · log(p_T/p_S). Widths need not match. The weight is that
    of the benchmark that most distillers report on (CRD: Tian et al., ICLR 2020, §A.1).

    Args:
        sides: shapes.
        weight: of the loss.
    """

    def __init__(self, sides: Sides, *, weight: float = 30000.0) -> None:  # noqa: ARG002
        super().__init__()
        self.weight = positive("weight", weight)

    def forward(self, pair: Pair) -> Tensor:
        """The loss of a batch."""
        target = _log_probabilities(pair.teacher.pooled.detach())
        given = _log_probabilities(pair.student.pooled)
        return self.weight * (target.exp() * (target - given)).sum() / len(pair.indices) ** 2


def _log_probabilities(features: Tensor) -> Tensor:
    """Logarithms of p(j | i) of the other images, ``[B, F]`` → ``[B, B − 1]``."""
    unit = unit_rows(features.flatten(1))
    kernel = ((unit @ unit.T + 1.0) / 2.0).clamp_min(TINY)
    others = ~torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    kernel = kernel[others].view(len(unit), -1)
    return kernel.log() - kernel.sum(dim=1, keepdim=True).log()
