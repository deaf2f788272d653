"""AZ-NAS: expressivity, progressivity, trainability and complexity of a network's blocks.

Lee & Ham, "AZ-NAS: Assembling Zero-Cost Proxies for Network Architecture Search", CVPR 2024,
§3.2; the ensemble ``az-nas`` is the sum of their log-ranks (§3.3). Published with N(0, 1) noise
for images; here the batch's, by the forward that all proxies share, which rank as well. Batch
norm by batch statistics. A *block* is a step of the forward pass between stem and head.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial

import torch
from torch import Tensor
from torch.nn import functional

from ..searchspace.errors import InvalidInputError
from .expr import block_entropy, primary_blocks
from .probe import BlockProbe, Probe
from .registry import register_proxy

__all__ = [
    "az_complexity",
    "az_expressivity",
    "az_progressivity",
    "az_trainability",
    "block_stretches",
    "stretch_of",
]

_SOURCE = "AZ-NAS (Lee & Ham, CVPR 2024, §3.2)"
_EPS = 1e-6


@register_proxy("az-expressivity", source=f"{_SOURCE}, expressivity", needs={"forward"})
def az_expressivity(probe: Probe) -> float:
    """Σ over blocks of the entropy of the feature covariance's spectrum: expr."""
    return sum(block_entropy(block) for block in primary_blocks(probe))


@register_proxy("az-progressivity", source=f"{_SOURCE}, progressivity", needs={"forward"})
def az_progressivity(probe: Probe) -> float:
    """Least growth of the spectrum's entropy from one block to the next.

    A network of one block has no next: its growth is over what the block is given.
    """
    blocks = primary_blocks(probe)
    if len(blocks) == 1:
        first = probe.blocks.index(blocks[0])
        blocks = [*probe.blocks[max(first - 1, 0) : first], *blocks]
    if len(blocks) < 2:
        raise InvalidInputError("progressivity needs two outputs to compare; there are fewer")
    entropies = torch.tensor([block_entropy(block) for block in blocks], dtype=torch.float64)
    return float(entropies.diff().min())  # NaN where one is


@register_proxy(
    "az-trainability",
    source=f"{_SOURCE}, trainability",
    needs={"forward", "block_gradients"},
    on_block=lambda block, seed: stretch_of(block, seed),
)
def az_trainability(probe: Probe) -> float:
    """Mean over blocks of 2 − σ − 1/(σ + 1e-6), σ the gradient's largest stretch; at most 0.

    σ = ‖G_inᵀ G_out / (B·h·w)‖₂, G_out random ±1 at the block's output, one draw a seed, and
    G_in what it becomes at the input; 0 is a block that keeps gradients as long as they were.
    Where the block shrinks the map s-fold, each s × s patch of G_in counts as one position of
    s²·C channels. Blocks that are the identity say nothing of gradients and are left out (the
    released code gives such convnets −∞ and skips the block in Transformers); a network of
    nothing else fails.
    """
    scores = [2.0 - s - 1.0 / (s + _EPS) for s in block_stretches(probe)]
    if not scores:
        raise InvalidInputError("every block is the identity: none has a trainability")
    return math.fsum(scores) / len(scores)


def block_stretches(probe: Probe) -> list[float]:
    """σ of every block that is not the identity, shallow to deep."""
    found = [stretch_of(block, probe.seed) for block in primary_blocks(probe)]
    return [stretch for stretch in found if stretch is not None]


def stretch_of(block: BlockProbe, seed: int) -> float | None:
    """σ of a block; ``None`` for the identity. Computed once a block, as it is run."""
    return block.memo("gradient_stretch", partial(_stretch, seed))


def _stretch(seed: int, block: BlockProbe) -> float | None:
    g_in, g_out = block_gradients(block, seed)
    if g_in.shape == g_out.shape and torch.equal(g_in, g_out):
        return None
    return gradient_stretch(g_in, g_out)


def block_gradients(block: BlockProbe, seed: int) -> tuple[Tensor, Tensor]:
    """Random ±1 at a block's output, and its gradient at the input.

    Returns:
        G_in ``[B, C, H, W]`` and G_out ``[B, C', h, w]``.
    """
    if block.given is None:
        raise RuntimeError("the block is in no graph: its proxies declared no block_gradients")
    g_out = _signs(block.output.shape, seed).to(block.output)
    # The graph may be part of a longer one, and is let go with the block's tensors.
    (g_in,) = torch.autograd.grad(block.output, block.given, g_out, retain_graph=True)
    return g_in, g_out


@lru_cache(maxsize=16)
def _signs(shape: torch.Size, seed: int) -> Tensor:
    """Random ±1 in a byte each, never changed: drawing takes longer than a convolution."""
    generator = torch.Generator().manual_seed(seed)
    signs = torch.empty(shape).bernoulli_(0.5, generator=generator).mul_(2.0).sub_(1.0)
    return signs.to(torch.int8).contiguous(memory_format=torch.channels_last)


def gradient_stretch(g_in: Tensor, g_out: Tensor) -> float:
    """‖G_inᵀ G_out / (B·h·w)‖₂, positions of both matched by :func:`to_depth`.

    Args:
        g_in: ``[B, C, H, W]``.
        g_out: ``[B, C', h, w]``.
    """
    rows_out = g_out.permute(0, 2, 3, 1).reshape(-1, g_out.shape[1])
    rows_in = to_depth(g_in, g_out.shape[2], g_out.shape[3])
    product = (rows_in.T @ rows_out).double() / len(rows_out)
    if product.shape[0] < product.shape[1]:
        product = product.T
    return float(torch.linalg.eigvalsh(product.T @ product)[-1].clamp_min(0.0).sqrt())


def to_depth(x: Tensor, height: int, width: int) -> Tensor:
    """Patches of a map as channels, so that ``height × width`` positions are left.

    Zeros fill up the last patches where the sides are no multiples.

    Args:
        x: ``[B, C, H, W]``.
        height: at most H.
        width: at most W.

    Returns:
        ``[B·height·width, C·s·t]``, s × t the patch.
    """
    s, t = -(-x.shape[2] // height), -(-x.shape[3] // width)
    x = functional.pad(x, (0, t * width - x.shape[3], 0, s * height - x.shape[2]))
    patches: Tensor = x.unflatten(3, (width, t)).unflatten(2, (height, s))  # [B, C, h, s, w, t]
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(len(x) * height * width, -1)


@register_proxy("az-complexity", source=f"{_SOURCE}, complexity")
def az_complexity(probe: Probe) -> float:
    """FLOPs of one image, 2 × MACs."""
    return probe.costs["flops"]
