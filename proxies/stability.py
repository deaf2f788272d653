"""Gradient stability: blocks that neither swell nor shrink what passes back through them."""

from __future__ import annotations

import math

from ..searchspace.errors import InvalidInputError
from .az_nas import block_stretches, measure_stretch
from .probe import Probe
from .registry import register_proxy

__all__ = ["gradient_stability"]

#: Stretch that is not held against a block, either way.
FACTOR = 2.0


@register_proxy(
    "gradient-stability",
    source="AZ-NAS (Lee & Ham, CVPR 2024, §3.2, trainability), with a tolerance; ours",
    needs={"forward", "block_gradients"},
    on_blocks=measure_stretch,
    bfloat16=True,
)
def gradient_stability(probe: Probe) -> float:
    """Mean over blocks of how far they stretch a gradient beyond a factor of 2; at most 0.

    min(0, 2 + ½ − σ − 1/σ), σ as in ``az-trainability``: 0 for σ from ½ to 2. Within that,
    trainability tells the kinds of blocks apart and not how well they train, and a rank would
    make as much of it as of a block that stops gradients: between residual networks it is a
    hundredth, between cells of NAS-Bench-201 it reaches 26. One forward and the blocks'
    gradients at their inputs, no labels; initialisation N(0, 1), batch norm by batch
    statistics. A network of nothing but identities fails.
    """
    stretches = block_stretches(probe)
    if not stretches:
        raise InvalidInputError("every block is the identity: none passes a gradient to judge")
    slack = FACTOR + 1.0 / FACTOR
    return math.fsum(min(0.0, slack - s - 1.0 / (s + 1e-6)) for s in stretches) / len(stretches)
