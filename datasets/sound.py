"""Data sets of sound in files, WAV or FLAC, as 16-bit samples at 16 kHz."""

from __future__ import annotations

import math
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..searchspace.errors import InvalidInputError
from ..searchspace.inputs import pack_sound
from ..searchspace.modality import SAMPLE_RATE
from .arrays import Part
from .dataset import DataSet, make_dataset

__all__ = ["SECONDS", "SOUND", "read_clip", "read_sound_folder"]

#: Length of a clip unless told otherwise.
SECONDS = 1.0

#: Suffixes of the files that are read.
SOUND = frozenset({".wav", ".flac"})

_LONGEST = 600.0
_VALIDATION = ("val", "valid", "validation")
_PCM = 2**15


def read_sound_folder(
    root: Path, *, seed: int, val_fraction: float, seconds: float = SECONDS
) -> DataSet:
    """Read a data set of clips into memory; the split is by file.

    Args:
        root: ``root/train`` and optionally ``root/val`` and ``root/test``, or the one part that
            is split. A part holds ``<class>/*.wav``, or ``*.wav``, which are unlabelled; FLAC is
            read likewise. Classes are numbered in the order of their names.
        seed: of the split where there is no validation part.
        val_fraction: of the training part, split off where there is no validation part.
        seconds: longer clips are cut, shorter ones filled up with silence.

    Raises:
        InvalidInputError: if there is no clip, one is no audio, empty or of no numbers, or a part
            has other classes than the training part.
    """
    samples = _samples(seconds)
    places = {"train": root}
    if (root / "train").is_dir():
        validation = next((name for name in _VALIDATION if (root / name).is_dir()), "val")
        places = {"train": root / "train", "val": root / validation, "test": root / "test"}
        places = {name: place for name, place in places.items() if place.is_dir()}
    names = _class_names(places["train"])
    parts = {}
    for part, place in places.items():
        if unknown := sorted(set(_class_names(place)) ^ set(names)):
            raise InvalidInputError(
                f"class folder {unknown[0]!r} is in one of {str(places['train'])!r} and"
                f" {str(place)!r} only; need the same classes in both"
            )
        parts[part] = _read_part(place, names, samples)
    return make_dataset(
        root.resolve().name,
        parts["train"],
        parts.get("val"),
        parts.get("test"),
        seed=seed,
        val_fraction=val_fraction,
        class_names=names or None,
        modality="sound",
    )


def read_clip(path: Path, samples: int | None = None) -> npt.NDArray[np.int16]:
    """A file's sound: channels averaged, at 16 kHz, 16 bits.

    Args:
        path: of a WAV or FLAC file.
        samples: cut or filled up with silence to so many; ``None``: as it is.

    Returns:
        ``[T]``.

    Raises:
        InvalidInputError: if it is no audio, empty or of values that are no numbers.
    """
    from scipy.signal import resample_poly

    rate, sound = _decode(path)
    if sound.ndim == 2:
        sound = sound.mean(axis=1)
    if not sound.size or rate < 1:
        raise InvalidInputError(f"audio file {str(path)!r} holds no sound")
    if not np.isfinite(sound).all():
        raise InvalidInputError(f"audio file {str(path)!r} holds values that are no numbers")
    if rate != SAMPLE_RATE:
        common = math.gcd(rate, SAMPLE_RATE)
        sound = resample_poly(sound, SAMPLE_RATE // common, rate // common)
    if samples is not None:
        sound = np.pad(sound[:samples], (0, max(0, samples - len(sound))))
    return np.clip(np.rint(sound * _PCM), -_PCM, _PCM - 1).astype(np.int16)


def _decode(path: Path) -> tuple[int, npt.NDArray[np.float64]]:
    """Rate and sound in [-1, 1), ``[T]`` or ``[T, channels]``."""
    if path.suffix.lower() == ".flac":
        return _decode_flac(path)
    from scipy.io import wavfile

    try:
        with warnings.catch_warnings():
            # Chunks that it does not know, such as tags, are no matter.
            warnings.simplefilter("ignore", wavfile.WavFileWarning)
            rate, sound = wavfile.read(path)
    except (OSError, ValueError, EOFError, struct.error, MemoryError, UnboundLocalError) as error:
        raise InvalidInputError(
            f"{str(path)!r} is no audio that can be read: {_line(error)}"
        ) from error
    if sound.dtype.kind == "f":
        return int(rate), sound.astype(np.float64)
    # 8 bits are unsigned, 24 bits fill the upper ones of 32.
    offset, scale = (128.0, 128.0) if sound.dtype == np.uint8 else (0.0, -float(_least(sound)))
    return int(rate), (sound.astype(np.float64) - offset) / scale


def _least(sound: npt.NDArray[Any]) -> int:
    return int(np.iinfo(sound.dtype).min)


def _decode_flac(path: Path) -> tuple[int, npt.NDArray[np.float64]]:
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: its library is missing
        raise InvalidInputError(
            f"{str(path)!r}: FLAC needs the package soundfile; run `pip install"
            " scholarch[speech]`, or convert to WAV"
        ) from error
    try:
        sound, rate = soundfile.read(str(path), dtype="float64")
    except (RuntimeError, OSError) as error:
        raise InvalidInputError(
            f"{str(path)!r} is no audio that can be read: {_line(error)}"
        ) from error
    return int(rate), np.asarray(sound, dtype=np.float64)


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _samples(seconds: float) -> int:
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not number or not 0.01 <= seconds <= _LONGEST:
        raise InvalidInputError(
            f"seconds = {seconds!r} of a clip; need a number from 0.01 to {_LONGEST:g}"
        )
    return round(seconds * SAMPLE_RATE)


def _class_names(root: Path) -> tuple[str, ...]:
    """Folders with clips in them."""
    folders = (p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    return tuple(sorted(p.name for p in folders if _files(p)))


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SOUND)


def _read_part(root: Path, names: tuple[str, ...], samples: int) -> Part:
    if names and (stray := _files(root)):
        raise InvalidInputError(
            f"clip {str(stray[0])!r} is beside the class folders; need all clips in them, or none"
        )
    found = [(file, i) for i, name in enumerate(names) for file in _files(root / name)]
    found = found or [(file, 0) for file in _files(root)]
    if not found:
        raise InvalidInputError(f"data folder {str(root)!r} holds no WAV or FLAC files")
    clips = np.stack([read_clip(file, samples) for file, _ in found])
    labels: npt.NDArray[Any] = np.array([label for _, label in found], dtype=np.int64)
    if not names:
        labels = np.zeros((len(found), 0), dtype=np.float32)
    return Part(pack_sound(torch.from_numpy(clips)).numpy(), labels)
