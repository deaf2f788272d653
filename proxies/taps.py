"""What is measured of any network, teacher and student alike."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["Taps", "TokenTaps"]


@dataclass(frozen=True, slots=True, eq=False)
class TokenTaps:
    """Measurements of a Transformer's L layers on B inputs of N tokens.

    Attributes:
        layers: what the first layer is given, then each layer's output, ``[B, N, C]`` each, L + 1
            of them; empty where they were not asked for.
        qkv: queries, keys and values of each layer, ``[B, 3, A, N, d]`` for A heads of width d;
            empty likewise.
        mask: which tokens are real, bool ``[B, N]``; ``None``: all are.
        grid: rows and columns of the patches that the last tokens are; ``None`` where the inputs
            are no images.
    """

    layers: tuple[Tensor, ...] = ()
    qkv: tuple[Tensor, ...] = ()
    mask: Tensor | None = None
    grid: tuple[int, int] | None = None

    def to(self, device: torch.device) -> TokenTaps:
        """The same on another device."""
        return TokenTaps(
            tuple(x.to(device) for x in self.layers),
            tuple(x.to(device) for x in self.qkv),
            None if self.mask is None else self.mask.to(device),
            self.grid,
        )

    def float(self) -> TokenTaps:
        """The same in float32, whatever the precision they were computed in."""
        layers, qkv = (tuple(x.float() for x in of) for of in (self.layers, self.qkv))
        return replace(self, layers=layers, qkv=qkv)


@dataclass(frozen=True, slots=True, eq=False)
class Taps:
    """Measurements of one network on one batch of B images; detached, on the CPU until moved.

    Attributes:
        stages: the last output at each resolution, shallow to deep, ``[B, C, H, W]`` each; of
            text and sound evenly spaced layers', ``[B, C, 1, N]``, see :mod:`.stages`.
        final_map: the last feature map, ``[B, C, H, W]``.
        pooled: what the classifier is given, ``[B, F]``.
        logits: ``[B, K]``; ``None`` for a network without a classifier.
        classifier: the classifier's weight, ``[K, F]``; ``None`` likewise.
        tokens: of a Transformer's layers, where they were asked for.
    """

    stages: tuple[Tensor, ...]
    final_map: Tensor
    pooled: Tensor
    logits: Tensor | None = None
    classifier: Tensor | None = None
    tokens: TokenTaps | None = None

    def to(self, device: torch.device) -> Taps:
        """The same on another device."""
        return Taps(
            stages=tuple(stage.to(device) for stage in self.stages),
            final_map=self.final_map.to(device),
            pooled=self.pooled.to(device),
            logits=None if self.logits is None else self.logits.to(device),
            classifier=None if self.classifier is None else self.classifier.to(device),
            tokens=None if self.tokens is None else self.tokens.to(device),
        )
