"""PlainNets: strings and costs as Zen-NAS has them."""

from __future__ import annotations

import pytest
import torch

from scholarch.searchspace.convnets.plainnet_net import PlainNet
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space

SPACE = create_space("plainnet", num_classes=1000)
CIFAR = create_space("plainnet-cifar", num_classes=1000)

STEM = "SuperConvK3BNRELU(3,32,2,1)"
FIRST = "SuperResK3K3(32,64,2,32,1)"
REST = "SuperResK3K3(64,128,2,64,1)SuperResK3K3(128,256,2,128,1)"
LAST = "SuperResK3K3(256,512,2,256,1)"
HEAD = "SuperConvK1BNRELU(512,512,1,1)"
INITIAL = STEM + FIRST + REST + LAST + HEAD
MIXED = (
    "SuperConvK3BNRELU(3,32,2,1)SuperResK1K3K1(32,64,2,32,1)SuperResK1K5K1(64,128,2,64,2)"
    "SuperResK1K7K1(128,256,2,128,1)SuperResK5K5(256,512,2,256,3)SuperConvK1BNRELU(512,512,1,1)"
)
INITIAL_CIFAR = (
    "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,1,8,1)SuperResK3K3(16,32,2,16,1)"
    "SuperResK3K3(32,64,2,32,1)SuperResK3K3(64,64,2,32,1)SuperConvK1BNRELU(64,128,1,1)"
)


def test_golden_costs() -> None:
    """The released code's own count, less the 960 (176) biases of its projections."""
    for space, text, params, macs in (
        (SPACE, INITIAL, 3_306_056, 396_701_696),
        (SPACE, MIXED, 21_201_672, 1_748_643_840),
        (CIFAR, INITIAL_CIFAR, 218_496, 6_837_248),
    ):
        costs = space.cost([space.parse(text)])
        assert (costs["params"][0], costs["macs"][0]) == (params, macs)
        assert str(space.parse(text)) == text


def test_sizes() -> None:
    # Blocks with their kernels × layers, then channels: of 9 around 32, two pairs are equal.
    assert SPACE.size == (6 * 4) ** 4 * 7**2 * 9**8 == 699_811_576_418_304
    assert CIFAR.size == 8_295_959_347_200
    assert [len(gene.values) for gene in SPACE.genes[-4:]] == [4, 9, 9, 9]
    assert SPACE.genes[0].values == (16, 24, 32, 40, 48, 64, 80)


def test_no_network_has_more_than_eighteen_layers() -> None:
    values = SPACE.values(SPACE.sample_matrix(20_000, seed=0))
    layers = values[:, [2, 6, 10, 14]].sum(axis=1) + 2
    assert layers.max() == 18


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (INITIAL[:-1], "is no PlainNet"),
        (STEM + FIRST + HEAD, "3 blocks lies outside space 'plainnet'; it has 6"),
        (
            INITIAL.replace("SuperResK3K3(32", "SuperResIDWE6K3(32"),
            "SuperResIDWE6K3 as block 2 lies outside",
        ),
        (INITIAL.replace("(32,64,2,32,1)", "(32,64,1,32,1)"), "stride 1 of block 2"),
        (INITIAL.replace("(64,128,2,64,1)", "(32,128,2,64,1)"), "32 input channels of block 3"),
        (INITIAL.replace("(64,128,2,64,1)", "(64,128,2,64)"), "4 numbers for SuperResK3K3"),
        (INITIAL.replace("(64,128,2,64,1)", "(64,128,2,64,5)"), "layers2 = 5 is not one of"),
        (INITIAL.replace("(3,32,2,1)", "(3,32,2,2)"), "2 layers of block 1"),
        (INITIAL.replace("(512,512,1,1)", "(512,520,1,1)"), "head = 520 is not one of"),
        (INITIAL_CIFAR, "stride 1 of block 1"),
    ],
)
def test_what_lies_outside_is_named(text: str, complaint: str) -> None:
    with pytest.raises(InvalidInputError, match=complaint):
        SPACE.parse(text)


def test_spaces_and_lines_between_blocks_do_not_matter() -> None:
    assert str(SPACE.parse(INITIAL.replace(")", " )\n"))) == INITIAL


@pytest.mark.parametrize("kind", ["K{k}K{k}", "K1K{k}K1"])
def test_smaller_kernels_are_the_larger_ones_centre(kind: str) -> None:
    network = CIFAR.supernet(seed=0)
    texts = [INITIAL_CIFAR.replace("K3K3", kind.format(k=k)) for k in (3, 7)]
    small, large = (network.extract(CIFAR.parse(text)) for text in texts)
    for name, weight in small.named_parameters():
        other = large.get_parameter(name)
        if weight.dim() == 4:
            edge = (other.shape[-1] - weight.shape[-1]) // 2
            inside = slice(edge, other.shape[-1] - edge)
            other = other[..., inside, inside]
        assert torch.equal(weight, other)


def test_the_first_unit_of_a_stage_alone_projects() -> None:
    network = CIFAR.build(CIFAR.parse(INITIAL_CIFAR.replace("64,2,32,1", "64,2,32,3")))
    assert isinstance(network, PlainNet)
    names = [name for name, _ in network.named_modules() if name.endswith("project")]
    assert names == [f"stages.{i}.0.0.project" for i in range(4)]
