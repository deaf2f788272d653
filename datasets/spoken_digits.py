"""Spoken digits, zero to nine, made by the speech synthesiser eSpeak NG at first use."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tempfile
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..searchspace.errors import InvalidInputError, StoreError
from ..searchspace.modality import SAMPLE_RATE
from .cache import CACHE, cache_folder
from .dataset import DataSet
from .debian import own_folder
from .sound import SECONDS, read_clip, read_sound_folder

__all__ = ["WORDS", "Utterance", "load_spoken_digits", "utterances"]

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-029")

#: Voices of a part; the parts share none.
_VOICES = {
    "train": ("m1", "m2", "m3", "m4", "m5", "f1", "f2", "f3", "klatt2", "belinda"),
    "val": ("m7", "f4"),
    "test": ("m6", "f5"),
}

#: Words a minute and pitch, 0 to 99.
_MANNERS = ((130, 40), (165, 55), (200, 70))

_NAME = "spoken-digits"
_PROGRAM = "espeak-ng"


class Utterance(NamedTuple):
    """A word as one voice says it.

    Attributes:
        part: of the data set.
        word: one of :data:`WORDS`.
        voice: accent and variant, as the synthesiser names them.
        speed: words a minute.
        pitch: 0 to 99.
    """

    part: str
    word: str
    voice: str
    speed: int
    pitch: int

    @property
    def file(self) -> Path:
        """Where it is kept, below the data set's folder."""
        return Path(self.part) / self.word / f"{self.voice}-{self.speed}-{self.pitch}.wav"


def utterances() -> Iterator[Utterance]:
    """All of them: 1,200 to learn from, and 240 each to choose by and to test on."""
    for part, voices in _VOICES.items():
        for word in WORDS:
            for voice in (f"{accent}+{variant}" for accent in _ACCENTS for variant in voices):
                for speed, pitch in _MANNERS:
                    yield Utterance(part, word, voice, speed, pitch)


def load_spoken_digits(
    *,
    seed: int,
    val_fraction: float,
    seconds: float = SECONDS,
) -> DataSet:
    """Ten digits by 56 voices in three manners, 1,680 clips; the parts share no voice.

    Kept in :func:`~scholarch.datasets.cache.cache_folder`; looked for in
    ``$SCHOLARCH_DATA/spoken-digits`` first.

    Args:
        seed: without meaning here: the parts are fixed.
        val_fraction: likewise.
        seconds: length of a clip.

    Raises:
        InvalidInputError: if the synthesiser is not installed, or fails.
        StoreError: if the clips cannot be kept.
    """
    own = own_folder()
    folder = None if own is None else own / _NAME
    if folder is None or not folder.is_dir():
        folder = cache_folder() / f"{_NAME}-{_recipe()}" / _NAME
        if not folder.is_dir():
            _synthesise(folder)
    return read_sound_folder(folder, seed=seed, val_fraction=val_fraction, seconds=seconds)


def _recipe() -> str:
    """Other voices, other clips: eight digits of a hash of what is said."""
    return hashlib.sha256(repr(list(utterances())).encode()).hexdigest()[:8]


def _synthesise(folder: Path) -> None:
    program = shutil.which(_PROGRAM)
    if program is None:
        raise InvalidInputError(
            f"data {_NAME!r} are spoken by {_PROGRAM}, which is not installed; on Debian and"
            f" Ubuntu run `apt-get install {_PROGRAM}`"
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as made:
            whole = Path(made) / _NAME
            for one in utterances():
                _speak(program, one, whole / one.file)
            # All or nothing; another process may have been faster, with the same clips.
            if not folder.is_dir():
                whole.rename(folder)
    except OSError as error:
        raise StoreError(
            f"cannot keep {_NAME!r} in {folder.parent}: {error.strerror}; name another folder in"
            f" {CACHE}"
        ) from error


def _speak(program: str, one: Utterance, file: Path) -> None:
    """Synthesise a word and keep it at 16 kHz."""
    file.parent.mkdir(parents=True, exist_ok=True)
    raw = file.with_suffix(".raw.wav")
    call = [program, "-v", one.voice, "-s", str(one.speed), "-p", str(one.pitch), "-w", str(raw)]
    done = subprocess.run([*call, one.word], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode or not raw.is_file():
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[0]
        raise InvalidInputError(f"{_PROGRAM} cannot say {one.word!r} as {one.voice!r}: {said}")
    content = io.BytesIO()
    with wave.open(content, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(SAMPLE_RATE)
        sound.writeframes(read_clip(raw).astype("<i2").tobytes())
    file.write_bytes(content.getvalue())
    raw.unlink()
