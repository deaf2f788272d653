"""Sorting channels: what is beyond the conformance suite."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.channels import ChannelGroup, Slot
from scholarch.searchspace.elastic import ElasticNetwork, Step, Trace
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.extremes import largest
from scholarch.searchspace.factory import create_space
from scholarch.supernet.sort import importance, sort_channels


class Toy(ElasticNetwork):
    """Linear layers without architectures: what a plug-in may name channels of."""

    def __init__(self, groups: tuple[ChannelGroup, ...], seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        # Not torch's own initialisers, which draw from the global generator.
        with torch.device("meta"):
            self.first = nn.Linear(3, 6)
            self.second = nn.Linear(6, 2)
        self.to_empty(device="cpu")
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)
        self.groups = groups

    def steps(self, arch: Architecture) -> tuple[Step, ...]:
        raise NotImplementedError

    def run_step(self, step: Step, x: Tensor, trace: Trace) -> Tensor:
        raise NotImplementedError

    def extract(self, arch: Architecture) -> nn.Module:
        raise NotImplementedError

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        return self.groups

    def outputs(self) -> Tensor:
        x = torch.linspace(-1, 1, 12).view(4, 3)
        return self.second(torch.relu(self.first(x))).detach()


READS = (Slot("second.weight", 1),)
WRITES = (Slot("first.weight", 0), Slot("first.bias", 0))
WHOLE = ChannelGroup("inner", 6, READS, WRITES + READS, (2, 4, 6))


def _with_importance(*values: float) -> Toy:
    toy = Toy((WHOLE,))
    toy.second.weight.data = torch.tensor([values, [0.0] * len(values)])
    return toy


def _clones(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


# ---------------------------------------------------------------------- the order


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from(["stage0", "stage1"]))
def test_every_tensor_is_the_old_one_permuted(seed: int, rule: str) -> None:
    toy = Toy((WHOLE,), seed)
    old, outputs = _clones(toy), toy.outputs()
    order = sort_channels(toy, rule=rule)["inner"]
    assert sorted(order.tolist()) == list(range(6))
    assert torch.equal(toy.first.weight, old["first.weight"][order])
    assert torch.equal(toy.first.bias, old["first.bias"][order])
    assert torch.equal(toy.second.weight, old["second.weight"][:, order])
    assert torch.equal(toy.second.bias, old["second.bias"])
    torch.testing.assert_close(toy.outputs(), outputs)
    again = sort_channels(toy, rule=rule)["inner"]
    assert again.tolist() == list(range(6))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        # The last is the most important: in stage 0 it comes first.
        ("stage0", [5, 1, 3, 0, 4, 2]),
        # Of boundaries 2, 4, 6 stage 1 keeps 4 and 5 behind the other four.
        ("stage1", [1, 3, 0, 2, 5, 4]),
    ],
)
def test_what_lies_beyond_the_second_width_moves_in_stage_0_alone(
    rule: str, expected: list[int]
) -> None:
    toy = _with_importance(3.0, -5.0, 1.0, 4.0, 2.0, -6.0)
    assert sort_channels(toy, rule=rule)["inner"].tolist() == expected


@pytest.mark.parametrize("seed", range(5))
def test_stage_1_is_what_the_released_code_subtracts(seed: int) -> None:
    """The loop of once-for-all's ``re_organize_middle_weights``, in float64."""
    toy = Toy((WHOLE,), seed)
    penalised = importance(WHOLE, toy.state_dict())
    widths, right, base = [6, 4, 2], 6, -3e5
    for left in widths[:2]:
        penalised[left:right] += base
        base += 1e5
        right = left
    expected = torch.sort(penalised, descending=True).indices
    assert torch.equal(sort_channels(toy, rule="stage1")["inner"], expected)


def test_stage_1_without_boundaries_is_stage_0() -> None:
    bare = dataclasses.replace(WHOLE, boundaries=())
    one, other = Toy((bare,)), Toy((bare,))
    assert torch.equal(sort_channels(one, rule="stage1")["inner"], sort_channels(other)["inner"])


def test_boundaries_of_mobilenet_are_its_expand_ratios() -> None:
    space = create_space("mobilenetv3-cifar", width_mult=0.25)
    groups = {group.name: group for group in space.supernet().channel_groups()}
    # 40 / 4 channels, rounded up to a multiple of 8.
    assert groups["stages.1.1.middle"].boundaries == (48, 64, 96)
    assert not groups["stages.1.1.gate"].boundaries


def test_equal_importances_keep_their_order() -> None:
    toy = _with_importance(1.0, 2.0, -1.0, 2.0, 1.0, -2.0)
    assert sort_channels(toy)["inner"].tolist() == [1, 3, 5, 0, 2, 4]


def test_importance_sums_absolute_weights_of_all_readers() -> None:
    group = ChannelGroup("inner", 6, (*READS, Slot("first.bias", 0)), WRITES + READS)
    toy = Toy((group,))
    weight, bias = toy.second.weight.detach().double(), toy.first.bias.detach().double()
    expected = weight.abs().sum(dim=0) + bias.abs()
    torch.testing.assert_close(importance(group, toy.state_dict()), expected)


def test_a_group_may_lie_behind_others_in_its_tensors() -> None:
    slots = tuple(slot._replace(offset=2) for slot in WHOLE.slots)
    toy = Toy((ChannelGroup("tail", 4, slots[-1:], slots),))
    old, outputs = _clones(toy), toy.outputs()
    order = sort_channels(toy)["tail"] + 2
    assert torch.equal(toy.first.bias, old["first.bias"][torch.cat([torch.arange(2), order])])
    torch.testing.assert_close(toy.outputs(), outputs)


def test_a_network_without_groups_is_left_alone() -> None:
    network = create_space("nasbench201", width_mult=0.25).supernet()
    old = _clones(network)
    assert sort_channels(network, old) == {}
    assert all(torch.equal(tensor, old[n]) for n, tensor in network.state_dict().items())


# ---------------------------------------------------------------------- followers


def test_followers_move_and_what_they_lack_is_passed_over() -> None:
    toy = Toy((WHOLE,))
    bias = torch.arange(6.0)
    follower = {"first.bias": bias, "step": torch.tensor(3.0)}
    order = sort_channels(toy, follower, {})["inner"]
    assert follower["first.bias"] is bias
    assert bias.tolist() == order.tolist()
    assert follower["step"] == 3.0


def test_a_tensor_named_twice_moves_once() -> None:
    toy = Toy((WHOLE,))
    reference = copy.deepcopy(toy)
    sort_channels(reference)
    sort_channels(toy, toy.state_dict(), dict(toy.named_parameters()))
    assert all(map(torch.equal, toy.parameters(), reference.parameters()))


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.RMSprop])
def test_second_moments_can_follow(kind: Any) -> None:
    def trained(sort: bool) -> Tensor:
        toy = Toy((WHOLE,)).double()
        optimizer = kind(toy.parameters(), lr=0.05)
        for step in range(3):
            if step == 2 and sort:
                names = dict(toy.named_parameters())
                keys = [k for k, v in optimizer.state[toy.first.bias].items() if v.dim()]
                moments = [{n: optimizer.state[p][k] for n, p in names.items()} for k in keys]
                sort_channels(toy, *moments)
            optimizer.zero_grad()
            x = torch.linspace(-1, 1, 12, dtype=torch.float64).view(4, 3)
            toy.second(torch.relu(toy.first(x))).square().sum().backward()
            optimizer.step()
        return toy.second(torch.relu(toy.first(x))).detach()

    torch.testing.assert_close(trained(True), trained(False), rtol=1e-9, atol=1e-9)


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("group", "followers", "rule", "match"),
    [
        (WHOLE, (), "stage2", "'stage2'; need one of stage0, stage1"),
        (WHOLE, ({"first.bias": torch.zeros(5)},), "stage0", r"first.bias is \[5\] in a follower"),
        (
            dataclasses.replace(WHOLE, slots=(Slot("third.weight", 0),)),
            (),
            "stage0",
            "'third.weight', which the network does not have",
        ),
        (
            dataclasses.replace(WHOLE, slots=(Slot("second.weight", 0),)),
            (),
            "stage0",
            r"wants 6 channels from 0 in dimension 0 of second.weight, which is \[2, 6\]",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_moves(
    group: ChannelGroup, followers: tuple[dict[str, Tensor], ...], rule: Any, match: str
) -> None:
    toy = Toy((WHOLE, dataclasses.replace(group, name="other")))
    old = _clones(toy)
    with pytest.raises(InvalidInputError, match=match):
        sort_channels(toy, *followers, rule=rule)
    assert all(torch.equal(tensor, old[n]) for n, tensor in toy.state_dict().items())


@pytest.mark.parametrize("boundaries", [(4, 2, 6), (2, 4), (0, 6), (3, 3, 6), (6, 7)])
def test_boundaries_have_to_ascend_to_the_size(boundaries: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match="ascending"):
        dataclasses.replace(WHOLE, boundaries=boundaries)


def test_every_slot_of_a_gated_block_is_needed() -> None:
    """Leave one out and the largest network changes: the suite's equality can fail."""
    space = create_space("mobilenetv3-cifar", width_mult=0.25)
    network, arch = space.supernet().double().eval(), largest(space)
    generator = torch.Generator().manual_seed(0)
    for tensor in network.state_dict().values():
        if tensor.dim() == 1:
            tensor.add_(0.5 * torch.rand(tensor.shape, generator=generator))
    groups = [g for g in network.channel_groups() if g.name.startswith("stages.1.0.")]
    assert [group.name for group in groups] == ["stages.1.0.middle", "stages.1.0.gate"]
    state = _clones(network)
    x = torch.randn(1, 3, 16, 16, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        expected = network(x, arch)
        for group in groups:
            for left_out in group.slots:
                kept = tuple(slot for slot in group.slots if slot != left_out)
                broken = dataclasses.replace(group, slots=kept)
                network.channel_groups = lambda broken=broken: (broken,)
                sort_channels(network)
                assert not torch.allclose(network(x, arch), expected, rtol=1e-6), left_out
                network.load_state_dict(state)


@pytest.mark.parametrize("kind", [131, 151, 171, 33, 55, 77])
def test_both_kinds_of_plainnets_layers_survive_a_sort(kind: int) -> None:
    """They share their widest weights, and the largest network is of one kind only."""
    space = create_space("plainnet-cifar", width_mult=0.125)
    row = space.encode([largest(space)])
    for column, gene in enumerate(space.genes):
        if gene.name.startswith("block"):
            row[:, column] = gene.index(kind)
    (arch,) = space.decode(row)
    network = space.supernet().double().eval()
    generator = torch.Generator().manual_seed(0)
    for tensor in network.state_dict().values():
        if tensor.dim() == 1:
            tensor.add_(0.5 * torch.rand(tensor.shape, generator=generator))
    x = torch.randn(1, 3, 16, 16, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        before = network(x, arch)
        sort_channels(network)
        torch.testing.assert_close(network(x, arch), before, rtol=1e-9, atol=1e-9)
