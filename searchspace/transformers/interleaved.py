"""A grouped convolution over tokens of which every prefix of channels is a whole convolution.

Positions of HuBERT and wav2vec 2.0 are a convolution in groups (Baevski et al., NeurIPS 2020,
§2), whose channels lie group after group in their libraries: the first half of them would be
half of the groups. Here channel ``c`` of the token stream belongs to group ``c % groups``, so
the leading ``C`` channels are the leading ``C / groups`` of every group.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..trace import Trace

__all__ = ["ElasticInterleavedConv1d", "InterleavedConv1d", "reordered", "stream_order"]


def stream_order(dim: int, groups: int) -> Tensor:
    """Where the library that stores group after group has each channel of our token stream.

    Args:
        dim: channels, a multiple of ``groups``.
        groups: of the convolution.

    Returns:
        int64 ``[dim]``: channel ``c`` of the stream is the library's channel ``order[c]``, so a
        tensor of the library's is brought along by ``tensor[order]``, and
        ``order.argsort()`` leads back.
    """
    return torch.arange(dim).view(groups, dim // groups).T.flatten()


def reordered(weight: Tensor, order: Tensor, groups: int) -> Tensor:
    """The weight of the same convolution on a stream whose channels are in another order.

    Args:
        weight: ``[C, C / groups, k]``.
        order: new channel ``c`` is the old ``order[c]``, of the same group, int64 ``[C]``.
        groups: of the convolution.
    """
    inputs = order.view(-1, groups).T // groups  # old place within the group, [groups, C / groups]
    taken = inputs.repeat(len(order) // groups, 1)  # of output channel c: those of group c % groups
    return weight[order].gather(1, taken.unsqueeze(2).expand_as(weight))


def _by_group(x: Tensor, groups: int) -> Tensor:
    """The stream's channels, dimension 0, group after group."""
    split: Tensor = x.unflatten(0, (-1, groups))
    return split.transpose(0, 1).flatten(0, 1)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    """``[B, C, N]`` → the same shape; of an even kernel the last step is what is dropped.

    The weight is given group after group, the bias as the stream's channels are.
    """
    before = weight.shape[2] // 2
    x = functional.pad(x, (before, weight.shape[2] - 1 - before))
    x = x.unflatten(1, (-1, groups)).transpose(1, 2).flatten(1, 2)
    bias = None if bias is None else _by_group(bias, groups)
    out = functional.conv1d(x, weight, bias, groups=groups)
    split: Tensor = out.unflatten(1, (groups, -1))
    return split.transpose(1, 2).flatten(1, 2)


class InterleavedConv1d(nn.Conv1d):
    """Of one width: channel ``c``, given and returned, is of group ``c % groups``.

    Args:
        dim: channels, a multiple of ``groups``.
        kernel: tokens it sees.
        groups: of the convolution.
    """

    def __init__(self, dim: int, kernel: int, groups: int) -> None:
        super().__init__(dim, dim, kernel, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, N]`` → the same shape."""
        return _convolve(x, _by_group(self.weight, self.groups), self.bias, self.groups)


class ElasticInterleavedConv1d(nn.Module):
    """:class:`InterleavedConv1d` of every width up to the largest."""

    def __init__(self, dim: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(dim, dim // groups, kernel))
        self.bias = nn.Parameter(torch.zeros(dim))

    def slice(self, dim: int) -> Tensor:
        """The leading ``[C, C / groups, k]`` of the weight, contiguous."""
        return self.weight[:dim, : dim // self.groups].contiguous()

    def forward(self, x: Tensor, trace: Trace) -> Tensor:
        """``[B, C, N]`` → the same shape."""
        # Traced as it is used: gradients image by image look for that very tensor.
        weight = trace.weight(_by_group(self.slice(x.shape[1]), self.groups), normed=False)
        out = _convolve(x, weight, self.bias[: x.shape[1]], self.groups)
        return trace.map(out.unsqueeze(2)).squeeze(2) if trace.sees_maps else out

    def copy_into(self, plain: InterleavedConv1d) -> None:
        """Copy the slice that a plain layer holds."""
        plain.weight.data.copy_(self.slice(plain.in_channels))
        if plain.bias is not None:
            plain.bias.data.copy_(self.bias[: plain.out_channels])
