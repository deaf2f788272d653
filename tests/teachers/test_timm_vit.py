"""timm's Vision Transformers as our encoder, against timm itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from scholarch.searchspace.errors import InvalidInputError
from scholarch.teachers.timm_import import import_timm
from scholarch.teachers.timm_vit import convert_timm_vit, is_timm_vit


def vit(name: str = "vit_tiny_patch16_224", **options: Any) -> Any:
    """A small ViT of timm's whose every number is away from its initial value."""
    small = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "num_heads": 3, "depth": 2}
    with torch.random.fork_rng():
        network = import_timm().create_model(name, **(small | {"num_classes": 7} | options))
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return network.eval()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_tiny_patch16_224", {}),
        ("vit_tiny_patch16_224", {"qkv_bias": False, "num_classes": 0}),
        ("vit_tiny_patch16_224", {"global_pool": "avg", "fc_norm": False, "act_layer": "relu"}),
        ("vit_tiny_patch16_224", {"in_chans": 1, "act_layer": "gelu_tanh", "mlp_ratio": 2.5}),
        ("vit_tiny_patch16_224", {"final_norm": False, "act_layer": nn.GELU}),
        ("deit_tiny_patch16_224", {}),
        ("deit3_small_patch16_224", {}),  # LayerScale, and no position for the class token
    ],
)
def test_timm_vits(name: str, options: dict[str, Any]) -> None:
    network = vit(name, **options)
    encoder = convert_timm_vit(name, network).build()
    channels = options.get("in_chans", 3)
    images = torch.randn(3, channels, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(images)
        assert (encoder(images) - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"global_pool": "avg"}, "with its norm behind the pool"),
        ({"global_pool": "avg", "fc_norm": False, "class_token": False}, "without a class token"),
        ({"global_pool": "map"}, "pooled by 'map'"),
        ({"pos_embed": "none"}, "without learned positions"),
        ({"reg_tokens": 4}, "with register tokens"),
        ({"pre_norm": True}, "with a norm in front of its layers"),
        ({"qk_norm": True}, "with norms inside its layers (block 0)"),
        ({"act_layer": "silu"}, "with the activation SiLU (block 0)"),
        ({"img_size": (32, 16)}, "of patches in no square grid"),
    ],
)
def test_what_is_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        convert_timm_vit("v", vit(**options))
    assert str(caught.value) == f"teacher 'v' cannot be converted: a ViT {why}"


def test_what_is_no_vit_of_timms() -> None:
    assert not is_timm_vit(nn.ReLU())
    distilled = vit("deit_tiny_distilled_patch16_224")
    assert not is_timm_vit(distilled)
    with pytest.raises(InvalidInputError, match="VisionTransformerDistilled; need timm's Vision"):
        convert_timm_vit("d", distilled)
