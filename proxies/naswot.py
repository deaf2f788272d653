"""NASWOT: how differently the network's ReLUs fire on different images."""

from __future__ import annotations

from torch import Tensor

from .probe import BlockProbe, Probe
from .registry import register_proxy

__all__ = ["naswot"]


def hamming_kernel(relus: list[Tensor]) -> Tensor:
    """Σ ccᵀ + (1−c)(1−c)ᵀ over ReLUs, c = 1[x > 0] as ``[B, units]``; returns ``[B, B]``.

    The agreement of two codes of ±1 is (units + s sᵀ)/2: one product in place of two. Counts
    stay below 2²⁴, so float32 is exact.
    """
    total = relus[0].new_zeros(len(relus[0]), len(relus[0])).double()
    for relu in relus:
        signs = (relu > 0).flatten(1).to(relu.dtype).mul_(2.0).sub_(1.0)
        total += (signs @ signs.T).double().add_(signs.shape[1]).mul_(0.5)
    return total


def _block_kernel(block: BlockProbe) -> Tensor:
    return hamming_kernel([relu.detach() for relu in block.relus])


@register_proxy(
    "naswot",
    source="NASWOT (Mellor et al., ICML 2021, §3, eq. 2)",
    needs={"forward", "relu"},
)
def naswot(probe: Probe) -> float:
    """Log-determinant of the ReLU codes' agreement kernel.

    One forward, no labels. A singular kernel (two images with the same code everywhere) gives
    −∞, which is recorded as a failure.
    """
    # A preactivated network's stem has none.
    rectified = [block for block in probe.blocks if block.relus]
    kernel = sum(block.memo("relu_kernel", _block_kernel) for block in rectified)
    if not isinstance(kernel, Tensor):
        raise RuntimeError("naswot needs at least one ReLU")
    return float(kernel.slogdet().logabsdet)
