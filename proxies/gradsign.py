"""GradSign: how far the images agree on where each weight should go."""

from __future__ import annotations

import torch
from torch.nn import functional

from .probe import Probe
from .registry import register_proxy

__all__ = ["gradsign"]


@register_proxy(
    "gradsign",
    source="GradSign (Zhang & Jia, ICLR 2022, §4, alg. 1)",
    needs={"forward", "labels", "network"},
)
def gradsign(probe: Probe) -> float:
    """Σ over weights of |Σ over images of sign(∂Lₙ/∂w)|, Lₙ the n-th image's cross-entropy.

    One forward of the whole batch; an image's gradient is that of its own loss, with batch
    norm's statistics, the batch's, as constants (see :mod:`.image_gradients`), so that one
    backward serves all images. He initialisation, convolutions, linear layers and classifier.
    """
    images = probe.image_pass
    logits = images.logits.detach()
    wanted = functional.one_hot(probe.labels, logits.shape[1])
    upstream = torch.softmax(logits, dim=1) - wanted
    # 0 · x is NaN where a gradient is not finite, whose sign would be 0.
    return sum(
        float((grads.sign() + 0.0 * grads).sum(dim=0).abs().sum())
        for grads in images.gradients(upstream)
    )
