"""What can be read off a network's weights without running it."""

from __future__ import annotations

import math

from torch import nn

from .probe import Probe
from .registry import register_proxy

__all__ = ["l2_norm", "layers"]


def _weighted(probe: Probe) -> list[nn.Conv2d | nn.Linear]:
    modules = probe.standalone().modules()
    return [module for module in modules if isinstance(module, nn.Conv2d | nn.Linear)]


@register_proxy(
    "l2_norm", source="Abdelfattah et al., ICLR 2021, §3.1", needs={"forward", "network"}
)
def l2_norm(probe: Probe) -> float:
    """Σ ‖w‖₂ over convolutions and the classifier at He initialisation, or as given.

    A measure of size in disguise: at initialisation the norm grows with the root of the
    output channels.
    """
    total = 0.0
    for module in _weighted(probe):
        gain = 2.0 if isinstance(module, nn.Conv2d) else 1.0
        scale = 1.0 if probe.given else math.sqrt(gain / module.weight[0].numel())
        total += scale * float(module.weight.detach().norm())
    return total


@register_proxy("layers", source="baseline", needs={"forward", "network"})
def layers(probe: Probe) -> float:
    """Number of convolutions and linear layers."""
    return float(len(_weighted(probe)))
