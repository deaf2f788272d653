"""AZ-NAS: expressivity, progressivity, trainability and complexity of a network's blocks.

Lee & Ham, "AZ-NAS: Assembling Zero-Cost Proxies for Network Architecture Search", CVPR 2024,
§3.2; the ensemble ``az-nas`` is the sum of their log-ranks (§3.3). Published with N(0, 1) noise
for images; here the batch's, by the forward that all proxies share, which rank as well. Batch
norm by batch statistics. A *block* is a step of the forward pass between stem and head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..searchspace.errors import InvalidInputError
from .expr import block_entropy, primary_blocks
from .expr import measure as measure_entropy
from .group import BlockGroup
from .ledger import Reading
from .moments import cross
from .probe import Probe
from .registry import register_proxy

__all__ = [
    "az_complexity",
    "az_expressivity",
    "az_progressivity",
    "az_trainability",
    "block_stretches",
    "measure_stretch",
]

_SOURCE = "AZ-NAS (Lee & Ham, CVPR 2024, §3.2)"
_EPS = 1e-6


@register_proxy(
    "az-expressivity",
    source=f"{_SOURCE}, expressivity",
    needs={"forward"},
    on_blocks=measure_entropy,
    bfloat16=True,
)
def az_expressivity(probe: Probe) -> float:
    """Σ over blocks of the entropy of the feature covariance's spectrum: expr."""
    return sum(block_entropy(block) for block in primary_blocks(probe))


@register_proxy(
    "az-progressivity",
    source=f"{_SOURCE}, progressivity",
    needs={"forward"},
    on_blocks=measure_entropy,
    bfloat16=True,
)
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


#: What the ledger calls σ, and whether a block is the identity, which has none.
_STRETCH, _IDENTITY = "gradient stretch", "identity"


def measure_stretch(group: BlockGroup, seed: int) -> None:
    """σ of each block, see :func:`az_trainability`, from one gradient of all at once."""
    if not group.is_primary:
        return
    g_in, g_out = block_gradients(group, seed)
    same = _same(g_in, g_out, group.images)
    group.ledger.number(group.blocks, _IDENTITY, same, formula=Tensor.double)
    positions = group.images * g_out.shape[2] * g_out.shape[3]
    products = cross(g_in, g_out, group.images) / positions
    group.ledger.spectrum(group.blocks, _STRETCH, products, _singular)


def _singular(products: Tensor) -> tuple[Tensor, Reading]:
    """The largest singular value of matrices ``[k, m, n]``."""
    products = products.double()
    if products.shape[1] < products.shape[2]:
        products = products.mT
    return products.mT @ products, lambda values: values[:, -1].clamp_min(0.0).sqrt()


def _same(a: Tensor, b: Tensor, images: int) -> Tensor:
    """Whether maps are equal, candidate by candidate, ``[K]``."""
    if a.shape != b.shape:
        return torch.zeros(len(a) // images, dtype=torch.bool, device=a.device)
    if len(a) == images and a.device.type == "cpu":
        return torch.tensor([torch.equal(a, b)])  # ends at the first difference
    same: Tensor = (a == b).unflatten(0, (-1, images)).flatten(1).all(dim=1)
    return same


@register_proxy(
    "az-trainability",
    source=f"{_SOURCE}, trainability",
    needs={"forward", "block_gradients"},
    on_blocks=measure_stretch,
    bfloat16=True,
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
    found = [block.numbers for block in primary_blocks(probe)]
    return [numbers[_STRETCH] for numbers in found if not numbers[_IDENTITY]]


def block_gradients(group: BlockGroup, seed: int) -> tuple[Tensor, Tensor]:
    """Random ±1 at blocks' outputs, the same for each candidate, and their gradient at the inputs.

    Returns:
        G_in ``[K·B, C, H, W]`` and G_out ``[K·B, C', h, w]``.
    """
    if not group.output.requires_grad:
        raise RuntimeError("the block is in no graph: its proxies declared no block_gradients")
    shape = torch.Size((group.images, *group.output.shape[1:]))
    signs = _signs(shape, seed).to(group.output)
    # Unlike `repeat`, `cat` leaves the memory layout.
    g_out = torch.cat([signs] * len(group.blocks)) if len(group.blocks) > 1 else signs
    # The graph may be part of a longer one, and is let go with the block's tensors.
    (g_in,) = torch.autograd.grad(group.output, group.given, g_out, retain_graph=True)
    return g_in, g_out


class Signs:
    """Random ±1 in a byte each, the last ones kept: drawing takes longer than a convolution.

    Args:
        most: bytes that are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[tuple[torch.Size, int], Tensor] = {}

    @property
    def held(self) -> int:
        """Bytes kept."""
        return sum(signs.numel() for signs in self._kept.values())

    def __call__(self, shape: torch.Size, seed: int) -> Tensor:
        """Signs of a shape ``[B, C, H, W]``, equal for equal seeds; not to be changed."""
        signs = self._kept.pop((shape, seed), None)
        if signs is None:
            generator = torch.Generator().manual_seed(seed)
            drawn = torch.empty(shape).bernoulli_(0.5, generator=generator).mul_(2.0).sub_(1.0)
            signs = drawn.to(torch.int8).contiguous(memory_format=torch.channels_last)
        self._kept[shape, seed] = signs  # the last of all
        while self.held > self._most:
            del self._kept[next(iter(self._kept))]
        return signs


#: Of 64 CIFAR images those of any network at hand; of large images those of the last few blocks.
_signs = Signs(64 * 2**20)


def gradient_stretch(g_in: Tensor, g_out: Tensor) -> float:
    """‖G_inᵀ G_out / (B·h·w)‖₂, a patch of G_in for each position of G_out.

    Args:
        g_in: ``[B, C, H, W]``.
        g_out: ``[B, C', h, w]``.
    """
    positions = len(g_out) * g_out.shape[2] * g_out.shape[3]
    squares, read = _singular(cross(g_in, g_out) / positions)
    return float(read(torch.linalg.eigvalsh(squares)))


@register_proxy("az-complexity", source=f"{_SOURCE}, complexity")
def az_complexity(probe: Probe) -> float:
    """FLOPs of one image, 2 × MACs."""
    return probe.costs["flops"]
