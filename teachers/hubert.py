"""HuBERT and wav2vec 2.0 in Hugging Face's layout as our encoder.

Hsu et al., TASLP 2021; Baevski et al., NeurIPS 2020. Base models have norms behind each branch
and a group norm behind the first convolution, large ones ("stable layer norm") norms in front
and layer norms behind every convolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..searchspace.errors import InvalidInputError
from ..searchspace.transformers.interleaved import stream_order
from ..searchspace.transformers.style import EncoderStyle
from ..searchspace.transformers.wave_convs import CONV_NORMS
from ..searchspace.transformers.wave_stem import WaveStemSpec
from .bert import ACTIVATIONS
from .converted import Converted, equal_layers, placed, reordered
from .source import Source, stacked

__all__ = ["HUBERT_LAYER", "HUBERT_LAYERS", "HUBERT_QKV", "STEM_STREAM", "convert_hubert"]

#: The library's names of the list of layers and of what is in one; ours → theirs.
HUBERT_LAYERS = "encoder.layers"
HUBERT_QKV = tuple(f"attention.{part}_proj" for part in "qkv")
HUBERT_LAYER = {
    "norm1": "layer_norm",
    "proj": "attention.out_proj",
    "norm2": "final_layer_norm",
    "fc1": "feed_forward.intermediate_dense",
    "fc2": "feed_forward.output_dense",
}

#: Dimension of the token stream's channels in the stem's tensors.
STEM_STREAM = {
    f"{name}.{part}": 0
    for name in ("projection", "positional", "norm")
    for part in ("weight", "bias")
}


def convert_hubert(
    what: str,
    config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    *,
    normalise: bool = True,
) -> Converted:
    """Make our encoder of a HuBERT or wav2vec 2.0.

    Weight norm is folded in, and the channels of the tokens are put in the order that our
    convolution of positions has (:func:`~scholarch.searchspace.transformers.interleaved
    .stream_order`): the output's are the library's in another order. A classifier of the mean over
    tokens (``…ForSequenceClassification``) comes along, its projector multiplied in; other heads on
    top of the encoder, quantisers and masks are left out.

    Args:
        what: where it comes from, for messages.
        config: the library's ``config.json``.
        weights: the library's, a wrapper's prefix allowed.
        normalise: bring each clip to mean 0 and variance 1 first, as the library's feature
            extractor does (``do_normalize``).

    Raises:
        InvalidInputError: if the configuration is not one that we build, or does not fit the
            weights.
    """
    source = Source(what, config, weights)
    dim, heads = source.whole("hidden_size"), source.whole("num_attention_heads")
    depth, ffn = source.whole("num_hidden_layers"), source.whole("intermediate_size")
    for name, need in (
        ("feat_extract_activation", "gelu"),
        ("feat_proj_layer_norm", True),
        ("conv_pos_batch_norm", False),
        ("add_adapter", False),
    ):
        source.choice(name, need, [need])
    source.choice("adapter_attn_dim", None, [None])
    stable = source.choice("do_stable_layer_norm", False, [False, True])
    activation = source.choice("hidden_act", "gelu", ACTIVATIONS)
    eps = source.number("layer_norm_eps", 1e-5)
    style = EncoderStyle(
        norm="pre" if stable else "post",
        activation=ACTIVATIONS[activation],
        eps=eps,
        head_dim=source.head_dim(dim, heads),
        final_norm=stable,
    )
    stem = _stem(source, token_norm=not stable, eps=eps, normalise=normalise)
    stem.check_dim(dim)
    source.below("feature_projection.projection.weight")
    last = stem.channels[-1]
    found = {
        **_convolutions(source, stem),
        **placed("stem.projection_norm", source.layer("feature_projection.layer_norm", last)),
        **placed("stem.projection", source.layer("feature_projection.projection", dim, last)),
        "stem.positional.weight": _positional(source, dim, stem),
        "stem.positional.bias": source.take("encoder.pos_conv_embed.conv.bias", dim),
        **placed("norm" if stable else "stem.norm", source.layer("encoder.layer_norm", dim)),
    }
    shapes = {"proj": (dim, dim), "fc1": (ffn, dim), "fc2": (dim, ffn)}
    for i in range(depth):
        theirs = f"{HUBERT_LAYERS}.{i}"
        qkv = stacked(*(source.layer(f"{theirs}.{name}", dim, dim) for name in HUBERT_QKV))
        found |= placed(f"layers.{i}.qkv", qkv)
        for ours, name in HUBERT_LAYER.items():
            part = source.layer(f"{theirs}.{name}", *shapes.get(ours, (dim,)))
            found |= placed(f"layers.{i}.{ours}", part)
    head = _classifier(config, weights, dim)
    found = reordered(found | head, stream_order(dim, stem.groups), STEM_STREAM)
    shape, classes = equal_layers(dim, depth, heads, ffn), len(head.get("head.bias", ()))
    return Converted(stem, style, shape, found, classes)


def _classifier(
    config: Mapping[str, Any], weights: Mapping[str, Tensor], dim: int
) -> dict[str, Tensor]:
    """The classifier of the mean over tokens, one linear map; empty where there is none.

    The mean of projected tokens is the projected mean, so that projector and classifier are one.
    """
    names = ("projector.weight", "projector.bias", "classifier.weight", "classifier.bias")
    # A network that tells speakers apart has both names, and more between them.
    other = config.get("use_weighted_layer_sum") or any(
        name.startswith("tdnn.") for name in weights
    )
    if other or any(name not in weights for name in names):
        return {}
    inner, bias, outer, last = (weights[name].detach().double() for name in names)
    if inner.shape[1:] != (dim,) or outer.shape[1:] != (len(inner),):
        return {}
    return {"head.weight": (outer @ inner).float(), "head.bias": (outer @ bias + last).float()}


def _stem(source: Source, *, token_norm: bool, eps: float, normalise: bool) -> WaveStemSpec:
    lists = {
        "channels": ("conv_dim", WaveStemSpec.channels),
        "kernels": ("conv_kernel", WaveStemSpec.kernels),
        "strides": ("conv_stride", WaveStemSpec.strides),
    }
    numbers: dict[str, tuple[int, ...]] = {}
    for ours, (theirs, default) in lists.items():
        value = source.config.get(theirs, default)
        if not isinstance(value, list | tuple):
            raise InvalidInputError(f"{source.what}: {theirs} = {value!r}; need whole numbers")
        numbers[ours] = tuple(value)
    try:
        return WaveStemSpec(
            **numbers,
            bias=source.choice("conv_bias", False, [False, True]),
            norm=source.choice("feat_extract_norm", "group", CONV_NORMS),
            positional=source.whole("num_conv_pos_embeddings", 128),
            groups=source.whole("num_conv_pos_embedding_groups", 16),
            token_norm=token_norm,
            normalise=normalise,
            eps=eps,
        )
    except InvalidInputError as error:
        message = str(error).removeprefix(f"{source.what}: ")
        raise InvalidInputError(f"{source.what}: {message}") from error


def _convolutions(source: Source, stem: WaveStemSpec) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for i, one in enumerate(stem.convs):
        theirs, ours = f"feature_extractor.conv_layers.{i}", f"stem.convs.{i}"
        shape = (one.out_channels, one.in_channels, one.kernel)
        conv = source.layer(f"{theirs}.conv", *shape, bias=stem.bias)
        if not stem.bias:
            del conv["bias"]
        found |= placed(f"{ours}.conv", conv)
        if stem.norm == "layer" or i == 0:
            found |= placed(f"{ours}.norm", source.layer(f"{theirs}.layer_norm", one.out_channels))
    return found


def _positional(source: Source, dim: int, stem: WaveStemSpec) -> Tensor:
    """The weight of the convolution of positions, its weight norm (over time) folded in."""
    name, kernel = "encoder.pos_conv_embed.conv", stem.positional
    shape = (dim, dim // stem.groups, kernel)
    for length, direction in (
        ("parametrizations.weight.original0", "parametrizations.weight.original1"),
        ("weight_g", "weight_v"),
    ):
        if source.has(f"{name}.{length}"):
            g = source.take(f"{name}.{length}", 1, 1, kernel)
            v = source.take(f"{name}.{direction}", *shape)
            return torch._weight_norm(v, g, 2)
    return source.take(f"{name}.weight", *shape)
