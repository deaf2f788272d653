"""Encoders as networks of timm and transformers, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.transformers.encoder import Encoder
from scholarch.searchspace.transformers.interleaved import stream_order
from scholarch.searchspace.transformers.mel_stem import MelStemSpec
from scholarch.searchspace.transformers.patch_stem import PatchStemSpec
from scholarch.searchspace.transformers.style import EncoderShape, EncoderStyle, LayerShape
from scholarch.searchspace.transformers.text_stem import TextStemSpec
from scholarch.searchspace.transformers.wave_stem import WaveStemSpec
from scholarch.teacher import load_teacher
from scholarch.teachers.hugging_face import convert_hugging_face
from scholarch.teachers.library import save_library, to_library
from scholarch.teachers.timm_import import import_timm
from scholarch.teachers.timm_vit import convert_timm_vit

EVEN = (LayerShape(4, 48, 0), LayerShape(4, 48, 1))
UNEVEN = (LayerShape(2, 40, 0), LayerShape(6, 88, 1))
IMAGES = PatchStemSpec(patch=4, grid=4, in_channels=3)
TEXT = TextStemSpec(vocabulary=50, positions=20, eps=1e-12)
SOUND = {"channels": (8,) * 3, "kernels": (10, 3, 2), "strides": (5, 2, 2)}
SOUND |= {"positional": 8, "groups": 4}


def encoder(stem: Any, layers: tuple[LayerShape, ...] = EVEN, **style: Any) -> Encoder:
    """An encoder of width 32 whose every number is away from its initial value."""
    classes = style.pop("num_classes", 5)
    style = {"head_dim": 8, **style}
    made = Encoder(stem, EncoderStyle(**style), EncoderShape(32, layers), num_classes=classes)
    generator = torch.Generator().manual_seed(1)
    for parameter in made.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return made.eval()


def far(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def same_weights(one: Encoder, other: Encoder, names: str = "") -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(
        torch.equal(v, theirs[k]) for k, v in mine.items() if not names or names not in k
    )


@pytest.mark.parametrize(
    ("layers", "style"),
    [
        (EVEN, {"pool": "first"}),
        (EVEN, {"pool": "patches", "layer_scale": True, "activation": "relu"}),
        (EVEN, {"pool": "mean", "final_norm": False, "num_classes": 0}),
        (UNEVEN, {"pool": "first", "eps": 1e-5}),
        (UNEVEN, {"pool": "patches", "layer_scale": True, "activation": "gelu_tanh"}),
    ],
)
def test_a_timm_vit(layers: tuple[LayerShape, ...], style: dict[str, Any]) -> None:
    ours = encoder(IMAGES, layers, **style)
    before = torch.get_rng_state()
    theirs, what = to_library(ours)
    assert torch.equal(torch.get_rng_state(), before)
    assert theirs is not None
    assert ("its own measures" in what) is (layers is UNEVEN)
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert far(theirs(images), ours(images)) <= 1e-5
    if style["pool"] == "mean":
        with pytest.raises(InvalidInputError, match="pools its class token"):
            convert_timm_vit("v", theirs)
    else:
        back = convert_timm_vit("v", theirs)
        assert (back.stem, back.style, back.shape) == (ours.spec, ours.style, ours.shape)
        assert same_weights(back.build(), ours)


def test_a_vit_that_timm_has_not() -> None:
    assert to_library(encoder(IMAGES, relative=2))[1].startswith("timm's ViT has no two-dim")
    assert "behind them" in to_library(encoder(IMAGES, norm="post"))[1]


def test_a_bert() -> None:
    pytest.importorskip("transformers", reason="the extra text is not installed")
    ours = encoder(TEXT, norm="post", eps=1e-12, final_norm=False, activation="gelu_tanh")
    theirs, what = to_library(ours)
    assert theirs is not None
    assert what == "transformers BertModel, without the classifier"
    ids = torch.randint(1, 50, (3, 12), generator=torch.Generator().manual_seed(0))
    ids[1, 5:] = 0
    mask = ids != 0
    with torch.no_grad():
        found = theirs(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        assert far(found[mask], ours.tokens(ids, mask)[mask]) <= 1e-5
    back = convert_hugging_face("x", theirs.config.to_dict(), theirs.state_dict())
    assert (back.stem, back.style, back.shape) == (ours.spec, ours.style, ours.shape)
    headless = Encoder(ours.spec, ours.style, ours.shape, num_classes=0)
    headless.load_state_dict({k: v for k, v in ours.state_dict().items() if "head" not in k})
    assert same_weights(back.build(), headless)


@pytest.mark.parametrize("stable", [False, True])
def test_a_hubert(stable: bool) -> None:
    pytest.importorskip("transformers", reason="the extra speech is not installed")
    spec = WaveStemSpec(
        **SOUND, norm="layer" if stable else "group", bias=stable, token_norm=not stable
    )
    norm = "pre" if stable else "post"
    ours = encoder(spec, norm=norm, eps=1e-5, final_norm=stable, num_classes=0)
    theirs, what = to_library(ours)
    assert theirs is not None
    assert what == "transformers HubertModel"
    sound = torch.randn(2, 600, generator=torch.Generator().manual_seed(0)) * 0.1
    with torch.no_grad():
        found = theirs(sound).last_hidden_state[..., stream_order(32, 4)]
        assert far(found, ours.tokens(sound)) <= 1e-5
    config = theirs.config.to_dict()
    back = convert_hugging_face("x", config, theirs.state_dict(), normalise=False)
    assert (back.stem, back.style, back.shape) == (ours.spec, ours.style, ours.shape)
    assert same_weights(back.build(), ours, "stem.positional.weight")
    weight = ours.state_dict()["stem.positional.weight"]
    assert torch.allclose(back.weights["stem.positional.weight"], weight, atol=1e-6)


@pytest.mark.parametrize(
    ("stem", "layers", "style", "why"),
    [
        (TEXT, UNEVEN, {"norm": "post", "final_norm": False}, "BERT's layers have equal heads"),
        (TEXT, (LayerShape(3, 48, 0),), {"norm": "post", "final_norm": False}, "3 heads of 8"),
        (TEXT, EVEN, {}, "norms behind the branches"),
        (TEXT, EVEN, {"norm": "post", "final_norm": False, "eps": 1e-6}, "one epsilon"),
        (WaveStemSpec(**SOUND), UNEVEN, {"norm": "post"}, "HuBERT's layers have equal heads"),
        (WaveStemSpec(**SOUND), EVEN, {"norm": "pre"}, "pre-norm, behind them"),
        (MelStemSpec(), EVEN, {}, "spectrograms of 30 seconds"),
    ],
)
def test_what_no_library_has(
    stem: Any, layers: tuple[LayerShape, ...], style: dict[str, Any], why: str, tmp_path: Path
) -> None:
    ours = encoder(stem, layers, **style)
    module, reason = to_library(ours)
    assert module is None
    assert why in reason
    assert "\n" not in reason
    with pytest.raises(InvalidInputError, match="has no form in its home library"):
        save_library(ours, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_timms_folder(tmp_path: Path) -> None:
    ours = encoder(IMAGES, pool="patches", layer_scale=True, activation="gelu_tanh")
    save_library(ours, tmp_path / "v")
    timm = import_timm()
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        theirs = timm.create_model(f"local-dir:{tmp_path / 'v'}", pretrained=True).eval()
    teacher = load_teacher(tmp_path / "v")
    with torch.no_grad():
        assert far(theirs(images), ours(images)) <= 1e-5
        assert far(teacher.module(images), ours(images)) <= 1e-5
    with pytest.raises(InvalidInputError, match="cannot say layers that differ"):
        save_library(encoder(IMAGES, UNEVEN), tmp_path / "w")


def test_hugging_faces_folder(tmp_path: Path) -> None:
    transformers: Any = pytest.importorskip("transformers", reason="the extra text is missing")
    ours = encoder(TEXT, norm="post", eps=1e-12, final_norm=False, num_classes=0)
    assert save_library(ours, tmp_path) == "transformers BertModel"
    with torch.random.fork_rng():  # the library fills the pooler, which it has not, at random
        theirs: nn.Module = transformers.AutoModel.from_pretrained(tmp_path).eval()
    ids = torch.randint(1, 50, (2, 9), generator=torch.Generator().manual_seed(0))
    teacher = load_teacher(tmp_path)
    with torch.no_grad():
        assert far(theirs(input_ids=ids).last_hidden_state, ours.tokens(ids)) <= 1e-5
        assert torch.equal(teacher.module(ids), ours(ids))
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["BertModel"]
