"""A convolution over time of elastic channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..trace import Trace

__all__ = ["ElasticConv1d"]


class ElasticConv1d(nn.Module):
    """Sliced in its input and output channels, each a prefix.

    Args:
        in_channels: most input channels.
        out_channels: most output channels.
        kernel: steps of time it sees.
        stride: of the convolution.
        padding: at both ends.
        bias: whether it has one.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        *,
        padding: int = 0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel))
        self.register_parameter("bias", nn.Parameter(torch.zeros(out_channels)) if bias else None)

    def slice(self, in_channels: int, out_channels: int) -> Tensor:
        """The leading ``[out, in, k]`` of the weight, contiguous."""
        return self.weight[:out_channels, :in_channels].contiguous()

    def forward(self, x: Tensor, out_channels: int, trace: Trace) -> Tensor:
        """``[B, C, T]`` → ``[B, out_channels, T']``."""
        weight = trace.weight(self.slice(x.shape[1], out_channels), normed=False)
        bias = None if self.bias is None else self.bias[:out_channels]
        out = functional.conv1d(x, weight, bias, self.stride, self.padding)
        return trace.map(out.unsqueeze(2)).squeeze(2) if trace.sees_maps else out

    def copy_into(self, plain: nn.Conv1d) -> None:
        """Copy the slice that a plain layer holds."""
        plain.weight.data.copy_(self.slice(plain.in_channels, plain.out_channels))
        if plain.bias is not None and self.bias is not None:
            plain.bias.data.copy_(self.bias[: plain.out_channels])
