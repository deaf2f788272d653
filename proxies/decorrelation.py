"""Decorrelation: how far the channels of every layer are from repeating one another."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from .group import BlockGroup
from .ledger import Reading
from .moments import moments
from .probe import Probe
from .registry import register_proxy

__all__ = ["decorrelation"]

_NAME = "decorrelated channels"


#: Deviation, of the largest, under which a channel is taken for constant: what rounding leaves.
#: Behind batch norm, whose eps lifts it to a few thousandths, that is more.
_CONSTANT, _CONSTANT_NORMED = 1e-6, 1e-2


def _least(constant: float, grams: Tensor) -> tuple[Tensor, Reading]:
    """Correlations of Gram matrices ``[k, C, C]``; their smallest eigenvalue, times C."""
    grams = grams.double()
    scale = grams.diagonal(dim1=1, dim2=2).clamp_min(0.0).sqrt()
    varies = (scale > constant * scale.amax(dim=1, keepdim=True)).all(dim=1)
    scale = torch.where(varies[:, None], scale, torch.ones_like(scale))
    correlations = grams / scale.unsqueeze(1) / scale.unsqueeze(2)

    def read(values: Tensor) -> Tensor:
        least = values[:, 0].clamp_min(0.0)
        # What is not finite stays so, for the candidate to fail.
        follows = ~varies & least.isfinite()
        return torch.where(follows, torch.zeros_like(least), least * values.shape[1])

    return correlations, read


_RAW, _NORMED = partial(_least, _CONSTANT), partial(_least, _CONSTANT_NORMED)


def least_eigenvalue(features: Tensor) -> float:
    """Smallest eigenvalue of the correlation of channels over all positions of all images.

    Args:
        features: ``[B, C, H, W]``.

    Returns:
        In [0, 1]: 0 where one channel follows from the others, 1 where none is correlated. A
        constant channel follows from any.
    """
    correlations, read = _RAW(moments(features).gram)
    return float(read(torch.linalg.eigvalsh(correlations))) / features.shape[1]


def measure(group: BlockGroup, seed: int = 0) -> None:  # noqa: ARG001
    """Σ over a block's layers of channels times the smallest eigenvalue."""
    for gram, owners, normed in group.maps:
        group.ledger.spectrum(owners, _NAME, gram, _NORMED if normed else _RAW)


@register_proxy(
    "decorrelation",
    source="MeCo (Jiang et al., NeurIPS 2023), over a batch and by channels; ours",
    needs={"forward", "map_moments"},
    on_blocks=measure,
    bfloat16=True,
)
def decorrelation(probe: Probe) -> float:
    """Σ over layers of channels times the smallest eigenvalue of their correlation.

    A lower bound of how many channels are not told by the others. MeCo takes one image, which
    gives layers of few positions 0 and one seed little to do with another, and counts a narrow
    layer like a wide one; over a batch, and by channels, neither holds. Convolutions before
    batch norm (and a Transformer's linear layers), one forward, no labels; initialisation
    N(0, 1), batch norm by batch statistics.
    """
    return sum(block.numbers.get(_NAME, 0.0) for block in probe.blocks)
