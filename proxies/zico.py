"""ZiCo: how steady each weight's gradient is from batch to batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from ..searchspace.elastic import Step
from .gradients import differentiate
from .padding import cleared
from .probe import Probe
from .registry import register_proxy

__all__ = ["steadiness", "zico"]

HALVES = 2
SMALLEST = 2
"""Images of a half: of one image a 1×1 map has no statistics."""


def steadiness(grads: Tensor) -> float:
    """Log Σ mean|g| / std(g) over weights; 0 where no weight's gradient varies.

    Args:
        grads: one row a batch, ``[k, weights]``. The deviation is of the signed gradients, over
            k and not k − 1. Weights without one (dead, so zero in every batch) are left out.

    Returns:
        NaN where a gradient is not finite.
    """
    deviations = (grads - grads.mean(dim=0)).square().mean(dim=0).sqrt()
    if not bool(deviations.isfinite().all()):
        return math.nan
    varies = deviations > 0
    total = float((grads.abs().mean(dim=0)[varies] / deviations[varies]).double().sum())
    return math.log(total) if total > 0.0 else 0.0


def _half_gradients(probe: Probe, half: int) -> list[Tensor]:
    """Cross-entropy's gradients on one half of the batch, at N(0, 1) or given weights."""
    network, images = probe.network, probe.images
    if network is None or images is None:
        raise RuntimeError("zico needs the nested network and the batch")

    part = images.detach().tensor_split(HALVES)[half]

    def run(step: Step, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        trace = probe.trace(part, want_weights=True)
        return cleared(network.run_step(step, x, trace), trace), trace.weights

    with torch.enable_grad():
        final_map, used = probe.along(f"zico {half}", part, run)
        trace = probe.trace(part, want_weights=True)
        logits, classifier = probe.head(final_map, trace)
        loss = functional.cross_entropy(logits, probe.labels.tensor_split(HALVES)[half])
        leaves = [weight for weights in (*used, trace.weights) for weight in weights]
        return differentiate(loss, [*leaves, classifier])


@register_proxy(
    "zico",
    source="ZiCo (Li et al., ICLR 2023, eq. 14, with the released code's deviation)",
    needs={"forward", "labels", "network"},
    version=2,  # padding of text and sound is left out
    images=HALVES * SMALLEST,
)
def zico(probe: Probe) -> float:
    """Σ over layers of log Σ over weights of mean|g| / std(g), between the batch's two halves.

    Cross-entropy on real labels; each half has a forward and a backward of its own, with its own
    statistics of batch norm. The paper has the deviation of |g|, its code that of g, which is
    taken here; of two batches it is half the difference. The quotient is the same at any scale
    of the weights, so N(0, 1) and He initialisation agree.
    """
    first, second = (_half_gradients(probe, half) for half in range(HALVES))
    return sum(
        steadiness(torch.stack([a.flatten(), b.flatten()]))
        for a, b in zip(first, second, strict=True)
    )
