"""Our encoders of text and sound as the ``transformers`` library's BERT and HuBERT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..searchspace.transformers.encoder import Encoder
from ..searchspace.transformers.interleaved import stream_order
from ..searchspace.transformers.text_stem import TextStemSpec
from ..searchspace.transformers.wave_stem import WaveStemSpec
from .bert import BERT_LAYER, BERT_LAYERS, BERT_QKV
from .converted import reordered
from .hubert import HUBERT_LAYER, HUBERT_LAYERS, HUBERT_QKV, STEM_STREAM
from .timm_import import import_transformers

__all__ = ["to_bert", "to_hubert"]

Found = tuple[nn.Module | None, str]

#: Our names of activations → the library's.
_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_tanh": "gelu_pytorch_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
}


def to_bert(encoder: Encoder) -> Found:
    """A ``transformers.BertModel`` of the same weights, whose last hidden states are our tokens.

    Returns:
        The network in eval mode and what it is; or ``None`` and why there is none.
    """
    style, spec, shape = encoder.style, cast(TextStemSpec, encoder.spec), encoder.shape
    why = _unlike("BERT", encoder)
    if style.norm != "post" or style.final_norm:
        why = why or "BERT has its norms behind the branches and none at the end"
    if spec.eps != style.eps:
        why = why or "BERT has one epsilon in all of its layer norms"
    if why:
        return None, why
    library = import_transformers()
    first = shape.layers[0]
    config = library.BertConfig(
        vocab_size=spec.vocabulary,
        hidden_size=shape.dim,
        num_hidden_layers=len(shape.layers),
        num_attention_heads=first.heads,
        intermediate_size=first.ffn,
        hidden_act=_ACTIVATIONS[style.activation],
        max_position_embeddings=spec.positions,
        pad_token_id=spec.padding,
        layer_norm_eps=style.eps,
        type_vocab_size=2,
    )
    ours = encoder.state_dict()
    found = {
        "embeddings.word_embeddings.weight": ours["stem.words.weight"],
        "embeddings.position_embeddings.weight": ours["stem.positions.weight"],
        # Already in the positions.
        "embeddings.token_type_embeddings.weight": torch.zeros(2, shape.dim),
        "embeddings.LayerNorm.weight": ours["stem.norm.weight"],
        "embeddings.LayerNorm.bias": ours["stem.norm.bias"],
        **_layers(ours, len(shape.layers), BERT_LAYERS, BERT_QKV, BERT_LAYER),
    }
    with torch.random.fork_rng(devices=[]):  # the library draws from the global generator
        network = library.BertModel(config, add_pooling_layer=False)
    return _filled(network, found), "transformers BertModel" + _without_head(encoder)


def to_hubert(encoder: Encoder) -> Found:
    """A ``transformers.HubertModel`` of the same weights, its channels in the library's order.

    With a classifier of the mean over tokens it is a ``HubertForSequenceClassification``, whose
    logits are ours; its projector changes nothing. The last hidden states are our tokens, put in
    another order (see :func:`~scholarch.searchspace.transformers.interleaved.stream_order`), for
    waveforms that are normalised as the spec says. The weight of its convolution of positions is
    taken apart into length and direction, which may change last bits.

    Returns:
        The network in eval mode and what it is; or ``None`` and why there is none.
    """
    style, spec, shape = encoder.style, cast(WaveStemSpec, encoder.spec), encoder.shape
    stable = style.norm == "pre"
    why = _unlike("HuBERT", encoder)
    if stable is spec.token_norm or stable is not style.final_norm:
        why = why or "HuBERT has a layer norm in front of its layers or, pre-norm, behind them"
    if spec.eps != style.eps:
        why = why or "HuBERT has one epsilon in its layer norms"
    if why:
        return None, why
    library = import_transformers()
    first = shape.layers[0]
    head = encoder.head if isinstance(encoder.head, nn.Linear) else None
    if style.pool == "first":  # the library's pools the mean alone
        head = None
    told = {} if head is None else {"num_labels": head.out_features}
    config = library.HubertConfig(
        **told,
        classifier_proj_size=shape.dim,
        hidden_size=shape.dim,
        num_hidden_layers=len(shape.layers),
        num_attention_heads=first.heads,
        intermediate_size=first.ffn,
        hidden_act=_ACTIVATIONS[style.activation],
        layer_norm_eps=style.eps,
        feat_extract_norm=spec.norm,
        conv_dim=spec.channels,
        conv_stride=spec.strides,
        conv_kernel=spec.kernels,
        conv_bias=spec.bias,
        num_conv_pos_embeddings=spec.positional,
        num_conv_pos_embedding_groups=spec.groups,
        do_stable_layer_norm=stable,
        mask_time_prob=0.0,
        mask_feature_prob=0.0,
    )
    order = stream_order(shape.dim, spec.groups).argsort()
    ours = reordered(encoder.state_dict(), order, STEM_STREAM)
    found = _layers(ours, len(shape.layers), HUBERT_LAYERS, HUBERT_QKV, HUBERT_LAYER)
    norm = "norm" if stable else "stem.norm"
    for theirs, mine in (
        ("feature_projection.layer_norm", "stem.projection_norm"),
        ("feature_projection.projection", "stem.projection"),
        ("encoder.layer_norm", norm),
    ):
        found |= {f"{theirs}.{part}": ours[f"{mine}.{part}"] for part in ("weight", "bias")}
    for name, value in ours.items():
        if name.startswith("stem.convs."):
            index, kind, part = name.removeprefix("stem.convs.").split(".")
            kind = "conv" if kind == "conv" else "layer_norm"
            found[f"feature_extractor.conv_layers.{index}.{kind}.{part}"] = value
    weight, place = ours["stem.positional.weight"], "encoder.pos_conv_embed.conv"
    found[f"{place}.bias"] = ours["stem.positional.bias"]
    found[f"{place}.parametrizations.weight.original0"] = weight.norm(dim=(0, 1), keepdim=True)
    found[f"{place}.parametrizations.weight.original1"] = weight
    kind = "HubertModel"
    if head is not None:
        kind = "HubertForSequenceClassification"
        found = {f"hubert.{name}": value for name, value in found.items()}
        found |= {
            "projector.weight": torch.eye(shape.dim),
            "projector.bias": torch.zeros(shape.dim),
        }
        found |= {f"classifier.{part}": ours[f"head.{part}"] for part in ("weight", "bias")}
    with torch.random.fork_rng(devices=[]):
        network = getattr(library, kind)(config)
    lost = _without_head(encoder) if head is None else ""
    return _filled(network, found), f"transformers {kind}{lost}"


def _unlike(library: str, encoder: Encoder) -> str:
    """Why the library's layers cannot be those of an encoder; empty: they can."""
    style, shape = encoder.style, encoder.shape
    heads, width = shape.layers[0].heads, style.head_dim
    if len({(layer.heads, layer.ffn) for layer in shape.layers}) != 1:
        return f"{library}'s layers have equal heads and features, these differ"
    if heads * width != shape.dim:
        return (
            f"{library}'s attention is as wide as its tokens, {shape.dim}; this one has {heads}"
            f" heads of {width}"
        )
    if style.layer_scale or style.relative:
        return f"{library} has neither LayerScale nor two-dimensional relative positions"
    return ""


def _layers(
    ours: Mapping[str, Tensor], depth: int, room: str, qkv: Sequence[str], names: Mapping[str, str]
) -> dict[str, Tensor]:
    """The layers' weights by a library's names."""
    found: dict[str, Tensor] = {}
    for i in range(depth):
        for part in ("weight", "bias"):
            rows = ours[f"layers.{i}.qkv.{part}"].chunk(3)
            for theirs, value in zip(qkv, rows, strict=True):
                found[f"{room}.{i}.{theirs}.{part}"] = value
            for mine, theirs in names.items():
                found[f"{room}.{i}.{theirs}.{part}"] = ours[f"layers.{i}.{mine}.{part}"]
    return found


def _filled(network: Any, weights: Mapping[str, Tensor]) -> nn.Module:
    network.load_state_dict({name: value.clone() for name, value in weights.items()})
    return cast(nn.Module, network.eval())


def _without_head(encoder: Encoder) -> str:
    return ", without the classifier" if isinstance(encoder.head, nn.Linear) else ""
