"""Text and sound as bytes, and back."""

from __future__ import annotations

import pytest
import torch

from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.inputs import pack_sound, pack_tokens, packed, token_ids, waveform
from scholarch.searchspace.modality import size_text
from scholarch.testing.light import light_space


def test_every_token_id_comes_back() -> None:
    ids = torch.arange(65536).view(16, -1)
    stored = pack_tokens(ids)
    assert stored.dtype == torch.uint8
    assert stored.shape == (16, 1, 4096, 2)
    assert stored[1, 0, 2].tolist() == [16, 2]  # 4098, the greater byte first
    batch = packed(stored)
    assert batch.shape == (16, 2, 1, 4096)
    assert 0.0 <= float(batch.min()) <= float(batch.max()) <= 1.0
    assert torch.equal(token_ids(batch), ids)
    assert torch.equal(token_ids(batch.double()), ids)
    assert torch.equal(token_ids(ids.int()), ids)
    assert token_ids(ids.int()).dtype == torch.int64


def test_every_sample_of_sound_comes_back() -> None:
    samples = torch.arange(-32768, 32768).to(torch.int16).view(4, -1)
    stored = pack_sound(samples)
    assert stored[0, 0, 0].tolist() == [0x80, 0]  # two's complement of -32768
    wave = waveform(packed(stored))
    assert wave.dtype == torch.float32
    assert torch.equal(wave, samples.float() / 32768)
    assert float(wave.max()) < 1.0
    assert waveform(packed(stored).double()).dtype == torch.float64
    assert waveform(wave) is wave


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (torch.zeros(2, 3), r"float32 of shape \(2, 3\)"),
        (torch.zeros(6, dtype=torch.int64), r"need whole numbers \[N, L\]"),
        (torch.tensor([[70000]]), "span 70000 to 70000; need 0 to 65535"),
        (torch.tensor([[-1]]), "span -1"),
    ],
)
def test_what_are_no_ids_is_refused(ids: torch.Tensor, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        pack_tokens(ids)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"sound is torch.float32.*need int16"):
        pack_sound(torch.zeros(2, 3))
    for x in (torch.zeros(2, 3, 8, 8), torch.zeros(2, 1, 4, dtype=torch.int64), torch.zeros(2, 4)):
        with pytest.raises(InvalidInputError, match="text input"):
            token_ids(x)
    for x in (torch.zeros(2, 3, 8, 8), torch.zeros(2, 4, dtype=torch.int64)):
        with pytest.raises(InvalidInputError, match="sound input"):
            waveform(x)


def test_spaces_say_what_their_inputs_are() -> None:
    generator = torch.Generator().manual_seed(0)
    images = create_space("resnet-cifar", in_channels=1)
    assert images.input_shape() == (1, 32, 32)
    assert images.input_shape(8) == (1, 8, 8)
    assert images.input_text() == "32×32 pixels"
    assert images.example(3, generator, 8).shape == (3, 1, 8, 8)
    text = light_space("bert-from-teacher")
    assert text.input_shape() == (2, 1, 12)
    assert text.input_text(64) == "64 tokens"
    x = text.example(50, generator)
    ids = token_ids(x)
    assert ids.shape == (50, 12)
    assert int(ids.max()) < text.vocabulary
    assert (ids[0] > 0).all()
    padded = (ids == 0).sum(dim=1)
    assert 0 < int(padded.max()) <= 6
    assert torch.equal(ids == 0, torch.arange(12) >= (12 - padded)[:, None])  # behind the words
    assert size_text("sound", 8000) == "8000 samples (0.5 s)"


def test_text_has_two_bytes_a_token() -> None:
    with pytest.raises(InvalidInputError, match="in_channels = 3.*need 2"):
        light_space("bert-from-teacher", in_channels=3)
    assert light_space("bert-from-teacher").in_channels == 2
