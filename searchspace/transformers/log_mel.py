"""The log-mel spectrogram that Whisper takes, made of convolutions so that it exports.

Radford et al., ICML 2023, §2.2: windows of 25 ms every 10 ms, 80 mel bands, base-10 logarithm,
at most 8 below the clip's greatest. Mel bands are Slaney's (Auditory Toolbox, 1998): linear up
to 1 kHz, logarithmic above, each triangle of unit area.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["BINS", "HOP", "RATE", "WINDOW", "LogMel", "dft_kernels", "mel_filters"]

RATE = 16_000
"""Samples a second."""
WINDOW = 400
"""Samples of a frame, and of its Fourier transform."""
HOP = 160
"""Samples between frames."""
BINS = WINDOW // 2 + 1
"""Frequencies of a frame."""

_KNEE, _SLOPE = 1000.0, 200.0 / 3.0
_STEP = math.log(6.4) / 27.0


def _mel(hertz: float) -> float:
    if hertz < _KNEE:
        return hertz / _SLOPE
    return _KNEE / _SLOPE + math.log(hertz / _KNEE) / _STEP


def _hertz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    knee = _KNEE / _SLOPE
    return np.where(mel < knee, mel * _SLOPE, _KNEE * np.exp(_STEP * (mel - knee)))


@lru_cache(maxsize=4)
def mel_filters(bands: int) -> npt.NDArray[np.float64]:
    """Weights of the mel bands, ``[bands, BINS]``; read-only."""
    edges = _hertz(np.linspace(0.0, _mel(RATE / 2), bands + 2))
    widths = np.diff(edges)
    slopes = edges[:, None] - np.linspace(0.0, RATE / 2, BINS)
    rising, falling = -slopes[:-2] / widths[:-1, None], slopes[2:] / widths[1:, None]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    filters *= 2.0 / (edges[2:] - edges[:-2])[:, None]
    filters.flags.writeable = False
    return filters


@lru_cache(maxsize=1)
def dft_kernels() -> npt.NDArray[np.float64]:
    """Cosines, then sines of every frequency under a Hann window, ``[2·BINS, WINDOW]``."""
    n = np.arange(WINDOW)
    hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * n / WINDOW)
    # Whole turns are taken off before the cosine: its argument stays small, so it stays exact.
    angles = 2.0 * np.pi * (np.arange(BINS)[:, None] * n % WINDOW) / WINDOW
    kernels = np.concatenate([np.cos(angles), np.sin(angles)]) * hann
    kernels.flags.writeable = False
    return kernels


class LogMel(nn.Module):
    """Waveforms to spectrograms. It learns nothing: its two tables are made, never stored.

    Args:
        bands: of the mel scale.
    """

    kernels: Tensor
    filters: Tensor

    def __init__(self, bands: int = 80) -> None:
        super().__init__()
        self.bands = bands
        self.register_buffer("kernels", torch.empty(2 * BINS, 1, WINDOW), persistent=False)
        self.register_buffer("filters", torch.empty(bands, BINS, 1), persistent=False)
        self._fill()

    def _fill(self) -> None:
        with torch.no_grad():
            self.kernels.copy_(torch.tensor(dft_kernels(), device="cpu").unsqueeze(1))
            self.filters.copy_(torch.tensor(mel_filters(self.bands), device="cpu").unsqueeze(2))

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        """Fill the tables again wherever they are moved: `to_empty` leaves them without values."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._fill()
        return self

    def extra_repr(self) -> str:
        return f"bands={self.bands}"

    def forward(self, x: Tensor) -> Tensor:
        """``[B, T]``, T > 200 → ``[B, bands, T // HOP]``, centred frames, mirrored at both ends."""
        device = x.device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            # Eight bits of mantissa would drown all that is 48 dB below the loudest.
            with torch.autocast(device, enabled=False):
                return self._spectrogram(x)
        return self._spectrogram(x)

    def _spectrogram(self, x: Tensor) -> Tensor:
        frames = x.shape[1] // HOP  # Whisper drops the last of 1 + T // HOP
        x = x.to(self.kernels.dtype).unsqueeze(1)
        x = functional.pad(x, (WINDOW // 2, WINDOW // 2), mode="reflect")
        x = x[..., : (frames - 1) * HOP + WINDOW]
        cosines, sines = functional.conv1d(x, self.kernels, stride=HOP).chunk(2, dim=1)
        mel = functional.conv1d(cosines.square() + sines.square(), self.filters)
        mel = mel.clamp(min=1e-10).log10()
        return (torch.maximum(mel, mel.amax(dim=(1, 2), keepdim=True) - 8.0) + 4.0) / 4.0
