"""SNIP: how much the loss hangs on the weights."""

from __future__ import annotations

from .probe import Probe
from .registry import register_proxy

__all__ = ["snip"]


@register_proxy(
    "snip",
    source="SNIP (Lee et al., ICLR 2019, eq. 4) as a score: Abdelfattah et al., ICLR 2021, §3.2",
    needs={"forward", "backward", "labels"},
)
def snip(probe: Probe) -> float:
    """Σ |w ⊙ ∂L/∂w| over convolutions and linear layers.

    Cross-entropy on real labels, He initialisation, batch norm by batch statistics.
    """
    return sum(float((pair.value * pair.grad).abs().sum()) for pair in probe.gradients)
