"""A teacher's weights in the largest network of a space that was made from it."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from ...searchspace.errors import InvalidInputError
from ...searchspace.transformers.encoder import ElasticEncoder, Encoder
from ...searchspace.transformers.encoder_layer import EncoderLayer

__all__ = ["check_largest", "transplant"]


def check_largest(elastic: ElasticEncoder, teacher: Encoder) -> None:
    """Refuse a teacher that is not the largest network.

    Raises:
        InvalidInputError: if it is not.
    """
    dim, depth = elastic.dim, len(elastic.layers)
    same = (
        *("norm", "activation", "eps", "head_dim", "layer_scale", "relative", "final_norm"),
        "embed",
    )
    problems = [
        f"{name} {getattr(teacher.style, name)!r}, not {getattr(elastic.style, name)!r}"
        for name in same
        if getattr(teacher.style, name) != getattr(elastic.style, name)
    ]
    if teacher.shape.dim != dim:
        problems.append(f"tokens {teacher.shape.dim} wide, not {dim}")
    if len(teacher.shape.layers) != depth:
        problems.append(f"{len(teacher.shape.layers)} layers, not {depth}")
    for i, one in enumerate(teacher.shape.layers[:depth]):
        layer = elastic.layer(i)
        heads = len(layer.qkv.bias) // (3 * elastic.style.head_dim)
        if one.heads > heads or one.ffn > len(layer.fc1.bias):
            problems.append(
                f"{one.heads} heads and {one.ffn} features in layer {i + 1}, more than {heads}"
                f" and {len(layer.fc1.bias)}"
            )
    if problems:
        raise InvalidInputError(
            f"the teacher is not the space's largest network: it has {'; '.join(problems)}; make"
            " the space from this teacher"
        )


def transplant(elastic: ElasticEncoder, teacher: Encoder) -> bool:
    """Load the teacher's weights in its own order, in place.

    Args:
        elastic: heads and features beyond the teacher's become zeros, and give nothing.
        teacher: left as it is.

    Returns:
        Whether its classifier fits, or, where it has none, its pooled tokens do.

    Raises:
        InvalidInputError: if a tensor of the stem has another shape.
    """
    _copy_all(elastic.stem, teacher.stem, "stem")
    if elastic.norm is not None:
        _copy_all(elastic.norm, teacher.norm, "norm")
    if elastic.embedding is not None and teacher.embedding is not None:
        _copy_all(elastic.embedding, teacher.embedding, "embedding")
    d = elastic.style.head_dim
    for i, module in enumerate(teacher.layers):
        own, plain = elastic.layer(i), cast(EncoderLayer, module)
        for name in ("norm1", "norm2", "scale1", "scale2", "relative_k", "relative_v"):
            part = getattr(own, name)
            if part is not None:
                _copy_all(part, getattr(plain, name), f"layers.{i}.{name}")
        width = plain.heads * d
        for wide, narrow in ((own.qkv.weight, plain.qkv.weight), (own.qkv.bias, plain.qkv.bias)):
            wide.zero_()
            wide.unflatten(0, (3, -1))[:, :width] = narrow.unflatten(0, (3, -1))
        for layer, given in ((own.proj, plain.proj), (own.fc1, plain.fc1), (own.fc2, plain.fc2)):
            layer.weight.zero_()
            layer.bias.zero_()
            rows, columns = given.weight.shape
            layer.weight[:rows, :columns] = given.weight
            layer.bias[:rows] = given.bias
    return _load_head(elastic, teacher.head)


def _load_head(elastic: ElasticEncoder, head: nn.Module) -> bool:
    own = elastic.classifier
    if isinstance(head, nn.Linear) and head.weight.shape == own.weight.shape:
        own.weight.copy_(head.weight)
        own.bias.copy_(head.bias)
        return True
    if isinstance(head, nn.Identity) and own.weight.shape[0] == own.weight.shape[1]:
        # The pooled tokens are the teacher's output: a student's are led there.
        own.weight.copy_(torch.eye(len(own.weight)))
        own.bias.zero_()
        return True
    return False


def _copy_all(own: nn.Module, plain: nn.Module, name: str) -> None:
    theirs = plain.state_dict()
    for key, tensor in own.state_dict().items():
        given = theirs.get(key)
        if given is None or given.shape != tensor.shape:
            shape = "none" if given is None else list(given.shape)
            raise InvalidInputError(
                f"{name}.{key} of the space's largest network is {list(tensor.shape)}, the"
                f" teacher's {shape}; make the space from this teacher, for inputs of its size"
            )
        tensor.copy_(given)
