"""What residual networks are made of: convolution with batch norm, plain and elastic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from ..elastic import ElasticBatchNorm2d, ElasticConv2d, ElasticLinear, Trace, initialise

__all__ = ["ConvNorm", "ElasticConvNorm", "copy_linear", "materialise"]

Network = TypeVar("Network", bound=nn.Module)


class ConvNorm(nn.Sequential):
    """A convolution of "same" padding without bias, batch norm, and where asked a ReLU.

    Args:
        c_in: input channels.
        c_out: output channels.
        kernel: side of the kernel, odd.
        stride: of the convolution.
        depthwise: one filter a channel.
        act: end in a ReLU.
        eps: of the batch norm.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        depthwise: bool = False,
        act: bool = True,
        eps: float = 1e-5,
    ) -> None:
        groups = c_in if depthwise else 1
        conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
        layers: list[nn.Module] = [conv, nn.BatchNorm2d(c_out, eps=eps)]
        if act:
            layers.append(nn.ReLU())
        super().__init__(*layers)

    @property
    def conv(self) -> nn.Conv2d:
        """The convolution."""
        return cast(nn.Conv2d, self[0])

    @property
    def norm(self) -> nn.BatchNorm2d:
        """The batch norm."""
        return cast(nn.BatchNorm2d, self[1])


class ElasticConvNorm(nn.Module):
    """:class:`ConvNorm` of elastic channels, and kernel where several are given.

    Args:
        c_in: most input channels.
        c_out: most output channels.
        kernel: largest side of the kernel.
        stride: of the convolution.
        depthwise: one filter a channel.
        act: end in a ReLU.
        eps: of the batch norm.
        kernels: every side that can be asked for; default ``kernel`` alone.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        depthwise: bool = False,
        act: bool = True,
        eps: float = 1e-5,
        kernels: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.act = act
        self.conv = ElasticConv2d(c_in, c_out, kernel, stride, depthwise=depthwise, kernels=kernels)
        self.norm = ElasticBatchNorm2d(c_out, eps)

    def forward(self, x: Tensor, channels: int, trace: Trace, kernel: int | None = None) -> Tensor:
        """``[B, C, H, W]`` → ``[B, channels, H', W']``."""
        x = self.norm(self.conv(x, channels, trace, kernel))
        return trace.relu(x) if self.act else x

    def copy_into(self, plain: ConvNorm) -> None:
        """Copy what a plain layer of fewer channels or a smaller kernel needs."""
        conv = plain.conv
        weight = self.conv.slice(conv.in_channels, conv.out_channels, int(conv.kernel_size[0]))
        conv.weight.data.copy_(weight)
        self.norm.copy_into(plain.norm)


def copy_linear(elastic: ElasticLinear, plain: nn.Linear) -> None:
    """Copy the leading input features of a linear layer."""
    plain.weight.data.copy_(elastic.slice(plain.in_features))
    plain.bias.data.copy_(elastic.bias)


def materialise(network: Network, seed: int | None) -> Network:
    """Give a network built on the meta device its memory and, from a seed, its weights.

    On the meta device torch's own initialisers cost nothing and draw no random number. Built
    under ``torch.device("meta")`` a network stays there, for whoever wants shapes alone.

    Args:
        network: every tensor on the meta device; changed in place.
        seed: of the He-normal weights; ``None`` leaves them unset, to be copied into.
    """
    if torch.get_default_device().type == "meta":
        return network
    network.to_empty(device="cpu")
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    if seed is not None:
        initialise(network, seed=seed)
    return network
