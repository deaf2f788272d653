from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from scholarch.data import load_batch, load_data
from scholarch.datasets.sound import read_clip
from scholarch.datasets.spoken_digits import WORDS, load_spoken_digits, utterances
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.inputs import waveform

wavfile = pytest.importorskip("scipy.io.wavfile")


def tone(rate: int = 16000, seconds: float = 0.1, hertz: float = 440.0) -> npt.NDArray[np.float64]:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def write(path: Path, sound: npt.NDArray[np.generic], rate: int = 16000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(path, rate, sound)
    return path


def pcm(sound: npt.NDArray[np.float64]) -> npt.NDArray[np.int16]:
    return np.rint(sound * 2**15).astype(np.int16)


def refused(call: object, *words: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        call()  # type: ignore[operator]
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_16_bits_at_16_khz_stay_as_they_are(tmp_path: Path) -> None:
    sound = np.array([0, 1, -1, 32767, -32768, 12345], dtype=np.int16)
    assert np.array_equal(read_clip(write(tmp_path / "a.wav", sound)), sound)


@pytest.mark.parametrize("kind", ["uint8", "int32", "float32", "float64", "24 bits"])
def test_other_widths_are_the_same_sound(tmp_path: Path, kind: str) -> None:
    sound, path = tone(), tmp_path / "a.wav"
    if kind == "24 bits":
        numbers = np.rint(sound * 2**23).astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3]
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 3, 16000, 0, "NONE", ""))
            file.writeframes(numbers.tobytes())
    elif kind == "uint8":
        write(path, np.rint(sound * 128 + 128).astype(np.uint8))
    elif kind == "int32":
        write(path, np.rint(sound * 2**31).astype(np.int32))
    else:
        write(path, sound.astype(kind))
    within = 129 if kind == "uint8" else 1
    assert np.abs(read_clip(path).astype(int) - pcm(sound)).max() <= within


def test_channels_are_averaged_and_rates_brought_to_16_khz(tmp_path: Path) -> None:
    rate = 44100
    stereo = np.stack([tone(rate, 0.5) * 1.2, tone(rate, 0.5) * 0.8], axis=1)
    found = read_clip(write(tmp_path / "a.wav", stereo.astype(np.float32), rate))
    assert len(found) == 8000
    inner = slice(400, -400)
    error = (found[inner] - pcm(tone(16000, 0.5))[inner]).astype(float)
    assert np.abs(error).max() < 0.005 * 2**15


def test_clips_are_cut_and_filled_up(tmp_path: Path) -> None:
    sound = pcm(tone(seconds=0.1))
    path = write(tmp_path / "a.wav", sound)
    assert np.array_equal(read_clip(path, 100), sound[:100])
    assert np.array_equal(read_clip(path, 2000), np.pad(sound, (0, 400)))


def test_class_folders(tmp_path: Path) -> None:
    for i in range(10):
        write(tmp_path / "low" / f"{i}.wav", pcm(tone(hertz=200 + i)))
        write(tmp_path / "high" / f"{i}.wav", pcm(tone(hertz=2000 + i)))
    data = load_data(tmp_path, seconds=0.05)
    assert (data.modality, data.resolution, data.class_names) == ("sound", 800, ("high", "low"))
    assert [len(p.labels) for p in (data.train, data.val, data.test)] == [16, 2, 2]
    assert (data.mean, data.std) == ((0.0, 0.0), (1.0, 1.0))
    batch = load_batch(f"{tmp_path}?seconds=0.05", size=4)
    sound = waveform(batch.images)
    assert sound.shape == (4, 800)
    # Samples survive the way through bytes exactly.
    low = batch.labels == 1
    crossings = (sound[:, 1:] * sound[:, :-1] < 0).sum(dim=1)
    assert bool((crossings[low] < 50).all() & (crossings[~low] > 150).all())
    assert torch.equal((sound * 2**15).round(), sound * 2**15)


def test_flat_folders_are_unlabelled(tmp_path: Path) -> None:
    for i in range(4):
        write(tmp_path / f"{i}.wav", pcm(tone(hertz=300 + i)))
    data = load_data(tmp_path, seconds=0.02, val_fraction=0)
    assert data.unlabelled
    assert "clips of 320 samples (0.02 s), no labels" in repr(data)


def test_flac_is_read(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile", reason="needs the extra speech")
    soundfile.write(str(tmp_path / "a.flac"), pcm(tone()), 16000)
    assert np.array_equal(read_clip(tmp_path / "a.flac"), pcm(tone()))
    (tmp_path / "b.flac").write_bytes(b"fLaC but no more")
    refused(lambda: read_clip(tmp_path / "b.flac"), "b.flac", "no audio")


def test_what_is_no_audio(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"hello")
    refused(lambda: read_clip(tmp_path / "a.wav"), "a.wav", "no audio")
    whole = write(tmp_path / "b.wav", pcm(tone())).read_bytes()
    (tmp_path / "b.wav").write_bytes(whole[:30])
    refused(lambda: read_clip(tmp_path / "b.wav"), "b.wav")
    refused(
        lambda: read_clip(write(tmp_path / "c.wav", np.zeros(0, np.int16))), "c.wav", "no sound"
    )
    broken = tone().astype(np.float32)
    broken[7] = np.nan
    refused(lambda: read_clip(write(tmp_path / "d.wav", broken)), "d.wav", "no numbers")
    for seconds in (0.0, -1.0, float("nan"), 1e9):
        refused(lambda seconds=seconds: load_data(tmp_path, seconds=seconds), "seconds", "0.01")


def test_clips_beside_class_folders_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a" / "1.wav", pcm(tone()))
    write(tmp_path / "stray.wav", pcm(tone()))
    refused(lambda: load_data(tmp_path), "stray.wav", "beside")


def test_spoken_digits_are_split_by_voice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = list(utterances())
    assert len(said) == len({one.file for one in said}) == 1680
    voices = [{one.voice for one in said if one.part == part} for part in ("train", "val", "test")]
    assert not voices[0] & voices[1] | voices[0] & voices[2] | voices[1] & voices[2]
    monkeypatch.setenv("SCHOLARCH_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    refused(lambda: load_data("spoken-digits"), "espeak-ng", "apt-get install")


def test_spoken_digits_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = [one for one in utterances() if one.voice in {"en-us+m1", "en-us+m7", "en-us+m6"}]
    few = [one for one in few if one.speed == 165 and one.word in WORDS[:2]]
    monkeypatch.setattr("scholarch.datasets.spoken_digits.utterances", lambda: iter(few))
    monkeypatch.setenv("SCHOLARCH_CACHE", str(tmp_path))
    program = tmp_path / "bin" / "espeak-ng"
    write(tmp_path / "said.wav", pcm(tone(22050)), 22050)
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec /bin/cp {tmp_path / "said.wav"} "$8"\n', encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    made = load_spoken_digits(seed=0, val_fraction=0, seconds=0.2)
    assert [len(p.labels) for p in (made.train, made.val, made.test)] == [2, 2, 2]
    assert made.class_names == ("one", "zero")
    program.unlink()  # what is kept needs no synthesiser
    again = load_spoken_digits(seed=0, val_fraction=0, seconds=0.2)
    assert np.array_equal(made.train.images, again.train.images)
    assert made.train.images.any()
