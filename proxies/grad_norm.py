"""Gradient norm at initialisation."""

from __future__ import annotations

from .probe import Probe
from .registry import register_proxy

__all__ = ["grad_norm"]


@register_proxy(
    "grad_norm",
    source="Abdelfattah et al., ICLR 2021, §3.1",
    needs={"forward", "backward", "labels"},
)
def grad_norm(probe: Probe) -> float:
    """Σ ‖∂L/∂w‖₂ over convolutions and linear layers.

    Cross-entropy on real labels, He initialisation, batch norm by batch statistics. Values
    under other initialisations are not comparable.
    """
    return sum(float(pair.grad.norm()) for pair in probe.gradients)
