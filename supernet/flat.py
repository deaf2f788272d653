"""A network's parameters, gradients and buffers as flat tensors.

One tensor to reduce between processes, to clip, to average and to step on, however many
layers there are; the network's own are views of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["FlatNetwork"]


class FlatNetwork:
    """Flat views of a network; its parameters and float buffers are moved into them.

    Args:
        network: changed in place; moved between devices afterwards, the views are lost.

    Attributes:
        values: all parameters, weights that decay first, ``[P]``; a leaf.
        gradients: theirs, ``[P]``; every parameter's ``.grad`` is a view of it.
        buffers: running statistics, ``[B]``.
        decaying: length of the leading part that weight decay applies to.
    """

    def __init__(self, network: nn.Module) -> None:
        named = list(network.named_parameters())
        # Batch norm's scales and shifts and all biases are vectors.
        named = [n for n in named if n[1].dim() > 1] + [n for n in named if n[1].dim() <= 1]
        self.decaying = sum(p.numel() for _, p in named if p.dim() > 1)
        self._slots: dict[str, tuple[int, int, torch.Size]] = {}
        at = 0
        for name, parameter in named:
            self._slots[name] = (at, at + parameter.numel(), parameter.shape)
            at += parameter.numel()
        self.values = torch.cat([p.detach().reshape(-1) for _, p in named])
        self.gradients = torch.zeros_like(self.values)
        for name, parameter in named:
            parameter.data = self._view(self.values, name)
            parameter.grad = self._view(self.gradients, name)
        floats = [b for b in network.buffers() if b.is_floating_point()]
        self.buffers = (
            torch.cat([b.detach().reshape(-1) for b in floats])
            if floats
            else self.values.new_zeros(0)
        )
        at = 0
        for buffer in floats:
            buffer.data = self.buffers[at : at + buffer.numel()].view(buffer.shape)
            at += buffer.numel()

    def _view(self, flat: Tensor, name: str) -> Tensor:
        start, end, shape = self._slots[name]
        return flat[start:end].view(shape)

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """A flat tensor of the parameters' length by parameter, as views."""
        return {name: self._view(flat, name) for name in self._slots}

    def parts(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """What decays and what does not, as views."""
        return flat[: self.decaying], flat[self.decaying :]

    @contextmanager
    def holding(self, other: Tensor | None) -> Iterator[None]:
        """Put other values in the network's place for a while; ``None`` leaves its own."""
        if other is None:
            yield
            return
        kept = self.values.clone()
        try:
            self.values.copy_(other)
            yield
        finally:
            self.values.copy_(kept)
