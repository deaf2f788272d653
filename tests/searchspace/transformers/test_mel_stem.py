"""Log-mel tokens, against numpy's Fourier transform and transformers' own feature extractor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from scholarch.searchspace.elastic import initialise
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.inputs import pack_sound, packed
from scholarch.searchspace.trace import Trace
from scholarch.searchspace.transformers.encoder import Encoder
from scholarch.searchspace.transformers.log_mel import LogMel, mel_filters
from scholarch.searchspace.transformers.mel_stem import ElasticMelStem, MelStemSpec, sinusoids
from scholarch.searchspace.transformers.style import EncoderShape, EncoderStyle, LayerShape
from scholarch.teachers.timm_import import import_transformers


def _sound(samples: int, clips: int = 2) -> torch.Tensor:
    """Chirps in noise, one clip ten times as loud as the next."""
    generator = torch.Generator().manual_seed(samples)
    time = torch.arange(samples) / 16_000
    chirp = torch.sin(2 * torch.pi * (200 + 3000 * time) * time)
    noise = 0.02 * torch.randn(clips, samples, generator=generator)
    return (chirp + noise) * 0.5 / 10.0 ** torch.arange(clips)[:, None]


def _elastic(spec: MelStemSpec, dim: int) -> ElasticMelStem:
    stem = spec.elastic(dim)
    initialise(stem, seed=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for bias in (stem.conv1.bias, stem.conv2.bias):
            assert bias is not None
            bias.copy_(torch.rand(bias.shape, generator=generator))
    return stem


def _plain(spec: MelStemSpec, dim: int, classes: int = 0) -> Encoder:
    shape = EncoderShape(dim, (LayerShape(1, 8, 0),))
    return Encoder(spec, EncoderStyle(head_dim=8), shape, num_classes=classes, seed=0).eval()


def test_spectrogram_is_numpys() -> None:
    sound = _sound(1777)
    found = LogMel()(sound)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    for clip, given in zip(sound.double().numpy(), found, strict=True):
        wide = np.pad(clip, 200, mode="reflect")
        frames = [wide[i * 160 : i * 160 + 400] * hann for i in range(1777 // 160)]
        power = np.abs(np.fft.rfft(frames)) ** 2
        log = np.log10(np.maximum(mel_filters(80) @ power.T, 1e-10))
        log = (np.maximum(log, log.max() - 8.0) + 4.0) / 4.0
        assert np.abs(log - given.numpy()).max() < 1e-4
    assert found.shape == (2, 80, 11)


def test_spectrogram_and_filters_are_whispers() -> None:
    pytest.importorskip("transformers", reason="needs the extra text, which brings transformers")
    import_transformers()
    from transformers import WhisperFeatureExtractor

    whisper: Any = WhisperFeatureExtractor()
    np.testing.assert_allclose(mel_filters(80), whisper.mel_filters.T, atol=1e-9)
    sound = _sound(16_123)
    known = [
        whisper(clip.numpy(), sampling_rate=16_000, padding=False, return_tensors="pt")
        for clip in sound
    ]
    found = LogMel()(sound)
    for given, clip in zip(known, found, strict=True):
        torch.testing.assert_close(given["input_features"][0], clip, atol=2e-4, rtol=0.0)


def test_mel_bands_of_equal_width_in_hertz_have_equal_weight() -> None:
    # Below the knee at 1 kHz the scale is linear; each triangle's area, in Hz, is 1.
    filters = mel_filters(20)
    areas = filters.sum(axis=1) * 8000 / 200
    assert np.abs(areas[2:] - 1.0).max() < 0.1


def test_positions_are_sines_then_cosines() -> None:
    table = sinusoids(5, 6)
    for t in range(5):
        for i, rate in enumerate((1.0, 0.01, 0.0001)):
            assert table[t, i] == pytest.approx(np.sin(t * rate), abs=1e-6)
            assert table[t, 3 + i] == pytest.approx(np.cos(t * rate), abs=1e-6)


@pytest.mark.parametrize("samples", [201, 1600, 1760, 2001])
def test_a_slice_is_the_plain_stem(samples: int) -> None:
    spec = MelStemSpec(positions=20)
    stem, sound = _elastic(spec, 24), _sound(samples)
    for dim in (8, 16, 24):
        with torch.device("meta"):
            plain = spec.plain(dim)
        plain.to_empty(device="cpu")
        stem.copy_into(plain)
        with torch.no_grad():
            tokens = stem(sound, dim, Trace())
            assert torch.equal(tokens, plain(sound))
        assert tokens.shape == (2, spec.tokens(samples), dim)


def test_a_batchs_bytes_and_their_waveform_are_one_input() -> None:
    values = (_sound(1600) * 32768).short()
    network = _plain(MelStemSpec(positions=20), 16)
    with torch.no_grad():
        one = network(packed(pack_sound(values)))
        assert torch.equal(one, network(values.float() / 32768))


def test_sorted_channels_keep_the_largest_stem_and_what_is_saved() -> None:
    spec = MelStemSpec(positions=20)
    stem, sound = _elastic(spec, 24), _sound(1600)
    with torch.no_grad():
        before = stem(sound, 24, Trace())
        order = torch.randperm(24, generator=torch.Generator().manual_seed(3))
        inner = torch.randperm(24, generator=torch.Generator().manual_seed(4))
        tensors = dict(stem.state_dict())
        writes, reads = stem.slots()
        assert not reads
        for slot in writes:
            tensors[slot.name].copy_(tensors[slot.name].index_select(slot.dim, order))
        (group,) = stem.groups()
        for slot in group.slots:
            tensors[slot.name].copy_(tensors[slot.name].index_select(slot.dim, inner))
        after = stem(sound, 24, Trace())
        torch.testing.assert_close(after, before[..., order], atol=1e-5, rtol=1e-5)
        # Positions are not what their formula gives any more: they are saved.
        network = _plain(spec, 16)
        stem.copy_into(network.stem)
        again = _plain(spec, 16)
        again.load_state_dict(network.state_dict())
        assert torch.equal(again.to("cpu", torch.float32).stem(sound), stem(sound, 16, Trace()))


def test_tables_are_made_wherever_memory_is() -> None:
    with torch.device("meta"):
        empty = MelStemSpec(positions=20).plain(8)
    assert empty(torch.empty(3, 1600, device="meta")).shape == (3, 5, 8)
    empty.to_empty(device="cpu")
    whole = LogMel()
    assert torch.equal(empty.spectrogram.kernels, whole.kernels)
    assert torch.equal(empty.spectrogram.filters, whole.filters)
    assert torch.equal(empty.positions, sinusoids(20, 8))
    assert not any("spectrogram" in name for name in empty.state_dict())
    # In double precision they are of double precision, not of rounded values.
    exact = LogMel().double()
    assert not torch.equal(exact.kernels.float().double(), exact.kernels)


def test_autocast_leaves_the_spectrogram_alone() -> None:
    sound, spectrogram = _sound(1600), LogMel()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(spectrogram(sound), spectrogram(sound.clone()).float())
        found = spectrogram(sound)
    assert torch.equal(found, spectrogram(sound))


@pytest.mark.parametrize(
    ("samples", "words"),
    [(200, "200 samples; need 201 to 6559"), (6560, "6560 samples"), (1, "give a longer one")],
)
def test_a_clip_too_short_or_too_long_is_one_line(samples: int, words: str) -> None:
    spec = MelStemSpec(positions=20)
    network = _plain(spec, 8)
    for call in (lambda: network(torch.zeros(1, samples)), lambda: spec.tokens(samples)):
        with pytest.raises(InvalidInputError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert spec.tokens(6559) == 20
