"""Fisher: how much the loss hangs on every channel's activations."""

from __future__ import annotations

from .probe import Probe
from .registry import register_proxy

__all__ = ["fisher"]


@register_proxy(
    "fisher",
    source="BlockSwap (Turner et al., ICLR 2020, §3.2) as a score: Abdelfattah et al., ICLR 2021",
    needs={"forward", "backward", "labels", "maps"},
)
def fisher(probe: Probe) -> float:
    """Σ over channels of ½ · meanₙ (Σ_hw a · ∂L/∂a)², a the outputs of convolutions.

    Cross-entropy on real labels, the mean over the batch inside; batch norm by batch
    statistics, so that the weights' scale is of no matter. In a Transformer, of its linear
    layers too, at He scale, the positions its tokens.
    """
    total = 0.0
    for pair in probe.map_gradients:
        flow = (pair.value * pair.grad).sum(dim=(2, 3))
        total += float(flow.square().mean(dim=0).sum()) / 2.0
    return total
