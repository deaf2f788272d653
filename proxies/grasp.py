"""GraSP: what the weights do for the flow of gradient."""

from __future__ import annotations

from .gradients import require_signal
from .probe import Probe
from .registry import register_proxy

__all__ = ["grasp"]


@register_proxy(
    "grasp",
    source="GraSP (Wang et al., ICLR 2020, eq. 8) as a score: Abdelfattah et al., ICLR 2021, §3.2",
    needs={"forward", "backward", "hessian", "labels"},
)
def grasp(probe: Probe) -> float:
    """Σ −w ⊙ (H g) over convolutions and linear layers, H and g the loss's Hessian and gradient.

    Sign as in both papers: −w(Hg) is the gradient flow that is lost without the weight, to first
    order, so more is better; some codes have it the other way round. Of a weight that batch norm
    follows it is ‖g‖², since g shrinks as 1/s when w grows by s. Cross-entropy at temperature 1
    on real labels, one batch, He initialisation, batch norm by batch statistics. One backward
    and one through it.
    """
    require_signal([pair.grad for pair in probe.gradients])
    total = 0.0
    for pair, product in zip(probe.gradients, probe.hessian_gradients, strict=True):
        total -= float((pair.value.double() * product.double()).sum())
    return total
