"""Parts of encoders that CLIP's towers have: a norm in the stem, an embedding, causal attention."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.extremes import largest
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.transformers.encoder_layer import attention
from scholarch.searchspace.transformers.style import ACTIVATIONS, EncoderStyle, direction
from scholarch.supernet.sort import sort_channels

OUTLINE: dict[str, Any] = {
    "dim": 32,
    "depth": 3,
    "heads": 4,
    "head_dim": 8,
    "tenths": 20,
    "style": {"embed": 12, "activation": "quick_gelu", "eps": 1e-5},
    "stem": {"patch_size": 8, "stem_norm": 1e-5},
}


def space(**options: Any) -> Any:
    given = {"num_classes": 5, "resolution": 32, "outline": OUTLINE, **options}
    return create_space("vit-from-teacher", **given)


def images() -> torch.Tensor:
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_extraction_is_exact_and_costs_are_what_is_built() -> None:
    made = space()
    net = made.supernet(seed=1).eval()
    for arch in [*made.sample(4, seed=1), largest(made)]:
        plain = net.extract(arch)
        with torch.no_grad():
            assert torch.equal(plain(images()), net(images(), arch))
        cost = made.cost([arch])
        assert cost["params"][0] == sum(p.numel() for p in plain.parameters())
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter:
            plain(images()[:1])
        assert cost["macs"][0] == counter.get_total_flops() / 2
        assert "embedding of 12" in " ".join(made._details(arch.choices))


def test_channels_change_places_and_the_largest_network_stays() -> None:
    made = space()
    net = made.supernet(seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    for parameter in net.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    with torch.no_grad():
        before = net(images(), largest(made))
        sort_channels(net)
        after = net(images(), largest(made))
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


def test_the_parts_are_in_the_spaces_own_words() -> None:
    told = space().spec()
    assert (told["stem_norm"], told["outline"]["style"]["embed"]) == (1e-5, 12)
    assert create_space(**told).spec() == told
    plain = create_space("vit-from-teacher", num_classes=5, resolution=32).spec()
    assert "stem_norm" not in plain, "runs of before know of none"
    with pytest.raises(InvalidInputError, match="stem_norm = -1 for space .*an epsilon above 0"):
        space(stem_norm=-1)
    with pytest.raises(InvalidInputError, match="embed = -1; need a whole number from 0"):
        EncoderStyle(embed=-1)


def test_quick_gelu_and_directions() -> None:
    x = torch.linspace(-4, 4, 33)
    wanted = torch.tensor([v / (1 + math.exp(-1.702 * v)) for v in x.tolist()])
    torch.testing.assert_close(ACTIVATIONS["quick_gelu"](x), wanted)
    rows = direction(torch.tensor([[3.0, 4.0], [0.0, -2.0]]))
    torch.testing.assert_close(rows, math.sqrt(2) * torch.tensor([[0.6, 0.8], [0.0, -1.0]]))


def test_causal_attention() -> None:
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(2, 5, 3 * 2 * 4, generator=generator)
    q, k, v = qkv.view(2, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
    wanted = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    causal = torch.ones(5, 5, dtype=torch.bool).tril()[None]
    found = attention(qkv, 2, causal)
    torch.testing.assert_close(found, wanted.transpose(1, 2).flatten(2), rtol=1e-5, atol=1e-6)
