"""Decorrelation: how far the channels of every layer are from repeating one another."""

from __future__ import annotations

import torch
from torch import Tensor

from .expr import moments
from .probe import BlockProbe, Probe
from .registry import register_proxy

__all__ = ["decorrelation"]


def least_eigenvalue(features: Tensor) -> float:
    """Smallest eigenvalue of the correlation of channels over all positions of all images.

    Args:
        features: ``[B, C, H, W]``.

    Returns:
        In [0, 1]: 0 where one channel follows from the others, 1 where none is correlated. A
        constant channel follows from any.
    """
    covariance = moments(features)[1]
    scale = covariance.diagonal().sqrt()
    if not bool((scale > 1e-6 * scale.max()).all()):
        return 0.0
    correlation = covariance / scale / scale.unsqueeze(1)
    return float(torch.linalg.eigvalsh(correlation)[0].clamp_min(0.0))


def _decorrelated(block: BlockProbe) -> float:
    return sum(x.shape[1] * least_eigenvalue(x.detach()) for x in block.maps)


def decorrelated_channels(block: BlockProbe, seed: int = 0) -> float:  # noqa: ARG001
    """Σ over a block's layers of channels times the smallest eigenvalue, computed once."""
    return block.memo("decorrelated channels", _decorrelated)


@register_proxy(
    "decorrelation",
    source="MeCo (Jiang et al., NeurIPS 2023), over a batch and by channels; ours",
    needs={"forward", "maps"},
    on_block=decorrelated_channels,
)
def decorrelation(probe: Probe) -> float:
    """Σ over layers of channels times the smallest eigenvalue of their correlation.

    A lower bound of how many channels are not told by the others. MeCo takes one image, which
    gives layers of few positions 0 and one seed little to do with another, and counts a narrow
    layer like a wide one; over a batch, and by channels, neither holds. Convolutions before
    batch norm (and a Transformer's linear layers), one forward, no labels; initialisation
    N(0, 1), batch norm by batch statistics.
    """
    return sum(map(decorrelated_channels, probe.blocks))
