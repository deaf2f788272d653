"""Jacov: how little the network's responses to different images have in common."""

from __future__ import annotations

import torch
from torch import Tensor

from .probe import Probe
from .registry import register_proxy

__all__ = ["jacov"]

K = 1e-5


def correlation_score(jacobian: Tensor) -> float:
    """−Σ [log(v + k) + 1/(v + k)] over the eigenvalues of the rows' correlation, k = 1e-5.

    Args:
        jacobian: one row an image, ``[B, D]``.

    Returns:
        At most −B, which images without any correlation reach.
    """
    rows = jacobian.double()
    rows = rows - rows.mean(dim=1, keepdim=True)
    rows = rows / rows.norm(dim=1, keepdim=True)
    eigenvalues = torch.linalg.eigvalsh(rows @ rows.T).clamp_min(0.0) + K
    return -float((eigenvalues.log() + 1.0 / eigenvalues).sum())


@register_proxy(
    "jacov",
    source="Mellor et al., arXiv 2006.04647v1 (§3); Abdelfattah et al., ICLR 2021, §3.2",
    needs={"forward", "input_gradient"},
)
def jacov(probe: Probe) -> float:
    """Spread of the eigenvalues of the correlation of input gradients between images.

    One gradient of the summed logits at the images, no labels. Seeds agree among themselves
    with ρ about .5 only.
    """
    return correlation_score(probe.input_gradient)
