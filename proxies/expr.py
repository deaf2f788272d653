"""Expressivity: how evenly the features of every block spread over their directions."""

from __future__ import annotations

import torch
from torch import Tensor

from .block import BlockProbe
from .group import BlockGroup
from .ledger import Reading
from .moments import moments
from .probe import Probe
from .registry import register_proxy

__all__ = ["block_entropy", "expr", "measure", "primary_blocks", "spectrum_entropy"]

_NAME = "spectrum entropy"


def spectrum_entropy(features: Tensor) -> float:
    """Entropy −Σ pᵢ ln pᵢ of the normalised eigenvalues of the features' covariance.

    Args:
        features: ``[B, C, H, W]``; the C×C covariance is taken over the B·H·W positions.

    Returns:
        Between 0 and ln C; NaN where all features are constant.
    """
    return float(_entropy(torch.linalg.eigvalsh(moments(features).gram)))


def _entropy(eigenvalues: Tensor) -> Tensor:
    """``[K, C]`` → ``[K]``."""
    eigenvalues = eigenvalues.clamp_min(0.0)
    p = eigenvalues / eigenvalues.sum(dim=1, keepdim=True)
    entropy: Tensor = torch.special.entr(p).sum(dim=1)
    return entropy


def _spectrum(grams: Tensor) -> tuple[Tensor, Reading]:
    return grams, _entropy


def measure(group: BlockGroup, seed: int = 0) -> None:  # noqa: ARG001
    """:func:`spectrum_entropy` of each block's output."""
    if group.is_primary:
        group.ledger.spectrum(group.blocks, _NAME, group.moments.gram, _spectrum)


def primary_blocks(probe: Probe) -> list[BlockProbe]:
    """The blocks between stem and head, shallow to deep."""
    return [block for block in probe.blocks if block.step.kind not in {"stem", "head"}]


def block_entropy(block: BlockProbe) -> float:
    """:func:`spectrum_entropy` of a block's output, computed once."""
    if _NAME not in block.numbers:
        block.numbers[_NAME] = spectrum_entropy(block.output)
    return block.numbers[_NAME]


@register_proxy(
    "expr",
    source="AZ-NAS (Lee & Ham, CVPR 2024, §3.2, expressivity), summed",
    needs={"forward"},
    on_blocks=measure,
    bfloat16=True,
)
def expr(probe: Probe) -> float:
    """Entropy of the feature covariance's spectrum, summed over block outputs.

    One forward, no labels. Initialisation N(0, 1), batch norm by batch statistics; real
    images (noise does as well). Seeds agree among themselves with τ about .70.
    """
    return sum(block_entropy(block) for block in primary_blocks(probe))
