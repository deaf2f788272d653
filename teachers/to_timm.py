"""Our encoder of images as a timm Vision Transformer."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..searchspace.transformers.encoder import Encoder
from ..searchspace.transformers.patch_stem import PatchStemSpec
from ..searchspace.transformers.style import LayerShape
from .timm_import import import_timm

__all__ = ["ARCHITECTURE", "is_uniform", "timm_arguments", "timm_state", "to_timm"]

#: Of timm's names, one whose every measure is an argument.
ARCHITECTURE = "vit_base_patch16_224"

_EPS = 1e-6  # timm's own
_PARTS = {"norm1": "norm1", "qkv": "attn.qkv", "proj": "attn.proj", "norm2": "norm2"}
_PARTS |= {"fc1": "mlp.fc1", "fc2": "mlp.fc2"}


def to_timm(encoder: Encoder) -> tuple[nn.Module | None, str]:
    """A timm ``VisionTransformer`` of the same weights and outputs.

    Layers that differ in heads or features, and attention that is wider or narrower than the
    tokens, fit as well: timm makes each block by a function, which is given its index.

    Returns:
        The network in eval mode and what it is; or ``None`` and why there is none.
    """
    style, spec = encoder.style, cast(PatchStemSpec, encoder.spec)
    if style.norm != "pre":
        return None, "timm's ViT has its norms in front of the branches, this one behind them"
    if style.relative:
        return None, "timm's ViT has no two-dimensional relative positions on keys and values"
    import_timm()
    from timm.models.vision_transformer import VisionTransformer

    arguments = timm_arguments(encoder)
    if style.eps != _EPS:
        arguments["norm_layer"] = partial(nn.LayerNorm, eps=style.eps)
    uniform = is_uniform(encoder)
    if not uniform:
        arguments |= {"num_heads": 1, "block_fn": _blocks(encoder)}
    with torch.random.fork_rng(devices=[]):  # timm draws from the global generator
        network = VisionTransformer(**arguments)
    network.load_state_dict(timm_state(encoder))
    how = "" if uniform else ", its blocks each of its own measures"
    side = spec.grid * spec.patch
    return network.eval(), f"timm VisionTransformer of {side}×{side} pixels{how}"


def is_uniform(encoder: Encoder) -> bool:
    """Whether all layers are the same and attention is as wide as the tokens."""
    kinds = {(layer.heads, layer.ffn) for layer in encoder.shape.layers}
    heads = encoder.shape.layers[0].heads
    return len(kinds) == 1 and heads * encoder.style.head_dim == encoder.shape.dim


def timm_arguments(encoder: Encoder) -> dict[str, Any]:
    """Arguments of timm's ``VisionTransformer``, plain data; of uneven layers the first's."""
    spec, style, shape = cast(PatchStemSpec, encoder.spec), encoder.style, encoder.shape
    first = shape.layers[0]
    return {
        "img_size": spec.grid * spec.patch,
        "patch_size": spec.patch,
        "in_chans": spec.in_channels,
        "num_classes": encoder.head.out_features if isinstance(encoder.head, nn.Linear) else 0,
        "global_pool": "token" if style.pool == "first" else "avg",
        "pool_include_prefix": style.pool == "mean",
        "embed_dim": shape.dim,
        "depth": len(shape.layers),
        "num_heads": first.heads,
        "mlp_ratio": _ratio(first.ffn, shape.dim),
        "init_values": 1.0 if style.layer_scale else None,
        "final_norm": style.final_norm,
        "fc_norm": False,
        "act_layer": style.activation,
    }


def _ratio(ffn: int, dim: int) -> float:
    """What times the width is the features: timm cuts the product's decimals off."""
    ratio = ffn / dim
    return ratio if int(dim * ratio) == ffn else math.nextafter(ratio, math.inf)


def _blocks(encoder: Encoder) -> Any:
    """Makes timm's block of an index."""
    from timm.layers.attention import Attention
    from timm.models.vision_transformer import Block

    def make(dim: int, *, depth: int, **options: Any) -> nn.Module:
        layer: LayerShape = encoder.shape.layers[depth]
        options |= {"num_heads": 1, "mlp_ratio": _ratio(layer.ffn, dim)}
        block: Any = Block(dim, depth=depth, **options)
        block.attn = Attention(
            dim, layer.heads, attn_head_dim=encoder.style.head_dim, qkv_bias=True
        )
        return cast(nn.Module, block)

    return make


def timm_state(encoder: Encoder) -> dict[str, Tensor]:
    """The weights by timm's names."""
    ours = encoder.state_dict()
    found = {
        "cls_token": ours["stem.class_token.weight"].unsqueeze(0),
        "pos_embed": ours["stem.positions.weight"].unsqueeze(0),
    }
    for part in ("weight", "bias"):
        found[f"patch_embed.proj.{part}"] = ours[f"stem.conv.{part}"]
        for name in ("norm", "head"):
            if f"{name}.{part}" in ours:
                found[f"{name}.{part}"] = ours[f"{name}.{part}"]
        for i in range(len(encoder.shape.layers)):
            for name, theirs in _PARTS.items():
                found[f"blocks.{i}.{theirs}.{part}"] = ours[f"layers.{i}.{name}.{part}"]
    if encoder.style.layer_scale:
        for i in range(len(encoder.shape.layers)):
            for k in (1, 2):
                found[f"blocks.{i}.ls{k}.gamma"] = ours[f"layers.{i}.scale{k}.weight"]
    return found
