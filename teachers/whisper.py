"""Whisper's encoder as ours, from Hugging Face's layout or CTranslate2's (Radford et al., 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..searchspace.errors import InvalidInputError
from ..searchspace.transformers.mel_stem import MelStemSpec, sinusoids
from ..searchspace.transformers.style import EncoderStyle
from .bert import ACTIVATIONS
from .converted import Converted, equal_layers, placed
from .ctranslate2 import read_ct2
from .source import Source, stacked

__all__ = ["convert_whisper", "convert_whisper_ct2"]

#: Epsilon of every layer norm; neither layout writes it down.
_EPS = 1e-5
#: CTranslate2's names of a layer's modules → Hugging Face's.
_MODULES = {
    "self_attention/layer_norm": "self_attn_layer_norm",
    "self_attention/linear_1": "self_attn.out_proj",
    "ffn/layer_norm": "final_layer_norm",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
}


def convert_whisper(
    what: str, config: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> Converted:
    """Make our encoder of a Whisper in Hugging Face's layout; its decoder is left out.

    Args:
        what: where it comes from, for messages.
        config: the library's ``config.json``.
        weights: the library's, of the whole model or of its encoder.

    Raises:
        InvalidInputError: if the configuration is not one that we build, or does not fit the
            weights.
    """
    source = Source(what, config, weights)
    dim, heads = source.whole("d_model"), source.whole("encoder_attention_heads")
    depth, ffn = source.whole("encoder_layers"), source.whole("encoder_ffn_dim")
    activation = source.choice("activation_function", "gelu", ACTIVATIONS)
    source.choice("scale_embedding", False, [False])
    stem = MelStemSpec(source.whole("num_mel_bins", 80), source.whole("max_source_positions", 1500))
    source.below("conv1.weight")  # which a decoder has not
    found = {
        **placed("stem.conv1", source.layer("conv1", dim, stem.bands, 3)),
        **placed("stem.conv2", source.layer("conv2", dim, dim, 3)),
        "stem.positions": source.take("embed_positions.weight", stem.positions, dim),
        **placed("norm", source.layer("layer_norm", dim)),
    }
    for i in range(depth):
        theirs, ours = f"layers.{i}", f"layers.{i}"
        names = [f"{theirs}.self_attn.{part}_proj" for part in "qkv"]  # keys have no bias
        layers = {
            "norm1": source.layer(f"{theirs}.self_attn_layer_norm", dim),
            "qkv": stacked(*(source.layer(name, dim, dim) for name in names)),
            "proj": source.layer(f"{theirs}.self_attn.out_proj", dim, dim),
            "norm2": source.layer(f"{theirs}.final_layer_norm", dim),
            "fc1": source.layer(f"{theirs}.fc1", ffn, dim),
            "fc2": source.layer(f"{theirs}.fc2", dim, ffn),
        }
        for name, part in layers.items():
            found |= placed(f"{ours}.{name}", part)
    return Converted(
        stem,
        _style(ACTIVATIONS[activation], source.head_dim(dim, heads)),
        equal_layers(dim, depth, heads, ffn),
        found,
    )


def _style(activation: str, head_dim: int) -> EncoderStyle:
    return EncoderStyle(norm="pre", activation=activation, eps=_EPS, head_dim=head_dim)


def convert_whisper_ct2(path: Path) -> Converted:
    """Make our encoder of the Whisper in a CTranslate2 ``model.bin``; its decoder is left out.

    Weights in half precision become float32; positions, sinusoids, are computed anew, for half
    precision has rounded them.

    Raises:
        InvalidInputError: if the file is damaged, no Whisper, or quantised to whole numbers.
    """
    model, what = read_ct2(path), f"CTranslate2 file {str(path)!r}"
    tensors = model.tensors
    if model.spec != "WhisperSpec" or "encoder/num_heads" not in tensors:
        raise InvalidInputError(f"{what} holds a {model.spec or 'nameless model'}; need a Whisper")
    depth = len({name.split("/")[1] for name in tensors if name.startswith("encoder/layer_")})
    depth -= "encoder/layer_norm/gamma" in tensors
    shapes = {
        "d_model": ("encoder/conv1/weight", 0),
        "num_mel_bins": ("encoder/conv1/weight", 1),
        "max_source_positions": ("encoder/position_encodings/encodings", 0),
        "encoder_ffn_dim": ("encoder/layer_0/ffn/linear_0/weight", 0),
    }
    config = {
        key: tensors[name].shape[at]
        for key, (name, at) in shapes.items()
        if name in tensors and at < tensors[name].dim()
    }
    config["encoder_attention_heads"] = int(tensors["encoder/num_heads"].flatten()[0])
    config["encoder_layers"] = depth
    kind = tensors.get("encoder/layer_0/self_attention/linear_0/weight")
    if kind is not None and not kind.is_floating_point():
        raise InvalidInputError(
            f"{what} is quantised to {str(kind.dtype).removeprefix('torch.')}; need float16,"
            " bfloat16 or float32 (--quantization float16 of its converter)"
        )
    return convert_whisper(what, config, _as_hugging_face(what, config, tensors))


def _as_hugging_face(
    what: str, config: Mapping[str, int], tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The encoder's tensors by Hugging Face's names, as float32."""
    dim = Source(what, config, {}).whole("d_model")
    found = {"embed_positions.weight": sinusoids(config.get("max_source_positions", 0), dim)}
    for name, value in tensors.items():
        room, _, rest = name.partition("/")
        if room != "encoder" or rest.startswith(("num_heads", "position_encodings")):
            continue
        first, _, part = rest.rpartition("/")
        part = {"gamma": "weight", "beta": "bias"}.get(part, part)
        if first.startswith("layer_") and first != "layer_norm":
            index, _, module = first.removeprefix("layer_").partition("/")
            if module == "self_attention/linear_0":  # queries, keys and values, rows after rows
                for letter, rows in zip("qkv", value.float().chunk(3), strict=False):
                    found[f"layers.{index}.self_attn.{letter}_proj.{part}"] = rows
                continue
            first = f"layers.{index}.{_MODULES.get(module, module)}"
        found[f"{first}.{part}"] = value.float()
    return found
