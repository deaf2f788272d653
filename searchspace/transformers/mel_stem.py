"""Sound to tokens as Whisper does: log-mel spectrogram, two convolutions, sinusoids.

Radford et al., ICML 2023, §2.2. A clip is taken at its own length; Whisper itself fills every
one up to 30 seconds with silence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..channels import ChannelGroup, Slot, Stream, layer, reads
from ..convnets.staged import Count, Tally
from ..errors import InvalidInputError
from ..inputs import waveform
from ..trace import Trace
from .elastic_conv1d import ElasticConv1d
from .log_mel import BINS, HOP, RATE, WINDOW, LogMel
from .stem import ElasticStem, Stem, StemSpec

__all__ = ["ElasticMelStem", "MelStem", "MelStemSpec", "sinusoids"]

#: Mirroring a clip's ends takes one sample more than it adds.
_LEAST = WINDOW // 2 + 1


@dataclass(frozen=True)
class MelStemSpec(StemSpec):
    """Log-mel frames of sound, two to a token.

    Attributes:
        bands: of the mel scale.
        positions: the longest clip, in tokens of 20 ms.
    """

    modality: ClassVar[str] = "sound"

    bands: int = 80
    positions: int = 1500

    def plain(self, dim: int) -> MelStem:
        return MelStem(self, dim)

    def elastic(self, dim: int) -> ElasticMelStem:
        return ElasticMelStem(self, dim)

    def tokens(self, resolution: int) -> int:
        self.check_length(resolution)
        return -(-(resolution // HOP) // 2)

    def check_length(self, samples: int) -> None:
        """Refuse a clip of no frame, or of more tokens than there are positions.

        Raises:
            InvalidInputError: if it is one.
        """
        most = self.positions * 2 * HOP + HOP - 1
        if not _LEAST <= samples <= most:
            way_out = "give a longer one" if samples < _LEAST else "cut it"
            raise InvalidInputError(
                f"sound of {samples} samples; need {_LEAST} to {most} ({_LEAST / RATE:.3g} to"
                f" {most / RATE:.3g} s at {RATE // 1000} kHz): {way_out}"
            )

    def count(self, tally: Tally, dim: Count, resolution: int) -> None:
        """Convolutions, and of the spectrogram its multiply-accumulates, for it learns nothing."""
        tokens, frames = self.tokens(resolution), resolution // HOP
        first, second = 3.0 * self.bands * dim, 3.0 * dim * dim
        tally.params = tally.params + first + second + 2.0 * dim
        fixed = float(frames * BINS * (2 * WINDOW + self.bands))
        tally.macs = tally.macs + fixed + first * frames + second * tokens
        tally.layers = tally.layers + 2.0
        for values in (frames * (self.bands + dim), dim * (frames + tokens)):
            tally.peak = np.maximum(tally.peak, values)

    def details(self) -> str:
        return f"log-mel spectrogram of {self.bands} bands, 2 convolutions, sinusoids"


def sinusoids(length: int, dim: int) -> Tensor:
    """Positions ``[length, dim]``: sines of dim / 2 frequencies, 1 to 1/10,000, then cosines."""
    half = (dim + 1) // 2
    rates = np.exp(-math.log(10_000.0) / max(half - 1, 1) * np.arange(half))
    angles = np.arange(length)[:, None] * rates
    table = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)[:, :dim]
    return torch.tensor(table, dtype=torch.float32, device="cpu")


class _Positioned(nn.Module):
    """What the plain and the elastic stem share: the spectrogram and the fixed positions.

    Positions are a buffer that is saved: of a slice whose channels were sorted by importance no
    formula gives them back.
    """

    positions: Tensor

    def __init__(self, spec: MelStemSpec, dim: int) -> None:
        super().__init__()
        self.spec = spec
        self.spectrogram = LogMel(spec.bands)
        self.register_buffer("positions", torch.empty(spec.positions, dim))
        self._fill()

    def _fill(self) -> None:
        if not self.positions.is_meta:
            self.positions.copy_(sinusoids(*self.positions.shape))

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        """Fill the positions where they are given memory for the first time."""
        unset = self.positions.is_meta
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if unset:
            self._fill()
        return self

    def frames(self, x: Tensor) -> Tensor:
        """Sound as batches or users have it → spectrogram ``[B, bands, F]``."""
        sound = waveform(x)
        self.spec.check_length(sound.shape[1])
        return self.spectrogram(sound)  # type: ignore[no-any-return]

    def positioned(self, x: Tensor) -> Tensor:
        """``[B, C, N]`` → tokens ``[B, N, C]`` with their positions."""
        return x.transpose(1, 2) + self.positions[: x.shape[2], : x.shape[1]]


class MelStem(_Positioned, Stem):
    """Log-mel tokens of one width.

    Args:
        spec: what they are.
        dim: width of the tokens.
    """

    def __init__(self, spec: MelStemSpec, dim: int) -> None:
        super().__init__(spec, dim)
        self.conv1 = nn.Conv1d(spec.bands, dim, 3, padding=1)
        self.conv2 = nn.Conv1d(dim, dim, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out = functional.gelu(self.conv1(self.frames(x)))
        return self.positioned(functional.gelu(self.conv2(out)))


class ElasticMelStem(_Positioned, ElasticStem):
    """:class:`MelStem` of every width up to the largest."""

    def __init__(self, spec: MelStemSpec, dim: int) -> None:
        super().__init__(spec, dim)
        self.conv1 = ElasticConv1d(spec.bands, dim, 3, padding=1)
        self.conv2 = ElasticConv1d(dim, dim, 3, 2, padding=1)

    def forward(self, x: Tensor, dim: int, trace: Trace) -> Tensor:
        out = functional.gelu(self.conv1(self.frames(x), dim, trace))
        return self.positioned(functional.gelu(self.conv2(out, dim, trace)))

    def copy_into(self, plain: MelStem) -> None:
        self.conv1.copy_into(plain.conv1)
        self.conv2.copy_into(plain.conv2)
        plain.positions.copy_(self.positions[:, : plain.positions.shape[1]])

    def slots(self) -> tuple[Sequence[Slot], Sequence[Slot]]:
        return [*layer("conv2"), Slot("positions", 1)], []

    def groups(self) -> Sequence[ChannelGroup]:
        """The channels between the two convolutions."""
        size = len(self.conv1.weight)
        return [Stream("inner", size, layer("conv1"), reads("conv2")).group()]
