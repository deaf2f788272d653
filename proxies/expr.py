"""Expressivity: how evenly the features of every block spread over their directions."""

from __future__ import annotations

import torch
from torch import Tensor

from .probe import BlockProbe, Probe
from .registry import register_proxy

__all__ = ["block_entropy", "expr", "primary_blocks"]


def spectrum_entropy(features: Tensor) -> float:
    """Entropy −Σ pᵢ ln pᵢ of the normalised eigenvalues of the features' covariance.

    Args:
        features: ``[B, C, H, W]``; the C×C covariance is taken over the B·H·W positions.

    Returns:
        Between 0 and ln C; NaN where all features are constant.
    """
    rows = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
    # Centring first keeps the small eigenvalues, which E[xxᵀ] − μμᵀ would cancel away.
    rows = rows - rows.mean(dim=0)
    eigenvalues = torch.linalg.eigvalsh((rows.T @ rows).double()).clamp_min(0.0)
    p = eigenvalues / eigenvalues.sum()
    return float(torch.special.entr(p).sum())


def _block_entropy(block: BlockProbe) -> float:
    return spectrum_entropy(block.output.detach())


def primary_blocks(probe: Probe) -> list[BlockProbe]:
    """The blocks between stem and head, shallow to deep."""
    return [block for block in probe.blocks if block.step.kind not in {"stem", "head"}]


def block_entropy(block: BlockProbe) -> float:
    """:func:`spectrum_entropy` of a block's output, computed once."""
    return block.memo("spectrum_entropy", _block_entropy)


@register_proxy(
    "expr", source="AZ-NAS (Lee & Ham, CVPR 2024, §3.2, expressivity), summed", needs={"forward"}
)
def expr(probe: Probe) -> float:
    """Entropy of the feature covariance's spectrum, summed over block outputs.

    One forward, no labels. Initialisation N(0, 1), batch norm by batch statistics; real
    images (noise does as well). Seeds agree among themselves with τ about .70.
    """
    return sum(block_entropy(block) for block in primary_blocks(probe))
