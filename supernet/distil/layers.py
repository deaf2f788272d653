"""Layers that are learnt beside a student, drawn from a generator of their own."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["batch_norm", "convolution", "generator_of", "linear", "one_by_one"]


def generator_of(seed: int) -> torch.Generator:
    """A generator on the CPU, where all layers are drawn."""
    return torch.Generator().manual_seed(seed)


def linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A fully connected layer, weights and biases uniform within ±1/√inputs."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)
    _uniform((layer.weight, layer.bias), inputs, generator)
    return layer


def convolution(
    inputs: int, outputs: int, side: int, generator: torch.Generator, *, bias: bool = False
) -> nn.Conv2d:
    """A convolution of a ``side × side`` window that keeps the map's size.

    Its weights are uniform within ±1/√fan_in, PyTorch's default.
    """
    # Without skip_init the constructor would draw from the global generator.
    layer: nn.Conv2d = nn.utils.skip_init(
        nn.Conv2d, inputs, outputs, side, padding=side // 2, bias=bias
    )
    drawn = (layer.weight,) if layer.bias is None else (layer.weight, layer.bias)
    _uniform(drawn, inputs * side * side, generator)
    return layer


def one_by_one(inputs: int, outputs: int, generator: torch.Generator) -> nn.Conv2d:
    """A 1×1 convolution without bias: one linear map at every position."""
    return convolution(inputs, outputs, 1, generator)


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm that always takes the batch's statistics: it is never used but in training."""
    return nn.BatchNorm2d(channels, track_running_stats=False)


def _uniform(tensors: tuple[Tensor, ...], fan_in: int, generator: torch.Generator) -> None:
    bound = 1.0 / math.sqrt(fan_in)
    with torch.no_grad():
        for tensor in tensors:
            tensor.uniform_(-bound, bound, generator=generator)
