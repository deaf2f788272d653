"""Six kinds of synthetic sounds, always there: what digits are to images, for trying things out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from ..searchspace.errors import InvalidInputError
from ..searchspace.inputs import pack_sound
from ..searchspace.modality import SAMPLE_RATE
from .arrays import Part
from .dataset import DataSet

__all__ = ["KINDS", "load_tones"]

KINDS = ("falling", "hiss", "pulses", "rising", "steady", "warble")

#: Clips of a kind in each part.
_CLIPS = {"train": 100, "val": 20, "test": 20}
_LONGEST = 10.0

Wave = npt.NDArray[np.float64]


def load_tones(*, seed: int, val_fraction: float, seconds: float = 0.5) -> DataSet:  # noqa: ARG001
    """Tones of random pitch, loudness and noise that fall, rise, stay, warble or pulse, and hiss.

    The same 600 to learn from and 120 each to choose by and to test on, whatever the seed.

    Args:
        seed: without meaning here: the parts are fixed.
        val_fraction: likewise.
        seconds: length of a clip.

    Raises:
        InvalidInputError: if clips would be shorter than .1 s or longer than 10 s.
    """
    if not 0.1 <= seconds <= _LONGEST:
        raise InvalidInputError(f"seconds = {seconds:g}; need .1 to {_LONGEST:g}")
    rng = np.random.default_rng(2026)
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    parts = {}
    for name, count in _CLIPS.items():
        labels = np.repeat(np.arange(len(KINDS)), count)
        clips = np.stack([_clip(KINDS[label], time, rng) for label in labels])
        packed = pack_sound(torch.from_numpy(clips)).numpy()
        parts[name] = Part(packed, labels.astype(np.int64))
    nothing, one = (0.0, 0.0), (1.0, 1.0)
    return DataSet(
        "tones", len(KINDS), **parts, mean=nothing, std=one, class_names=KINDS, modality="sound"
    )


def _clip(kind: str, time: Wave, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """16-bit samples of one sound."""
    share = time / time[-1]
    pitch = np.full_like(time, rng.uniform(200.0, 1500.0))
    if kind in ("rising", "falling"):
        octaves = rng.uniform(0.5, 1.5) * (1.0 if kind == "rising" else -1.0)
        pitch = pitch * 2.0 ** (octaves * (share - 0.5))
    elif kind == "warble":
        pitch = pitch * (1.0 + 0.15 * np.sin(2.0 * np.pi * rng.uniform(4.0, 9.0) * time))
    turns = 2.0 * np.pi * (np.cumsum(pitch) / SAMPLE_RATE + rng.random())
    sound = np.sin(turns) + 0.4 * np.sin(2.0 * turns)
    if kind == "pulses":
        sound = sound * (np.sin(2.0 * np.pi * rng.uniform(6.0, 14.0) * time) > 0.0)
    if kind == "hiss":
        sound = rng.standard_normal(len(time))
    sound = sound / np.abs(sound).max() + rng.uniform(0.05, 0.3) * rng.standard_normal(len(time))
    loud = rng.uniform(2000.0, 12000.0)
    samples: npt.NDArray[np.int16] = np.clip(loud * sound, -32768.0, 32767.0).astype(np.int16)
    return samples
