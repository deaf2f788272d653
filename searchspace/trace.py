"""Steps of a forward pass, and what they leave behind for scoring."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Owners", "Step", "Trace"]

#: Which candidates of a group a tensor ``[k·B, …]`` belongs to, in its order; ``None``: all.
Owners = tuple[int, ...] | None


class Step(NamedTuple):
    """One unit of the forward pass; equal steps after equal prefixes give equal tensors."""

    kind: str
    args: tuple[int, ...]


@dataclass(slots=True)
class Trace:
    """What a step leaves behind for scoring, filled only where asked.

    Attributes:
        want_weights: detach the weight slices and let gradients reach them.
        he: take N(0, 1) slices that no batch norm follows at He scale, embeddings at 0.02;
            elsewhere batch norm makes every scale the same.
        want_relus: keep the outputs of ReLUs.
        want_maps: keep the outputs of convolutions, before any batch norm, and of the linear
            layers of Transformers.
        images: of each candidate, where several are run at once; ``None``: all are one's.
        owners: the candidates of the group that this part of a step is run for.
        mask: which tokens are real, bool ``[B, N]``, where some are padding; ``None``: all are.
        on_map: called with each output of a convolution or linear layer as it is made, its
            owners, and whether batch norm is what it goes to next.
        weights: the slices used, in order, N(0, 1) as they are; leaves of the graph.
        relus: outputs of ReLUs, ``[B, C, H, W]`` each, in order.
        maps: outputs of convolutions and linear layers, likewise.
    """

    want_weights: bool = False
    want_relus: bool = False
    want_maps: bool = False
    he: bool = False
    images: int | None = None
    owners: Owners = None
    mask: Tensor | None = None
    on_map: Callable[[Tensor, Owners, bool], None] | None = None
    weights: list[Tensor] = field(default_factory=list)
    relus: list[Tensor] = field(default_factory=list)
    maps: list[Tensor] = field(default_factory=list)

    def part(self, owners: Sequence[int]) -> Trace:
        """The trace for a part of a group's candidates; it writes to the same lists."""
        return replace(self, owners=tuple(owners))

    def weight(self, weight: Tensor, *, normed: bool = True) -> Tensor:
        """Pass a weight slice through, as a new leaf where gradients are wanted.

        Args:
            weight: ``[out, in, k, k]``, or ``[out, in]`` of a linear layer.
            normed: whether batch norm follows, for which the weight's scale does not matter.
        """
        if self.want_weights:
            weight = weight.detach().requires_grad_()
            self.weights.append(weight)
        if self.he and not normed:
            weight = weight * math.sqrt(2.0 / weight[0].numel())
        return weight

    def unit(self, x: Tensor) -> Tensor:
        """Pass on what a shortcut's convolution gives that no batch norm follows.

        Where weights are taken at an initialisation's scale, this one's is what brings its
        output to variance 1 on the batch (LSUV, Mishkin & Matas, ICLR 2016): at He scale it
        would carry on whatever the blocks before have added up, and drown what follows.
        """
        if not self.he:
            return x
        images = self.images or len(x)
        spread = x.detach().unflatten(0, (-1, images)).std(dim=(1, 2, 3, 4))
        spread = torch.where(spread > 0.0, spread, torch.ones_like(spread))
        return x / spread.repeat_interleave(images).view(-1, 1, 1, 1)

    @property
    def sees_maps(self) -> bool:
        """Whether :meth:`map` does anything."""
        return self.want_maps or self.on_map is not None

    def map(self, x: Tensor, *, normed: bool = False) -> Tensor:
        """Pass a convolution's or linear layer's output through, kept where wanted.

        Args:
            x: ``[B, C, H, W]``.
            normed: whether batch norm is what it goes to next.
        """
        if self.want_maps:
            self.maps.append(x)
        if self.on_map is not None:
            self.on_map(x, self.owners, normed)
        return x

    def average_pool(self, x: Tensor) -> Tensor:
        """3×3 average pool of stride 1, over what lies inside."""
        if not self.he or x.device.type != "cpu":
            return functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        # For scoring: within rounding the same, by a far faster kernel on a CPU.
        kernel = x.new_ones(x.shape[1], 1, 3, 3)
        total = functional.conv2d(x, kernel, padding=1, groups=x.shape[1])
        return total * _shares(x.shape[2], x.shape[3], x.dtype)

    def relu(self, x: Tensor) -> Tensor:
        """ReLU, kept where wanted. In place only where nothing can need the input."""
        out = functional.relu(x, inplace=not torch.is_grad_enabled())
        if self.want_relus:
            self.relus.append(out)
        return out

    def relu6(self, x: Tensor) -> Tensor:
        """ReLU6, kept like :meth:`relu`."""
        out = functional.relu6(x, inplace=not torch.is_grad_enabled())
        if self.want_relus:
            self.relus.append(out)
        return out


@lru_cache(maxsize=64)
def _shares(height: int, width: int, dtype: torch.dtype) -> Tensor:
    """One over the positions of each 3×3 window that lie inside, ``[H, W]``."""
    inside = functional.avg_pool2d(torch.ones(1, 1, height, width, dtype=dtype), 3, 1, 1)
    return 1.0 / (inside[0, 0] * 9.0)
