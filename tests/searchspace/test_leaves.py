"""Gradients of slices summed in place equal autograd's."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.elastic import ElasticConv2d, ElasticNetwork, Trace
from scholarch.searchspace.extremes import largest
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.inputs import pack_tokens, packed
from scholarch.searchspace.leaves import Leaves

SPACES = ("mobilenetv3-cifar", "proxylessnas", "resnet-cifar", "resnet50", "plainnet-cifar")
TRANSFORMERS: dict[str, dict[str, int]] = {
    "autodistil-tiny": {"vocabulary": 40, "positions": 16, "resolution": 8},
    "autoformer-tiny": {"resolution": 8, "patch_size": 4},
}


def _built(name: str) -> tuple[ElasticNetwork, list[Architecture]]:
    """A network in float64, with gradients to add to, and the largest and two more."""
    width_mult = 0.25 if name == "resnet-cifar" else 0.125
    given = TRANSFORMERS.get(name, {})
    space = create_space(name, num_classes=5, width_mult=width_mult, **given)
    network = space.supernet(seed=0).double().train()
    network.track_statistics(track=False)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    return network, [largest(space), *space.sample(2, seed=1)]


def _passes(network: ElasticNetwork, archs: list[Architecture]) -> list[Tensor]:
    """Gradients of one pass each, summed."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 3, 8, 8, generator=generator, dtype=torch.float64)
    if archs[0].space == "autodistil-tiny":
        x = packed(pack_tokens(torch.randint(0, 40, (4, 8), generator=generator)))
    labels = torch.randint(5, (4,), generator=generator)
    for parameter in network.parameters():
        assert parameter.grad is not None
        parameter.grad.zero_()
    for arch in archs:
        functional.cross_entropy(network(x, arch), labels).backward()
    return [p.grad.clone() for p in network.parameters() if p.grad is not None]


@pytest.mark.parametrize("name", [*SPACES, *TRANSFORMERS])
def test_gradients_equal_autograds(name: str) -> None:
    network, archs = _built(name)
    expected = _passes(network, archs)
    assert all(float(g.abs().max()) > 0.0 for g in expected[:3])
    network.sum_in_place()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of gradients in an order of their own
        found = _passes(network, archs)
        again = _passes(network, archs)
    for a, b, c in zip(expected, found, again, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(c, b, rtol=0.0, atol=0.0)


def test_two_passes_may_share_a_graph() -> None:
    """As adversarial and natural images do, whose losses are added before one backward."""
    network, archs = _built("mobilenetv3-cifar")
    x = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    gradients = []
    for _ in range(2):
        for parameter in network.parameters():
            assert parameter.grad is not None
            parameter.grad.zero_()
        first, second = network(x[0], archs[1]), network(x[1], archs[1])
        (first.square().mean() + second.square().mean()).backward()
        gradients.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
        network.sum_in_place()
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-12)


def test_a_frozen_step_changes_what_slices_hold() -> None:
    """Slices are of the parameter as it is, not of what it was when first cut."""
    conv = ElasticConv2d(4, 6, 3)
    torch.nn.init.ones_(conv.weight)
    conv.weight.grad = torch.zeros_like(conv.weight)
    conv.sum_in_place()
    for channels in (2, 4):
        before = conv.slice(channels, 3).detach().clone()
        with torch.no_grad():
            conv.weight.mul_(2.0)
        assert torch.equal(conv.slice(channels, 3), 2.0 * before)


def test_moved_parameters_are_cut_anew() -> None:
    conv = ElasticConv2d(4, 6, 3)
    torch.nn.init.ones_(conv.weight)
    conv.weight.grad = torch.zeros_like(conv.weight)
    conv.sum_in_place()
    for _ in range(2):
        conv(torch.ones(1, 4, 5, 5), 3, Trace()).sum().backward()
        assert float(conv.weight.grad[:3].abs().sum()) > 0.0
        assert float(conv.weight.grad[3:].abs().sum()) == 0.0
        conv.weight.data = conv.weight.data.clone()
        conv.weight.grad = torch.zeros_like(conv.weight)


def test_a_copy_adds_to_nobody_elses_gradients() -> None:
    network, archs = _built("resnet-cifar")
    network.sum_in_place()
    twin = copy.deepcopy(network)
    for parameter in twin.parameters():
        parameter.grad = None
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    twin(x, archs[0]).sum().backward()
    assert all(not p.grad.any() for p in network.parameters() if p.grad is not None)
    assert any(p.grad is not None and p.grad.any() for p in twin.parameters())


def test_evaluation_is_left_as_it_was() -> None:
    network, archs = _built("mobilenetv3-cifar")
    network.float().eval()
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = network(x, archs[1])
        network.sum_in_place()
        assert torch.equal(network(x, archs[1]), before)
        assert torch.equal(network.extract(archs[1])(x), before)


def test_no_gradient_is_refused() -> None:
    leaves = Leaves(torch.nn.Parameter(torch.ones(3)))
    with pytest.raises(RuntimeError, match="summed in place"):
        leaves.cut(2)
