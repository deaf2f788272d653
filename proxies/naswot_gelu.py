"""NASWOT's codes where activations are GELUs: signs of what they are given."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from .block import BlockProbe
from .probe import Probe
from .registry import register_proxy
from .token_relations import transformer_layers

__all__ = ["naswot_gelu", "sign_kernel"]

#: Which of a layer's maps its activation is given: behind ``qkv`` and ``proj``.
FC1 = 2


def sign_kernel(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """How many units agree in sign between each two inputs, float64 ``[B, B]``.

    Args:
        x: ``[B, C, 1, N]``.
        mask: real tokens, bool ``[B, N]``: a unit of padding agrees by half with any other.
    """
    signs = torch.where(x > 0, 1.0, -1.0)
    if mask is not None and mask.shape[1] == x.shape[3]:
        signs = signs * mask[:, None, None, :]
    signs = signs.flatten(1)
    # Counts stay below 2²⁴, so float32 is exact.
    return (signs @ signs.T).double().add_(signs.shape[1]).mul_(0.5)


def _kernel(mask: Tensor | None, block: BlockProbe) -> Tensor:
    return sign_kernel(block.maps[FC1].detach(), mask)


@register_proxy(
    "naswot-gelu",
    source="NASWOT (Mellor et al., ICML 2021, §3, eq. 2), at GELUs",
    needs={"forward", "maps", "attention"},
)
def naswot_gelu(probe: Probe) -> float:
    """Log-determinant of the agreement of signs in front of the GELUs.

    GELU is about linear on either side of 0, as ReLU is: the sign says on which side a unit is.
    """
    blocks = transformer_layers(probe)
    kernel = sum(block.memo("sign_kernel", partial(_kernel, probe.mask)) for block in blocks)
    if not isinstance(kernel, Tensor):
        raise RuntimeError("naswot-gelu needs a Transformer's layers")
    return float(kernel.slogdet().logabsdet)
