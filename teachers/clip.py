"""CLIP in Hugging Face's layout: two towers, of images and of text, in one space of embeddings.

Radford et al., ICML 2021, §2.3-2.4. The images' tower becomes our encoder, of which students can be
made and which they can inherit from; the text tower stays as it is, frozen, and gives what stands
for a class (:mod:`~scholarch.teachers.zero_shot`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..searchspace.errors import InvalidInputError
from ..searchspace.transformers.patch_stem import PatchStemSpec
from ..searchspace.transformers.style import EncoderShape, EncoderStyle
from .bert import ACTIVATIONS
from .clip_text import TextSide, TextTower
from .converted import Converted, equal_layers, placed
from .source import Source, stacked

__all__ = ["MEAN", "STD", "Clip", "convert_clip"]

#: Of the channels of the images that OpenAI's networks were trained on.
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

_ACTIVATIONS = ACTIVATIONS | {"quick_gelu": "quick_gelu"}

#: What the library's files leave out: sizes of ViT-B/32's towers.
_VISION = {"hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072}
_VISION |= {"num_attention_heads": 12, "image_size": 224, "patch_size": 32, "num_channels": 3}
_TEXT = {"hidden_size": 512, "num_hidden_layers": 12, "intermediate_size": 2048}
_TEXT |= {"num_attention_heads": 8, "vocab_size": 49408, "max_position_embeddings": 77}

_LAYER = {"norm1": "layer_norm1", "proj": "self_attn.out_proj", "norm2": "layer_norm2"}
_LAYER |= {"fc1": "mlp.fc1", "fc2": "mlp.fc2"}


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Both towers.

    Attributes:
        images: the encoder that is about to be built; without a classifier, its output is the
            embedding's direction.
        side: of its images, in pixels.
        text: the other tower.
    """

    images: Converted
    side: int
    text: TextSide


def convert_clip(
    what: str,
    config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    *,
    tokenizer: Path | None = None,
) -> Clip:
    """Make our encoder of a CLIP's images' tower, and a frozen module of its text tower.

    Args:
        what: where it comes from, for messages.
        config: the library's ``config.json``.
        weights: the library's, a wrapper's prefix allowed.
        tokenizer: its ``tokenizer.json``, where there is one.

    Raises:
        InvalidInputError: if the configuration is not one that we build, or does not fit the
            weights.
    """
    whole = Source(what, config, weights)
    embed = whole.whole("projection_dim", 512)
    images, side = _images(what, _part(what, config, "vision"), weights, embed)
    tower = _text(what, _part(what, config, "text"), weights, embed)
    whole.below("logit_scale")
    scale = float(whole.take("logit_scale").exp())
    return Clip(images, side, TextSide(what, tower, scale, tokenizer))


def _part(what: str, config: Mapping[str, Any], tower: str) -> dict[str, Any]:
    """Settings of a tower; the first files have some of them a second time, which hold."""
    found: dict[str, Any] = dict(_VISION if tower == "vision" else _TEXT)
    for name in (f"{tower}_config", f"{tower}_config_dict"):
        given = config.get(name) or {}
        if not isinstance(given, Mapping):
            raise InvalidInputError(f"{what}: {name} = {given!r}; need a table of settings")
        found |= given
    return found


def _images(
    what: str, config: Mapping[str, Any], weights: Mapping[str, Tensor], embed: int
) -> tuple[Converted, int]:
    source = Source(what, config, weights)
    side, patch = source.whole("image_size"), source.whole("patch_size")
    if patch > side:
        raise InvalidInputError(f"{what}: patch_size = {patch}; need at most {side}, the image's")
    style, shape = _tower(source, pool="first", embed=embed)
    channels, dim = source.whole("num_channels"), shape.dim
    stem = PatchStemSpec(patch, side // patch, channels, style.eps)
    source.below("vision_model.embeddings.class_embedding")
    place = "vision_model.embeddings"
    found = {
        "stem.class_token.weight": source.take(f"{place}.class_embedding", dim)[None],
        "stem.positions.weight": source.take(
            f"{place}.position_embedding.weight", 1 + stem.grid**2, dim
        ),
        **placed(
            "stem.conv", source.layer(f"{place}.patch_embedding", dim, channels, patch, patch)
        ),
        # So it is spelt in the library.
        **placed("stem.norm", source.layer("vision_model.pre_layrnorm", dim)),
        **_layers(source, "vision_model.encoder.layers", shape),
        **placed("norm", source.layer("vision_model.post_layernorm", dim)),
        **placed("embedding", source.layer("visual_projection", embed, dim, bias=False)),
    }
    return Converted(stem, style, shape, found), side


def _text(
    what: str, config: Mapping[str, Any], weights: Mapping[str, Tensor], embed: int
) -> TextTower:
    source = Source(what, config, weights)
    style, shape = _tower(source)
    words, positions = source.whole("vocab_size"), source.whole("max_position_embeddings")
    end = source.whole("eos_token_id", 49407, least=0)
    source.below("text_model.embeddings.token_embedding.weight")
    place, dim = "text_model.embeddings", shape.dim
    found = {
        "words.weight": source.take(f"{place}.token_embedding.weight", words, dim),
        "positions.weight": source.take(f"{place}.position_embedding.weight", positions, dim),
        **_layers(source, "text_model.encoder.layers", shape),
        **placed("norm", source.layer("text_model.final_layer_norm", dim)),
        "embedding.weight": source.take("text_projection.weight", embed, dim),
    }
    tower = TextTower(style, shape, words=words, positions=positions, embed=embed, end=end)
    tower.load_state_dict(found)
    return tower.eval().requires_grad_(False)


def _tower(
    source: Source, *, pool: str = "mean", embed: int = 0
) -> tuple[EncoderStyle, EncoderShape]:
    dim, heads = source.whole("hidden_size"), source.whole("num_attention_heads")
    style = EncoderStyle(
        norm="pre",
        activation=_ACTIVATIONS[source.choice("hidden_act", "quick_gelu", _ACTIVATIONS)],
        eps=source.number("layer_norm_eps", 1e-5),
        head_dim=source.head_dim(dim, heads),
        pool=pool,
        embed=embed,
    )
    depth, ffn = source.whole("num_hidden_layers"), source.whole("intermediate_size")
    return style, equal_layers(dim, depth, heads, ffn)


def _layers(source: Source, place: str, shape: EncoderShape) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    dim = shape.dim
    for i, one in enumerate(shape.layers):
        names = [f"{place}.{i}.self_attn.{part}_proj" for part in "qkv"]
        qkv = stacked(*(source.layer(name, dim, dim) for name in names))
        found |= placed(f"layers.{i}.qkv", qkv)
        shapes = {"proj": (dim, dim), "fc1": (one.ffn, dim), "fc2": (dim, one.ffn)}
        for ours, theirs in _LAYER.items():
            part = source.layer(f"{place}.{i}.{theirs}", *shapes.get(ours, (dim,)))
            found |= placed(f"layers.{i}.{ours}", part)
    return found
