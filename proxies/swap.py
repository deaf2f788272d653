"""SWAP: how many different things the network's ReLUs do on a batch.

Peng et al., "SWAP-NAS: Sample-Wise Activation Patterns for Ultra-fast NAS", ICLR 2024. The
pattern of a unit is on which of the B images it fires: one of 2^B. With few images every
network shows all of them, and the count tells no networks apart; so :data:`IMAGES` at least,
for whose 2³² patterns no network has the units.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .probe import BlockProbe, Probe
from .registry import register_proxy

__all__ = ["IMAGES", "swap", "swap_regularised"]

IMAGES = 32
"""Fewest images that are accepted."""

_BITS = 64
_NEEDS = {"forward", "relu"}


def unit_patterns(relu: Tensor) -> Tensor:
    """Where each unit fires, one bit an image.

    Args:
        relu: output of a ReLU, ``[B, C, H, W]``.

    Returns:
        int64 ``[C·H·W, ⌈B/64⌉]``.
    """
    fires = (relu > 0).flatten(1)
    words = fires.new_zeros(-(-len(fires) // _BITS), fires.shape[1], dtype=torch.int64)
    for i, row in enumerate(fires):
        words[i // _BITS] |= row.long() << (i % _BITS)
    return words.T


def distinct(patterns: Tensor) -> Tensor:
    """The different rows of int64 ``[N, words]``."""
    # One word is sorted some ten times faster as a number than as a row.
    rows: Tensor
    if patterns.shape[1] == 1:
        rows = torch.unique(patterns[:, 0]).unsqueeze(1)
    else:
        rows = torch.unique(patterns, dim=0)
    return rows


def _block_patterns(block: BlockProbe) -> Tensor | None:
    """The different patterns inside a block; ``None`` where it has no ReLU."""
    if not block.relus:
        return None
    return distinct(torch.cat([unit_patterns(relu.detach()) for relu in block.relus]))


@register_proxy(
    "swap", source="SWAP-NAS (Peng et al., ICLR 2024, SWAP-Score)", needs=_NEEDS, images=IMAGES
)
def swap(probe: Probe) -> float:
    """Number of different sign patterns of the ReLUs' units over the batch.

    One forward, no labels. Published with 16 to 32 images and averaged over 32
    initialisations; grows with the batch, so values under other sizes are not comparable.
    """
    found = [block.memo("swap_patterns", _block_patterns) for block in probe.blocks]
    return float(len(distinct(torch.cat([words for words in found if words is not None]))))


@register_proxy(
    "swap-regularised",
    source="SWAP-NAS (Peng et al., ICLR 2024, regularised SWAP-Score)",
    needs={*_NEEDS, "network"},
    images=IMAGES,
)
def swap_regularised(probe: Probe) -> float:
    """SWAP × exp(−(P − μ)²/σ), P parameters; μ those of the nested network, σ = μ².

    The paper sets μ and σ by hand for each space, in thousands of parameters. Under a σ that
    does not fit the space the factor underflows to 0 for most networks; with ours it is at
    least 1/e and grows with P, since the nested network holds every candidate.
    """
    if probe.network is None:
        raise RuntimeError("swap-regularised needs the nested network")
    largest = sum(parameter.numel() for parameter in probe.network.parameters())
    return swap(probe) * math.exp(-((probe.costs["params"] / largest - 1.0) ** 2))
