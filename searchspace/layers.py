"""Elastic layers: each owns the largest weight and slices what an architecture needs.

Once-for-all (Cai et al., ICLR 2020, §3.3) introduced the nesting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .errors import InvalidInputError
from .leaves import Leaves
from .trace import Trace

__all__ = ["BatchNorm", "ElasticBatchNorm2d", "ElasticConv2d", "ElasticLinear"]

#: (maps, scale, shift, eps) → maps normalised by the batch.
BatchNorm = Callable[[Tensor, Tensor, Tensor, float], Tensor]


class ElasticConv2d(nn.Module):
    """A square convolution with "same" padding, sliced in channels and cropped in its kernel.

    A smaller kernel is the centre of the next larger one times a learned matrix, identity at
    first and shared by all channels, 7 → 5 → 3 one after the other (Cai et al., ICLR 2020,
    §3.3); the largest kernel never meets a matrix, so it sends them no gradient.

    Args:
        in_channels: most input channels.
        out_channels: most output channels; equal to ``in_channels`` where depthwise.
        kernel: largest side.
        stride: of the convolution.
        depthwise: one filter a channel.
        kernels: every side that can be asked for; default ``kernel`` alone.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        *,
        depthwise: bool = False,
        kernels: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.stride = stride
        self.depthwise = depthwise
        self.sides = sorted({*kernels, kernel}, reverse=True)
        per_group = 1 if depthwise else in_channels
        self.weight = nn.Parameter(torch.empty(out_channels, per_group, kernel, kernel))
        for smaller in self.sides[1:]:
            self.register_parameter(f"to_{smaller}", nn.Parameter(torch.eye(smaller**2)))
        self.leaves: Leaves | None = None

    def sum_in_place(self) -> None:
        """See :meth:`ElasticNetwork.sum_in_place`."""
        self.leaves = Leaves(self.weight)

    def slice(self, in_channels: int, out_channels: int, kernel: int | None = None) -> Tensor:
        """The ``[out, in, k, k]`` weight of a smaller convolution, contiguous.

        Raises:
            InvalidInputError: if ``kernel`` is none of the sides.
        """
        in_channels = 1 if self.depthwise else in_channels
        side = self.sides[0]
        if kernel is not None and kernel not in self.sides:
            raise InvalidInputError(f"kernel {kernel} is not one of {self.sides}")
        smaller = self.sides[1 : self.sides.index(kernel or side) + 1]
        weight: Tensor = self.weight
        if self.leaves is not None and torch.is_grad_enabled():
            side = smaller[0] if smaller else side
            weight = self.leaves.cut(out_channels, in_channels, side, side)
        elif weight.shape[:2] != (out_channels, in_channels):
            weight = weight[:out_channels, :in_channels]
        for size in smaller:
            edge = (side - size) // 2
            centre = weight[:, :, edge : edge + size, edge : edge + size] if edge else weight
            rows = centre.reshape(-1, size**2) @ getattr(self, f"to_{size}").T
            weight, side = rows.view(out_channels, in_channels, size, size), size
        return weight.contiguous()

    def forward(
        self, x: Tensor, out_channels: int, trace: Trace, kernel: int | None = None
    ) -> Tensor:
        weight = trace.weight(self.slice(x.shape[1], out_channels, kernel))
        groups = x.shape[1] if self.depthwise else 1
        side = weight.shape[-1]
        out = functional.conv2d(x, weight, None, self.stride, side // 2, groups=groups)
        return trace.map(out, normed=True)


class ElasticBatchNorm2d(nn.Module):
    """Batch norm whose first ``C`` channels serve an input of ``C`` channels.

    In training mode it normalises by the batch and, where ``track`` is true, moves the
    running statistics; scoring turns ``track`` off so that no call changes the network, and
    may put its own ``function`` in the place of torch's.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.track = True
        self.function: BatchNorm | None = None
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.leaves: Leaves | None = None
        self.bias_leaves: Leaves | None = None

    def sum_in_place(self) -> None:
        """See :meth:`ElasticNetwork.sum_in_place`."""
        self.leaves, self.bias_leaves = Leaves(self.weight), Leaves(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        c = x.shape[1]
        keep = self.track or not self.training
        weight, bias = self._affine(c)
        if self.function is not None and not keep:
            return self.function(x, weight, bias, self.eps)
        return functional.batch_norm(
            x,
            self.running_mean[:c] if keep else None,
            self.running_var[:c] if keep else None,
            weight,
            bias,
            self.training,
            self.momentum,
            self.eps,
        )

    def _affine(self, channels: int) -> tuple[Tensor, Tensor]:
        if self.leaves is None or self.bias_leaves is None or not torch.is_grad_enabled():
            return self.weight[:channels], self.bias[:channels]
        return self.leaves.cut(channels), self.bias_leaves.cut(channels)

    def copy_into(self, plain: nn.BatchNorm2d) -> None:
        """Copy the leading channels into a plain layer."""
        c = plain.num_features
        for name in ("weight", "bias", "running_mean", "running_var"):
            cast(Tensor, getattr(plain, name)).data.copy_(getattr(self, name)[:c])


class ElasticLinear(nn.Module):
    """A linear layer sliced in its input features."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.leaves: Leaves | None = None

    def sum_in_place(self) -> None:
        """See :meth:`ElasticNetwork.sum_in_place`."""
        self.leaves = Leaves(self.weight)

    def slice(self, in_features: int) -> Tensor:
        """The leading ``[out, in]`` of the weight, contiguous."""
        if self.leaves is not None and torch.is_grad_enabled():
            return self.leaves.cut(len(self.weight), in_features)
        # A linear layer on a strided view rounds differently from one on its copy.
        return self.weight[:, :in_features].contiguous()

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.slice(x.shape[1]), self.bias)
