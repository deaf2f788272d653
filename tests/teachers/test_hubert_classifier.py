"""HuBERTs that classify: the classifier comes along, out to the library and in from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from scholarch.searchspace.transformers.encoder import Encoder
from scholarch.searchspace.transformers.style import EncoderShape, EncoderStyle, LayerShape
from scholarch.searchspace.transformers.wave_stem import WaveStemSpec
from scholarch.teacher import load_teacher
from scholarch.teachers.hugging_face import convert_hugging_face
from scholarch.teachers.library import save_library, to_library

pytest.importorskip("transformers", reason="the extra speech is not installed")

STEM = WaveStemSpec(
    (8, 8, 8), (10, 3, 3), (5, 2, 2), positional=16, groups=4, normalise=True
)  # a token each 20 samples
SHAPE = EncoderShape(32, (LayerShape(4, 64, 0), LayerShape(4, 64, 1)))


def _encoder(**style: Any) -> Encoder:
    given = {"norm": "post", "eps": 1e-5, "final_norm": False, "head_dim": 8} | style
    made = Encoder(STEM, EncoderStyle(**given), SHAPE, num_classes=5, seed=0)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in made.parameters():
            tensor.add_(torch.randn(tensor.shape, generator=draw) * 0.1)
    return made.eval()


def _sound() -> torch.Tensor:
    sound = torch.randn(3, 600, generator=torch.Generator().manual_seed(0))
    sound = sound - sound.mean(dim=1, keepdim=True)
    return sound / sound.std(dim=1, keepdim=True, correction=0)


def test_a_classifier_goes_out_and_comes_in(tmp_path: Path) -> None:
    ours = _encoder()
    what = save_library(ours, tmp_path)
    assert what == "transformers HubertForSequenceClassification"
    theirs: Any = to_library(ours)[0]
    again = load_teacher(tmp_path)
    assert again.num_classes == 5
    with torch.no_grad():
        known = ours(_sound())
        torch.testing.assert_close(theirs(_sound()).logits, known, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(again.module(_sound()), known, rtol=1e-4, atol=1e-5)


def test_a_projector_of_another_width_is_multiplied_in() -> None:
    from transformers import HubertForSequenceClassification

    theirs: Any = to_library(_encoder())[0]
    config = theirs.config
    config.classifier_proj_size = 12
    with torch.random.fork_rng():
        torch.manual_seed(0)
        other: Any = HubertForSequenceClassification(config).eval()
    found = convert_hugging_face("x", config.to_dict(), other.state_dict())
    assert found.num_classes == 5
    with torch.no_grad():
        known = other(_sound()).logits
        torch.testing.assert_close(found.build()(_sound()), known, rtol=1e-4, atol=1e-5)


def test_other_heads_are_left_out() -> None:
    theirs: Any = to_library(_encoder())[0]
    config, weights = theirs.config.to_dict(), theirs.state_dict()
    weighted = config | {"use_weighted_layer_sum": True}
    assert convert_hugging_face("x", weighted, weights).num_classes == 0
    speakers = weights | {"tdnn.0.kernel.weight": torch.ones(1)}
    assert convert_hugging_face("x", config, speakers).num_classes == 0


def test_a_classifier_of_the_first_token_has_no_such_form() -> None:
    assert to_library(_encoder(pool="first"))[1].endswith("HubertModel, without the classifier")
