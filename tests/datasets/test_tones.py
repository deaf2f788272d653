"""Synthetic sounds: the same every time, of six kinds that differ."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scholarch.data import data_spec, load_data
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.inputs import waveform


def test_tones_are_sound_of_six_kinds() -> None:
    data = load_data("tones?seconds=0.25")
    assert (data.modality, data.resolution, data.num_classes) == ("sound", 4000, 6)
    assert [len(p.labels) for p in (data.train, data.val, data.test)] == [600, 120, 120]
    again = load_data("tones?seconds=0.25", seed=3)
    assert np.array_equal(data.train.images, again.train.images)
    batch = data.batch(32, 0)
    sound = waveform(batch.images)
    assert 0.02 < float(sound.std()) < 0.4
    # Noise has no period: its neighbouring samples agree least.
    first, second = sound[:, :-1], sound[:, 1:]
    alike = torch.cosine_similarity(first, second, dim=1)
    hiss = data.class_names.index("hiss") if data.class_names else 0
    assert float(alike[batch.labels == hiss].max()) < float(alike[batch.labels != hiss].min())


@pytest.mark.parametrize("seconds", ["0.01", "11"])
def test_lengths_out_of_range_are_refused(seconds: str) -> None:
    with pytest.raises(InvalidInputError, match=r"need \.1 to 10"):
        load_data(f"tones?seconds={seconds}")


def test_a_length_of_nothing_is_said_not_left_out() -> None:
    assert data_spec("tones", seconds=0.0) == "tones?seconds=0.0"
    with pytest.raises(InvalidInputError, match=r"need \.1 to 10"):
        load_data(data_spec("tones", seconds=0.0))
