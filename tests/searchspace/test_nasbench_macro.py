"""NAS-Bench-Macro: its classes, costs worked out by hand, identities that are nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from scholarch.searchspace.cells.nasbench_macro import NasBenchMacroSpace
from scholarch.searchspace.elastic import Trace
from scholarch.searchspace.errors import InvalidInputError


@pytest.fixture(scope="module")
def space() -> NasBenchMacroSpace:
    return NasBenchMacroSpace("nasbench-macro")


def test_as_many_classes_as_the_benchmark_trained(space: NasBenchMacroSpace) -> None:
    rows = space.enumerate_matrix()
    assert space.size == len(rows) == 6561
    assert len(set(space.keys(rows))) == 3969
    costs, representative = space.cost(rows), space.cost(space.canonical(rows))
    assert all(np.array_equal(costs[name], representative[name]) for name in costs)


def test_identities_behind_the_first_layer_of_a_stage_are_nothing(
    space: NasBenchMacroSpace,
) -> None:
    one, two, other = (space.parse(text) for text in ("10201102", "10210120", "10201201"))
    assert one.key == two.key != other.key
    assert str(one) == "10201102"
    network = space.supernet(seed=0).eval()
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(network(x, one), network(x, two))
        assert not torch.equal(network(x, one), network(x, other))


def test_costs_of_nothing_but_identities(space: NasBenchMacroSpace) -> None:
    stem, head, classifier = 27 * 32, 256 * 1280, 1280 * 10
    downs = [32 * 64, 64 * 128, 128 * 256]
    norms = 2 * (32 + 64 + 128 + 256 + 1280)
    costs = space.cost([space.parse("00000000")])
    assert costs["params"][0] == stem + sum(downs) + head + norms + classifier + 10
    macs = stem * 32**2 + downs[0] * 16**2 + downs[1] * 8**2 + (downs[2] + head) * 4**2
    assert costs["macs"][0] == macs + classifier
    assert costs["depth"][0] == 6


def test_what_each_block_adds(space: NasBenchMacroSpace) -> None:
    """Its inner channels go by what it takes in: 3 × 64 and 6 × 64 in the second layer."""
    archs = [space.parse(text) for text in ("00000000", "01000000", "02000000", "20000000")]
    params, macs = (space.cost(archs)[name] for name in ("params", "macs"))
    for i, (mid, area) in enumerate(((192, 9), (384, 25)), start=1):
        weights = 64 * mid + area * mid + mid * 64
        assert params[i] - params[0] == weights + 2 * (mid + mid + 64)
        assert macs[i] - macs[0] == weights * 16**2
    # In place of the 1×1 convolution: 32 → 192 at 32×32, then stride 2.
    weights = 32 * 192 + 25 * 192 + 192 * 64
    assert params[3] - params[0] == weights + 2 * (192 + 192) - 32 * 64
    assert macs[3] - macs[0] == 32 * 192 * 32**2 + (25 * 192 + 192 * 64 - 32 * 64) * 16**2


def test_first_layers_have_no_shortcut_and_others_do(space: NasBenchMacroSpace) -> None:
    network = space.build(space.parse("11122212"))
    blocks = [m for m in network.modules() if hasattr(m, "skips")]
    assert [block.skips for block in blocks] == [False, True, False, True, True, False, True, True]


@pytest.mark.parametrize("text", ["0010021", "001002111", "00100213", "0010021x"])
def test_notation_of_another_length_or_digit_is_refused(
    space: NasBenchMacroSpace, text: str
) -> None:
    with pytest.raises(InvalidInputError, match="write it like 00100211"):
        space.parse(text)


def test_every_convolution_of_the_supernet_is_traced() -> None:
    space = NasBenchMacroSpace("nasbench-macro", width_mult=0.25, num_classes=4)
    network = space.supernet(seed=0, init="normal").train().requires_grad_(False)
    network.track_statistics(False)
    for text in ("00000000", "12012021", "22222222"):
        arch = space.parse(text)
        trace = Trace(want_weights=True, want_relus=True)
        x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        for step in network.steps(arch):
            x = network.run_step(step, x, trace)
        plain = network.extract(arch)
        convs = [m.weight.shape for m in plain.modules() if isinstance(m, nn.Conv2d)]
        assert sorted(weight.shape for weight in trace.weights) == sorted(convs)
        assert len(trace.relus) == 2 + 2 * (8 - text.count("0"))
