"""Zen-score: how far the final map moves when the input does."""

from __future__ import annotations

import math

import torch

from ..searchspace.elastic import Trace
from .probe import Probe
from .registry import register_proxy

__all__ = ["zen"]

GAMMA = 1e-2


@register_proxy(
    "zen",
    source="Zen-NAS (Lin et al., ICCV 2021, Alg. 1)",
    needs={"forward", "images", "network", "bn"},
    random_only="it is an expectation over weights that are N(0, 1)",
)
def zen(probe: Probe) -> float:
    """Log E‖f(x) − f(x + γε)‖₁ + Σ over batch norms of ½ log of their mean variance.

    x, ε ~ N(0, 1) of the batch's shape, γ = 1e-2, weights N(0, 1), batch norm by batch
    statistics, f the map before the average pool; the second term undoes what batch norm
    scales away. Two forwards, no data. Unlike the paper's, shortcuts stay in place: its
    theory is of networks without them.
    """
    if probe.images is None:
        raise RuntimeError("zen takes the images' shape from the batch")
    generator = torch.Generator().manual_seed(probe.seed)
    with torch.no_grad():
        layout = {"memory_format": torch.channels_last}
        shape = probe.images.shape
        x = torch.empty(shape).normal_(generator=generator).contiguous(**layout)
        x = x.to(probe.images.device)
        moved = x + GAMMA * torch.empty(shape).normal_(generator=generator).to(x.device)
        trace = Trace(want_maps=True, he=True)
        still = probe.run(x, trace)
        distance = (still - probe.run(moved.contiguous(**layout), Trace(he=True))).abs()
        total = math.log(float(distance.sum(dim=(1, 2, 3)).mean()))
        for output in trace.maps:
            variance = output.var(dim=(0, 2, 3), unbiased=False).mean()
            total += 0.5 * math.log(float(variance))
    return total
