"""Spaces of sound: published sizes, what is kept of a deep supernet, what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.extremes import largest
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.space import SearchSpace
from scholarch.searchspace.transformers.hubert import HubertSpace
from scholarch.searchspace.transformers.whisper import WhisperSpace

NAMES = ("lighthubert-base", "lighthubert-small", "hubert-from-teacher", "whisper-from-teacher")


def _small(name: str, **options: Any) -> HubertSpace | WhisperSpace:
    space = create_space(name, **{"width_mult": 0.125, "resolution": 2000, **options})
    assert isinstance(space, HubertSpace | WhisperSpace)
    return space


@pytest.mark.parametrize(
    ("name", "size", "published"),
    [
        ("lighthubert-base", 3 * 6**12, 6.5e9),
        ("lighthubert-small", 3 * (9**10 + 9**11 + 9**12), 9.5e11),
    ],
)
def test_sizes_are_the_published_ones(name: str, size: int, published: float) -> None:
    space = create_space(name)
    assert space.size == size
    assert size == pytest.approx(published, rel=0.01)
    assert (space.resolution, space.in_channels) == (16_000, 2)


def test_shallower_lighthuberts_leave_out_layers_twelve_and_eight() -> None:
    space = _small("lighthubert-small")
    for depth, gone in ((12, set()), (11, {11}), (10, {7, 11})):
        values = {"embed_dim": 32, "depth": depth, "num_heads": [4] * depth}
        arch = space.parse(json.dumps(values | {"mlp_ratio": [3.0] * depth}))
        kept = [layer.source for layer in space.shape_of(arch).layers]
        assert kept == [i for i in range(12) if i not in gone]


def test_the_largest_lighthubert_is_hubert_base() -> None:
    """94.4 million parameters (Hsu et al., TASLP 2021, Table I: 95M), without a classifier."""
    space = create_space("lighthubert-base", num_classes=1)
    params = space.cost([largest(space)])["params"][0] - 769
    # transformers' HubertModel: the norm of the folded weight (128) and the vector of masked
    # tokens (768) are not here.
    assert params == 94_371_712 - 128 - 768


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("samples", [400, 2111])
def test_costs_are_the_built_networks(name: str, samples: int) -> None:
    space = _small(name)
    for arch in space.sample(2, seed=samples):
        network = space.build(arch).eval()
        values: list[int] = []
        for module in network.modules():
            if isinstance(module, nn.Conv1d | nn.Linear):
                module.register_forward_hook(
                    lambda _, given, out, values=values: values.append(
                        given[0].numel() + out.numel()
                    )
                )
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.zeros(1, samples))
        costs = space.cost([arch], resolution=samples)
        assert costs["params"][0] == sum(p.numel() for p in network.parameters())
        assert costs["flops"][0] == counter.get_total_flops()
        assert costs["peak_memory"][0] == 4 * max(values)


@pytest.mark.parametrize("name", NAMES)
def test_extraction_is_bit_exact_whatever_layers_are_kept(name: str) -> None:
    space = _small(name, num_classes=3)
    supernet = space.supernet(seed=1).eval()
    sound = 0.1 * torch.randn(2, 2000, generator=torch.Generator().manual_seed(0))
    depths = {space.parse(str(a)): len(space.shape_of(a).layers) for a in space.sample(40, 0)}
    shallow = min(depths, key=lambda arch: depths[arch])
    with torch.no_grad():
        for arch in (shallow, largest(space)):
            assert torch.equal(supernet(sound, arch), supernet.extract(arch)(sound))


@pytest.mark.parametrize("name", NAMES)
def test_a_spec_makes_an_equal_space(name: str) -> None:
    space = _small(name)
    again = create_space(**json.loads(json.dumps(space.spec())))
    arch = space.sample(1, seed=0)[0]
    assert again.genes == space.genes
    assert str(again.build(arch)) == str(space.build(arch))
    assert again.cost([arch])["macs"] == space.cost([arch])["macs"]


def test_a_hubert_space_follows_its_teachers_outline() -> None:
    outline = {
        "dim": 96,
        "depth": 3,
        "heads": 4,
        "head_dim": 24,
        "tenths": 20,
        "style": {"norm": "pre", "final_norm": True},
        "stem": {
            "channels": [16] * 7,
            "conv_bias": True,
            "conv_norm": "layer",
            "positional": 8,
            "normalise": True,
        },
    }
    space = create_space("hubert-from-teacher", outline=outline, num_classes=2)
    assert isinstance(space, HubertSpace)
    assert space.choices.dims == (32, 48, 64, 80, 96)  # 16 groups divide each
    assert space.stem.norm == "layer"
    assert space.stem.normalise
    assert not space.stem.token_norm
    assert space.style.head_dim == 24
    network = space.build(largest(space))
    assert sum(p.numel() for p in network.parameters()) == space.cost([largest(space)])["params"]
    again: SearchSpace = create_space(**json.loads(json.dumps(space.spec())))
    assert again.genes == space.genes


def test_channels_of_whispers_tokens_may_be_sorted_those_of_huberts_not() -> None:
    for name, sortable in (("whisper-from-teacher", True), ("lighthubert-small", False)):
        space = _small(name)
        supernet = space.supernet(seed=1).eval()
        groups = {group.name: group for group in supernet.channel_groups()}
        assert ("tokens" in groups) == sortable
        if not sortable:
            continue
        sound = 0.1 * torch.randn(2, 2000, generator=torch.Generator().manual_seed(0))
        tensors, whole = dict(supernet.state_dict()), largest(space)
        with torch.no_grad():
            before = supernet(sound, whole)
            for group in groups.values():
                order = torch.randperm(group.size, generator=torch.Generator().manual_seed(2))
                for slot in group.slots:
                    part = tensors[slot.name].narrow(slot.dim, slot.offset, group.size)
                    part.copy_(part.index_select(slot.dim, order))
            torch.testing.assert_close(supernet(sound, whole), before, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("lighthubert-base", {"resolution": 399}, "see 400 at once"),
        ("whisper-from-teacher", {"resolution": 200}, "200 samples; need 201"),
        ("whisper-from-teacher", {"resolution": 1_000_000}, "cut it"),
        ("lighthubert-base", {"in_channels": 3}, "in_channels = 3 .* need 2"),
        ("lighthubert-base", {"channels": 512}, "need a list"),
        ("lighthubert-base", {"groups": 7}, "512 channels; .* multiple of 7"),
        ("hubert-from-teacher", {"groups": 0}, "0 in a sound stem"),
        ("hubert-from-teacher", {"outline": 3}, "outline = 3"),
        ("whisper-from-teacher", {"bands": 0}, "bands = 0"),
        ("whisper-from-teacher", {"positions": 2.5}, "positions = 2.5"),
    ],
)
def test_options_out_of_range_are_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words) as caught:
        create_space(name, **options)
    assert "\n" not in str(caught.value)
