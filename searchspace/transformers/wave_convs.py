"""The strided convolutions that HuBERT and wav2vec 2.0 read a waveform with, plain and elastic.

Baevski et al., NeurIPS 2020, §2 and §4.2. They are not sliced: every student has all of their
channels, as in LightHuBERT (Wang et al., Interspeech 2022, §3.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, cast

from torch import Tensor, nn
from torch.nn import functional

from ..trace import Trace
from .elastic_conv1d import ElasticConv1d

__all__ = ["CONV_NORMS", "ElasticWaveConvs", "WaveConv", "WaveConvs", "conv_shapes"]

CONV_NORMS = ("group", "layer")
"""Of each channel over time, behind the first convolution alone; over channels, behind each."""

_EPS = 1e-5  # of these norms, whatever the encoder's is


class WaveConv(NamedTuple):
    """One of the convolutions.

    Attributes:
        in_channels: that it is given.
        out_channels: that it returns.
        kernel: steps of time it sees.
        stride: of the convolution.
    """

    in_channels: int
    out_channels: int
    kernel: int
    stride: int

    def length(self, steps: int) -> int:
        """Steps that it returns of so many; below 1: none."""
        return (steps - self.kernel) // self.stride + 1


def conv_shapes(
    channels: Sequence[int], kernels: Sequence[int], strides: Sequence[int]
) -> list[WaveConv]:
    """The convolutions in order; the first is given the waveform."""
    sides = pairwise((1, *channels))
    return [WaveConv(*c, k, s) for c, k, s in zip(sides, kernels, strides, strict=True)]


def _norm(kind: str, index: int, channels: int) -> nn.Module | None:
    if kind == "layer":
        return nn.LayerNorm(channels, eps=_EPS)
    return nn.GroupNorm(channels, channels, eps=_EPS) if index == 0 else None


def _finish(x: Tensor, norm: nn.Module | None) -> Tensor:
    if isinstance(norm, nn.LayerNorm):
        x = norm(x.transpose(1, 2)).transpose(1, 2)
    elif norm is not None:
        x = norm(x)
    return functional.gelu(x)


class _Unit(nn.Module):
    """A convolution and its norm, which not every one has."""

    def __init__(self, conv: nn.Module, norm: nn.Module | None) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm


def _parts(units: nn.ModuleList) -> Iterator[tuple[Any, nn.Module | None]]:
    for unit in units:
        yield unit.conv, cast(_Unit, unit).norm


class WaveConvs(nn.ModuleList):
    """The convolutions of a standalone network.

    Args:
        shapes: of each.
        bias: whether they have one.
        norm: one of :data:`CONV_NORMS`.
    """

    def __init__(self, shapes: Sequence[WaveConv], *, bias: bool, norm: str) -> None:
        super().__init__(
            _Unit(nn.Conv1d(*one, bias=bias), _norm(norm, i, one.out_channels))
            for i, one in enumerate(shapes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Waveforms ``[B, T]`` → ``[B, C, N]``."""
        x = x.unsqueeze(1)
        for conv, norm in _parts(self):
            x = _finish(conv(x), norm)
        return x


class ElasticWaveConvs(nn.ModuleList):
    """:class:`WaveConvs` as a supernet holds them: whole, seen by traces."""

    def __init__(self, shapes: Sequence[WaveConv], *, bias: bool, norm: str) -> None:
        super().__init__(
            _Unit(ElasticConv1d(*one, bias=bias), _norm(norm, i, one.out_channels))
            for i, one in enumerate(shapes)
        )

    def forward(self, x: Tensor, trace: Trace) -> Tensor:
        """Waveforms ``[B, T]`` → ``[B, C, N]``."""
        x = x.unsqueeze(1)
        for conv, norm in _parts(self):
            x = _finish(conv(x, len(conv.weight), trace), norm)
        return x

    def copy_into(self, plain: WaveConvs) -> None:
        """Copy everything; names and shapes are the same."""
        plain.load_state_dict(self.state_dict())
