"""BERT in Hugging Face's layout as our encoder (Devlin et al., NAACL 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..searchspace.transformers.style import EncoderStyle
from ..searchspace.transformers.text_stem import TextStemSpec
from .converted import Converted, equal_layers, placed
from .source import Source, stacked

__all__ = ["ACTIVATIONS", "BERT_LAYER", "BERT_LAYERS", "BERT_QKV", "convert_bert"]

#: The library's names of the list of layers and of what is in one; ours → theirs.
BERT_LAYERS = "encoder.layer"
BERT_QKV = tuple(f"attention.self.{part}" for part in ("query", "key", "value"))
BERT_LAYER = {
    "proj": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "fc1": "intermediate.dense",
    "fc2": "output.dense",
    "norm2": "output.LayerNorm",
}

#: The library's names of activations → ours.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}


def convert_bert(
    what: str, config: Mapping[str, Any], weights: Mapping[str, Tensor], *, pool: str = "mean"
) -> Converted:
    """Make our encoder of a BERT.

    The vector of the first segment, the only one that is used, is added to the positions; the
    library adds it to the words first, so that sums may differ in the last bit. Heads on top of
    the encoder (the pooler, masked words, classifiers) are left out.

    Args:
        what: where it comes from, for messages.
        config: the library's ``config.json``.
        weights: the library's, a wrapper's prefix allowed.
        pool: what the output is, ``"mean"`` of the real tokens or the ``"first"`` token.

    Raises:
        InvalidInputError: if the configuration is not one that we build, or does not fit the
            weights.
    """
    source = Source(what, config, weights)
    dim, heads = source.whole("hidden_size"), source.whole("num_attention_heads")
    depth, ffn = source.whole("num_hidden_layers"), source.whole("intermediate_size")
    words, positions = source.whole("vocab_size"), source.whole("max_position_embeddings")
    source.choice("position_embedding_type", "absolute", ["absolute"])
    source.choice("is_decoder", False, [False])
    eps = source.number("layer_norm_eps", 1e-12)
    style = EncoderStyle(
        norm="post",
        activation=ACTIVATIONS[source.choice("hidden_act", "gelu", ACTIVATIONS)],
        eps=eps,
        head_dim=source.head_dim(dim, heads),
        final_norm=False,
        pool=pool,
    )
    source.below("embeddings.word_embeddings.weight")
    types = source.whole("type_vocab_size", 2)
    found = {
        "stem.words.weight": source.take("embeddings.word_embeddings.weight", words, dim),
        "stem.positions.weight": source.take(
            "embeddings.position_embeddings.weight", positions, dim
        )
        + source.take("embeddings.token_type_embeddings.weight", types, dim)[0],
        **placed("stem.norm", source.layer("embeddings.LayerNorm", dim)),
    }
    shapes = {"proj": (dim, dim), "fc1": (ffn, dim), "fc2": (dim, ffn)}
    for i in range(depth):
        theirs = f"{BERT_LAYERS}.{i}"
        qkv = stacked(*(source.layer(f"{theirs}.{name}", dim, dim) for name in BERT_QKV))
        found |= placed(f"layers.{i}.qkv", qkv)
        for ours, name in BERT_LAYER.items():
            part = source.layer(f"{theirs}.{name}", *shapes.get(ours, (dim,)))
            found |= placed(f"layers.{i}.{ours}", part)
    padding = source.whole("pad_token_id", 0, least=0)
    stem = TextStemSpec(vocabulary=words, positions=positions, padding=padding, eps=eps)
    return Converted(stem, style, equal_layers(dim, depth, heads, ffn), found)
