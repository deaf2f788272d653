"""Expressivity: how evenly the features of every block spread over their directions."""

from __future__ import annotations

import torch
from torch import Tensor

from .probe import BlockProbe, Probe
from .registry import register_proxy

__all__ = ["block_entropy", "block_moments", "expr", "moments", "primary_blocks"]


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Means of channels and the Gram matrix of what is left of them, in float64.

    Args:
        features: ``[B, C, H, W]``, read as B·H·W positions.

    Returns:
        ``[C]`` and ``[C, C]``.
    """
    rows = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
    mean = rows.mean(dim=0)
    # Centring first keeps the small eigenvalues, which E[xxᵀ] − μμᵀ would cancel away.
    rows = rows - mean
    return mean.double(), (rows.T @ rows).double()


def spectrum_entropy(features: Tensor) -> float:
    """Entropy −Σ pᵢ ln pᵢ of the normalised eigenvalues of the features' covariance.

    Args:
        features: ``[B, C, H, W]``; the C×C covariance is taken over the B·H·W positions.

    Returns:
        Between 0 and ln C; NaN where all features are constant.
    """
    return _entropy(moments(features)[1])


def _entropy(gram: Tensor) -> float:
    eigenvalues = torch.linalg.eigvalsh(gram).clamp_min(0.0)
    p = eigenvalues / eigenvalues.sum()
    return float(torch.special.entr(p).sum())


def block_moments(block: BlockProbe) -> tuple[Tensor, Tensor]:
    """:func:`moments` of a block's output, computed once."""
    return block.memo("moments", lambda block: moments(block.output.detach()))


def _block_entropy(block: BlockProbe) -> float:
    return _entropy(block_moments(block)[1])


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
