"""timm's Vision Transformers as our encoder (Dosovitskiy et al., ICLR 2021)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..searchspace.errors import InvalidInputError
from ..searchspace.transformers.patch_stem import PatchStemSpec
from ..searchspace.transformers.style import EncoderShape, EncoderStyle, LayerShape
from .converted import Converted, placed
from .timm_import import import_timm

__all__ = ["convert_timm_vit", "is_timm_vit"]


def is_timm_vit(module: nn.Module) -> bool:
    """Whether a network is timm's plain Vision Transformer, not a class derived from it."""
    if not type(module).__module__.startswith("timm."):
        return False
    import_timm()
    from timm.models.vision_transformer import VisionTransformer

    return type(module) is VisionTransformer


def convert_timm_vit(what: str, module: nn.Module) -> Converted:
    """Make our encoder of a timm ViT, its classifier included.

    Args:
        what: its name, for messages.
        module: a :class:`timm.models.vision_transformer.VisionTransformer`.

    Raises:
        InvalidInputError: if it has something that our encoder has not; names it.
    """
    if not is_timm_vit(module):
        raise InvalidInputError(
            f"teacher {what!r} is a {type(module).__name__}; need timm's VisionTransformer"
        )
    vit: Any = module
    patch, spec = vit.patch_embed, _stem(what, vit)
    dim, blocks = int(vit.embed_dim), list(vit.blocks)
    layers = [_Layer(what, i, block) for i, block in enumerate(blocks)]
    shared = {layer.shared for layer in layers}
    if len(shared) != 1:
        raise _refusal(what, "whose layers differ in more than heads and features")
    head_dim, activation, scaled = next(iter(shared))
    style = EncoderStyle(
        norm="pre",
        activation=activation,
        eps=_eps(what, vit),
        head_dim=head_dim,
        layer_scale=scaled,
        final_norm=isinstance(vit.norm, nn.LayerNorm),
        pool={"token": "first", "avg": "patches"}[vit.global_pool],
    )
    table = vit.pos_embed[0]
    if len(table) == spec.grid**2:  # `no_embed_class`: the class token has no position
        table = torch.cat([torch.zeros(1, dim), table])
    weights: dict[str, Tensor] = {
        "stem.class_token.weight": vit.cls_token[0],
        "stem.positions.weight": table,
        **placed("stem.conv", _linear(patch.proj)),
    }
    for i, layer in enumerate(layers):
        weights |= placed(f"layers.{i}", layer.weights())
    if style.final_norm:
        weights |= placed("norm", _linear(vit.norm))
    classes = 0
    if isinstance(vit.head, nn.Linear):
        classes = vit.head.out_features
        weights |= placed("head", _linear(vit.head))
    shape = EncoderShape(dim, tuple(layer.shape for layer in layers))
    return Converted(
        spec, style, shape, {k: v.detach().float() for k, v in weights.items()}, classes
    )


def _refusal(what: str, why: str) -> InvalidInputError:
    return InvalidInputError(f"teacher {what!r} cannot be converted: a ViT {why}")


def _stem(what: str, vit: Any) -> PatchStemSpec:
    patch = vit.patch_embed
    height, width = patch.grid_size
    for refused, why in (
        (vit.cls_token is None, "without a class token"),
        (vit.pos_embed is None, "without learned positions"),
        (vit.reg_token is not None, "with register tokens"),
        (not isinstance(vit.norm_pre, nn.Identity), "with a norm in front of its layers"),
        (not isinstance(patch.norm, nn.Identity), "with a norm of its patches"),
        (vit.global_pool not in ("token", "avg"), f"pooled by {vit.global_pool!r}"),
        (not isinstance(vit.fc_norm, nn.Identity), "with its norm behind the pool"),
        (vit.pool_include_prefix, "that pools its class token with the patches"),
        (vit.attn_pool is not None, "with attention for a pool"),
        (height != width or len(set(patch.patch_size)) != 1, "of patches in no square grid"),
    ):
        if refused:
            raise _refusal(what, why)
    return PatchStemSpec(patch=patch.patch_size[0], grid=height, in_channels=patch.proj.in_channels)


def _eps(what: str, vit: Any) -> float:
    norms = [block.norm1 for block in vit.blocks] + [block.norm2 for block in vit.blocks]
    if isinstance(vit.norm, nn.Module) and not isinstance(vit.norm, nn.Identity):
        norms.append(vit.norm)
    found = {norm.eps if isinstance(norm, nn.LayerNorm) else None for norm in norms}
    eps = found.pop()
    if found or eps is None:
        raise _refusal(what, "whose norms are not all the same layer norm")
    return float(eps)


class _Layer:
    """A block of timm's."""

    def __init__(self, what: str, index: int, block: Any) -> None:
        attention, mlp, activation = block.attn, block.mlp, _activation(block.mlp.act)
        plain = [getattr(attention, "q_norm", None), getattr(attention, "norm", None)]
        plain.append(getattr(mlp, "norm", None))
        for refused, why in (
            (type(block).__name__ != "Block", f"of {type(block).__name__}s"),
            (type(attention).__name__ != "Attention", f"of {type(attention).__name__}"),
            (type(mlp).__name__ != "Mlp", f"of {type(mlp).__name__}"),
            (any(isinstance(one, nn.LayerNorm) for one in plain), "with norms inside its layers"),
            (getattr(attention, "gate", None) is not None, "with gated attention"),
            (activation is None, f"with the activation {type(mlp.act).__name__}"),
        ):
            if refused:
                raise _refusal(what, f"{why} (block {index})")
        self.block = block
        self.shape = LayerShape(attention.num_heads, block.mlp.fc1.out_features, index)
        scaled = not isinstance(block.ls1, nn.Identity)
        self.shared = (int(attention.head_dim), activation or "", scaled)

    def weights(self) -> dict[str, Tensor]:
        block = self.block
        parts = {
            "norm1": block.norm1,
            "qkv": block.attn.qkv,
            "proj": block.attn.proj,
            "norm2": block.norm2,
            "fc1": block.mlp.fc1,
            "fc2": block.mlp.fc2,
        }
        found: dict[str, Tensor] = {}
        for name, part in parts.items():
            found |= placed(name, _linear(part))
        if self.shared[2]:
            found["scale1.weight"], found["scale2.weight"] = block.ls1.gamma, block.ls2.gamma
        return found


def _linear(module: Any) -> dict[str, Tensor]:
    """Weight and bias; a bias that is missing is zero."""
    bias = module.bias
    return {
        "weight": module.weight,
        "bias": torch.zeros(len(module.weight)) if bias is None else bias,
    }


def _activation(module: nn.Module) -> str | None:
    """Our name of an activation of torch's or of timm's own; ``None``: we have it not."""
    if getattr(module, "approximate", "none") == "tanh":
        return "gelu_tanh"
    return {"GELU": "gelu", "GELUTanh": "gelu_tanh", "ReLU": "relu"}.get(type(module).__name__)
