"""Plain: how the loss changes as the weights grow."""

from __future__ import annotations

from .gradients import require_signal
from .probe import Probe
from .registry import register_proxy

__all__ = ["plain"]


@register_proxy(
    "plain",
    source="skeletonisation (Mozer & Smolensky, NeurIPS 1988) as a score: Abdelfattah et al.,"
    " ICLR 2021, §3.2",
    needs={"forward", "backward", "labels"},
)
def plain(probe: Probe) -> float:
    """Σ w ⊙ ∂L/∂w over convolutions and linear layers, with its sign.

    Cross-entropy on real labels, He initialisation, batch norm by batch statistics. The loss
    is the same at any scale of a weight that batch norm follows, so such a weight's part is
    zero (Euler): what counts is the classifier's, and a gate's. It knows little.
    """
    pairs = probe.gradients
    require_signal([pair.grad for pair in pairs])
    return sum(float((pair.value.double() * pair.grad.double()).sum()) for pair in pairs)
