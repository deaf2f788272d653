"""What is measured of any network, teacher and student alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Taps"]


@dataclass(frozen=True, slots=True, eq=False)
class Taps:
    """Measurements of one network on one batch of B images; detached, on the CPU until moved.

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

    def to(self, device: torch.device) -> Taps:
        """The same on another device."""
        return Taps(
            stages=tuple(stage.to(device) for stage in self.stages),
            final_map=self.final_map.to(device),
            pooled=self.pooled.to(device),
            logits=None if self.logits is None else self.logits.to(device),
            classifier=None if self.classifier is None else self.classifier.to(device),
        )
