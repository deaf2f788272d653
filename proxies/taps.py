"""What is measured of any network, teacher and student alike."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Taps"]


@dataclass(frozen=True, slots=True, eq=False)
class Taps:
    """Measurements of one network on one batch of B images; detached, on the CPU.

    Attributes:
        stages: the last output at each resolution, shallow to deep, ``[B, C, H, W]`` each.
        final_map: the last feature map, ``[B, C, H, W]``.
        pooled: what the classifier is given, ``[B, F]``.
        logits: ``[B, K]``; ``None`` for a network without a classifier.
        classifier: the classifier's weight, ``[K, F]``; ``None`` likewise.
    """

    stages: tuple[Tensor, ...]
    final_map: Tensor
    pooled: Tensor
    logits: Tensor | None = None
    classifier: Tensor | None = None
