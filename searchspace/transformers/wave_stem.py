"""Sound to tokens as HuBERT and wav2vec 2.0 do: convolutions of the waveform, and of positions.

Baevski et al., NeurIPS 2020, §2: seven strided convolutions, layer norm, a linear layer, a
grouped convolution over the tokens that tells positions apart; in post-norm models a layer norm.
Its weight norm is folded in. Tokens are elastic in width, the convolutions are not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from ..channels import Slot, layer
from ..convnets.staged import Count, Tally
from ..errors import InvalidInputError
from ..inputs import waveform
from ..trace import Trace
from .elastic import ElasticLayerNorm, ElasticProjection
from .interleaved import ElasticInterleavedConv1d, InterleavedConv1d, reordered
from .stem import ElasticStem, Stem, StemSpec
from .wave_convs import CONV_NORMS, ElasticWaveConvs, WaveConv, WaveConvs, conv_shapes

__all__ = ["ElasticWaveStem", "WaveStem", "WaveStemSpec"]

_RATE = 16_000


@dataclass(frozen=True)
class WaveStemSpec(StemSpec):
    """Convolved sound.

    Attributes:
        channels: that each convolution of the waveform returns.
        kernels: steps of time each sees.
        strides: of each.
        bias: whether they have one.
        norm: ``"group"``: each channel over time, behind the first; ``"layer"``: over channels,
            behind each.
        positional: tokens that the convolution of positions sees.
        groups: of it; the width of tokens is a multiple.
        token_norm: whether a layer norm follows, as in post-norm models.
        normalise: bring each clip to mean 0 and variance 1 first.
        eps: of the layer norms.

    Raises:
        InvalidInputError: if lists differ in length, or a number is below 1.
    """

    modality: ClassVar[str] = "sound"

    channels: tuple[int, ...] = (512,) * 7
    kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    bias: bool = False
    norm: str = "group"
    positional: int = 128
    groups: int = 16
    token_norm: bool = True
    normalise: bool = False
    eps: float = 1e-5

    def __post_init__(self) -> None:
        lists = ("channels", "kernels", "strides")
        for name in lists:
            value = getattr(self, name)
            if not isinstance(value, list | tuple):
                raise InvalidInputError(f"{name} = {value!r}; need a list of whole numbers")
            object.__setattr__(self, name, tuple(value))
        for name in ("bias", "token_norm", "normalise"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidInputError(f"{name} = {getattr(self, name)!r}; need true or false")
        if len({len(getattr(self, name)) for name in lists}) > 1 or not self.channels:
            raise InvalidInputError(
                f"{len(self.channels)} channels, {len(self.kernels)} kernels and"
                f" {len(self.strides)} strides; need one of each for every convolution"
            )
        numbers = (*self.channels, *self.kernels, *self.strides, self.positional, self.groups)
        wrong = [n for n in numbers if type(n) is not int or n < 1]
        if wrong:
            raise InvalidInputError(f"{wrong[0]!r} in a sound stem; need whole numbers from 1")
        if self.norm not in CONV_NORMS:
            raise InvalidInputError(f"norm = {self.norm!r}; need one of {', '.join(CONV_NORMS)}")

    @property
    def convs(self) -> list[WaveConv]:
        """The convolutions of the waveform."""
        return conv_shapes(self.channels, self.kernels, self.strides)

    @property
    def field(self) -> int:
        """Samples that a token is made of, without the convolution of positions."""
        samples = 1
        for one in reversed(self.convs):
            samples = (samples - 1) * one.stride + one.kernel
        return samples

    def plain(self, dim: int) -> WaveStem:
        return WaveStem(self, dim)

    def elastic(self, dim: int) -> ElasticWaveStem:
        return ElasticWaveStem(self, dim)

    def tokens(self, resolution: int) -> int:
        self.check_length(resolution)
        for one in self.convs:
            resolution = one.length(resolution)
        return resolution

    def check_length(self, samples: int) -> None:
        """Refuse a clip that is shorter than what one token is made of.

        Raises:
            InvalidInputError: if it is.
        """
        if samples < self.field:
            raise InvalidInputError(
                f"sound of {samples} samples; its convolutions see {self.field} at once: give at"
                f" least that, {self.field / _RATE:.3g} s at {_RATE // 1000} kHz"
            )

    def check_dim(self, dim: int) -> int:
        """The width itself; raises :class:`InvalidInputError` where groups do not divide it."""
        if dim % self.groups:
            raise InvalidInputError(
                f"tokens of {dim} channels; the convolution of positions has {self.groups} groups:"
                f" need a multiple of {self.groups}"
            )
        return dim

    def count(self, tally: Tally, dim: Count, resolution: int) -> None:
        self.check_length(resolution)
        steps = resolution
        for i, one in enumerate(self.convs):
            given, steps = steps, one.length(steps)
            weights = one.in_channels * one.out_channels * one.kernel
            normed = self.norm == "layer" or i == 0
            extra = one.out_channels * (2 * normed + self.bias)
            tally.params = tally.params + float(weights + extra)
            tally.macs = tally.macs + float(weights * steps)
            values = one.in_channels * given + one.out_channels * steps
            tally.peak = np.maximum(tally.peak, float(values))
        last = self.channels[-1]
        positions = dim * dim * (self.positional / self.groups)
        norms = 2.0 * last + (2.0 * dim if self.token_norm else 0.0)
        tally.params = tally.params + norms + (last + 1.0) * dim + positions + dim
        tally.macs = tally.macs + steps * (last * dim + positions)
        tally.layers = tally.layers + float(len(self.channels) + 2)
        tally.peak = np.maximum(tally.peak, steps * np.maximum(last + dim, 2.0 * dim))

    def details(self) -> str:
        stride = math.prod(self.strides)
        return f"{len(self.channels)} convolutions, a token each {stride} samples, positions"


def _sound(spec: WaveStemSpec, x: Tensor, like: Tensor) -> Tensor:
    """Sound as batches or users have it → waveform ``[B, T]``, normalised where it should be."""
    x = waveform(x)
    spec.check_length(x.shape[1])
    if spec.normalise:
        spread = x.var(dim=1, keepdim=True, correction=0) + 1e-7
        x = (x - x.mean(dim=1, keepdim=True)) / spread.sqrt()
    return x.to(like.dtype)


def _positioned(tokens: Tensor, positions: Tensor) -> Tensor:
    """``[B, N, C]`` plus what the convolution gives, ``[B, C, N]``."""
    return tokens + functional.gelu(positions).transpose(1, 2)


class WaveStem(Stem):
    """Convolved sound of one width.

    Args:
        spec: what it is.
        dim: width of the tokens.
    """

    def __init__(self, spec: WaveStemSpec, dim: int) -> None:
        super().__init__()
        self.spec = spec
        last, dim = spec.channels[-1], spec.check_dim(dim)
        self.convs = WaveConvs(spec.convs, bias=spec.bias, norm=spec.norm)
        self.projection_norm = nn.LayerNorm(last, eps=spec.eps)
        self.projection = nn.Linear(last, dim)
        self.positional = InterleavedConv1d(dim, spec.positional, spec.groups)
        self.norm = nn.LayerNorm(dim, eps=spec.eps) if spec.token_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = self.convs(_sound(self.spec, x, self.projection.weight))
        out = self.projection(self.projection_norm(out.transpose(1, 2)))
        return cast(Tensor, self.norm(_positioned(out, self.positional(out.transpose(1, 2)))))


class ElasticWaveStem(ElasticStem):
    """:class:`WaveStem` of every width up to the largest."""

    def __init__(self, spec: WaveStemSpec, dim: int) -> None:
        super().__init__()
        self.spec, self.interleave = spec, spec.groups
        last, dim = spec.channels[-1], spec.check_dim(dim)
        self.convs = ElasticWaveConvs(spec.convs, bias=spec.bias, norm=spec.norm)
        self.projection_norm = nn.LayerNorm(last, eps=spec.eps)
        self.projection = ElasticProjection(last, dim)
        self.positional = ElasticInterleavedConv1d(dim, spec.positional, spec.groups)
        self.norm = ElasticLayerNorm(dim, spec.eps) if spec.token_norm else None

    def forward(self, x: Tensor, dim: int, trace: Trace) -> Tensor:
        out = self.convs(_sound(self.spec, x, self.projection.weight), trace)
        out = self.projection(self.projection_norm(out.transpose(1, 2)), dim, trace)
        out = _positioned(out, self.positional(out.transpose(1, 2), trace))
        return out if self.norm is None else self.norm(out)

    def copy_into(self, plain: WaveStem) -> None:
        self.convs.copy_into(plain.convs)
        plain.projection_norm.load_state_dict(self.projection_norm.state_dict())
        self.projection.copy_into(plain.projection)
        self.positional.copy_into(plain.positional)
        if self.norm is not None:
            self.norm.copy_into(cast(nn.LayerNorm, plain.norm))

    def slots(self) -> tuple[Sequence[Slot], Sequence[Slot]]:
        """Of the convolution of positions its outputs alone: see :meth:`reorder`."""
        norm = layer("norm") if self.norm is not None else []
        return [*layer("projection", "positional"), *norm], []

    def reorder(self, order: Tensor) -> None:
        """Put the channels of the tokens in another order, in place, within their groups.

        Args:
            order: new channel ``c`` is the old ``order[c]``, int64 ``[D]``.

        Raises:
            InvalidInputError: if a channel would leave its group.
        """
        groups = self.interleave
        if not bool((order % groups == order.new_tensor(range(len(order))) % groups).all()):
            raise InvalidInputError(
                f"channels of a stem in {groups} groups change places within their group alone"
            )
        weight = self.positional.weight
        weight.data.copy_(reordered(weight.data, order, groups))
        rest = [*self.projection.parameters(), self.positional.bias]
        for tensor in [*rest, *([] if self.norm is None else self.norm.parameters())]:
            tensor.data.copy_(tensor.data[order])
