"""The inverted residual block, plain and elastic.

Expand 1×1, depthwise k×k, gate, project 1×1 (MobileNetV2: Sandler et al., CVPR 2018, §3.3;
the gate and h-swish: Howard et al., ICCV 2019, §5). The elastic one owns the widest block
with the largest kernel and runs any smaller one (Cai et al., ICLR 2020, §3.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..elastic import ElasticConv2d, Trace
from ..leaves import Leaves
from .mobilenet_config import Block
from .residual import ConvNorm, ElasticConvNorm

__all__ = ["ElasticGate", "ElasticMBConv", "ElasticPointwise", "Gate", "MBConv", "activate"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hswish": nn.Hardswish,
}


def activate(x: Tensor, activation: str, trace: Trace) -> Tensor:
    """The activation of that name; real ReLUs leave their output in the trace."""
    if activation == "relu":
        return trace.relu(x)
    if activation == "relu6":
        return trace.relu6(x)
    return functional.hardswish(x, inplace=not torch.is_grad_enabled())


class Gate(nn.Module):
    """Squeeze-and-excitation: every channel times a hard sigmoid of all channels' means.

    Hu et al., CVPR 2018, §3, with the hard sigmoid of MobileNetV3.

    Args:
        channels: taken in and given out.
        squeezed: channels between the two layers.
    """

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.relu = nn.ReLU()
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.sigmoid = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean(dim=(2, 3), keepdim=True)
        return x * cast(Tensor, self.sigmoid(self.expand(self.relu(self.reduce(means)))))


class MBConv(nn.Module):
    """An inverted residual block."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        b = block
        self.skips = b.skips
        self.act = ACTIVATIONS[b.activation]()
        self.expand: ConvNorm | None = None
        if b.expands:
            self.expand = ConvNorm(b.in_channels, b.mid, act=False, eps=b.eps)
        self.depthwise = ConvNorm(
            b.mid, b.mid, b.kernel, b.stride, depthwise=True, act=False, eps=b.eps
        )
        self.gate = Gate(b.mid, b.squeezed) if b.gated else None
        self.project = ConvNorm(b.mid, b.out_channels, act=False, eps=b.eps)

    def forward(self, x: Tensor) -> Tensor:
        out = x if self.expand is None else self.act(self.expand(x))
        out = self.act(self.depthwise(out))
        if self.gate is not None:
            out = self.gate(out)
        out = cast(Tensor, self.project(out))
        return out + x if self.skips else out


class ElasticPointwise(ElasticConv2d):
    """A 1×1 convolution that no batch norm follows, of elastic channels.

    Args:
        in_channels: most input channels.
        out_channels: most output channels.
        bias: whether it has one.
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool) -> None:
        super().__init__(in_channels, out_channels, 1)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.bias_leaves: Leaves | None = None

    def sum_in_place(self) -> None:
        super().sum_in_place()
        if self.bias is not None:
            self.bias_leaves = Leaves(self.bias)

    def forward(
        self,
        x: Tensor,
        out_channels: int,
        trace: Trace,
        kernel: int | None = None,  # noqa: ARG002 (the base's signature)
    ) -> Tensor:
        bias = None if self.bias is None else self.bias[:out_channels]
        if self.leaves is not None and torch.is_grad_enabled():
            if self.bias_leaves is not None:
                bias = self.bias_leaves.cut(out_channels)
            if x.shape[2:] == (1, 1) and not (trace.want_weights or trace.he):
                # Behind a pool, and there far faster as the linear layer that it is.
                rows = self.leaves.cut(out_channels, x.shape[1], flat=True)
                return functional.linear(x.flatten(1), rows, bias)[..., None, None]
        weight = trace.weight(self.slice(x.shape[1], out_channels), normed=False)
        return functional.conv2d(x, weight, bias)

    def copy_into(self, plain: nn.Conv2d) -> None:
        """Copy the slice that a plain layer holds."""
        plain.weight.data.copy_(self.slice(plain.in_channels, plain.out_channels))
        if self.bias is not None and plain.bias is not None:
            plain.bias.data.copy_(self.bias[: plain.out_channels])


class ElasticGate(nn.Module):
    """:class:`Gate` of elastic channels, of the squeezed ones too."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = ElasticPointwise(channels, squeezed, bias=True)
        self.expand = ElasticPointwise(squeezed, channels, bias=True)

    def forward(self, x: Tensor, squeezed: int, trace: Trace) -> Tensor:
        """``[B, C, H, W]`` → the same shape."""
        means = x.mean(dim=(2, 3), keepdim=True)
        inner = trace.relu(self.reduce(means, squeezed, trace))
        return x * functional.hardsigmoid(self.expand(inner, x.shape[1], trace))

    def copy_into(self, plain: Gate) -> None:
        """Copy the slices that a plain gate holds."""
        self.reduce.copy_into(plain.reduce)
        self.expand.copy_into(plain.expand)


class ElasticMBConv(nn.Module):
    """An inverted residual block of elastic inner channels and kernel.

    Args:
        widest: the block with the most inner channels and the largest kernel.
        kernels: every side its depthwise convolution can have.
    """

    def __init__(self, widest: Block, kernels: Sequence[int]) -> None:
        super().__init__()
        b = widest
        self.expand: ElasticConvNorm | None = None
        if b.expands:
            self.expand = ElasticConvNorm(b.in_channels, b.mid, act=False, eps=b.eps)
        self.depthwise = ElasticConvNorm(
            b.mid, b.mid, b.kernel, b.stride, depthwise=True, act=False, eps=b.eps, kernels=kernels
        )
        self.gate = ElasticGate(b.mid, b.squeezed) if b.gated else None
        self.project = ElasticConvNorm(b.mid, b.out_channels, act=False, eps=b.eps)

    def forward(self, x: Tensor, block: Block, trace: Trace) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C', H', W']`` of the block described, at most the widest."""
        out = x
        if self.expand is not None:
            out = activate(self.expand(x, block.mid, trace), block.activation, trace)
        out = self.depthwise(out, block.mid, trace, block.kernel)
        out = activate(out, block.activation, trace)
        if self.gate is not None:
            out = self.gate(out, block.squeezed, trace)
        out = cast(Tensor, self.project(out, block.out_channels, trace))
        return out + x if block.skips else out

    def copy_into(self, plain: MBConv) -> None:
        """Copy the slices that a plain block holds."""
        if self.expand is not None and plain.expand is not None:
            self.expand.copy_into(plain.expand)
        self.depthwise.copy_into(plain.depthwise)
        if self.gate is not None and plain.gate is not None:
            self.gate.copy_into(plain.gate)
        self.project.copy_into(plain.project)
