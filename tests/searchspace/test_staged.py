"""What networks of stages have in common: counts of layers, traces, small numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from scholarch.proxies.batch import Batch
from scholarch.proxies.scoring import Scorer
from scholarch.searchspace.convnets.staged import divisible, halved
from scholarch.searchspace.elastic import Trace
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.space import SearchSpace

NAMES = ["derived", "plainnet-cifar", "resnet50"]


@pytest.fixture(params=NAMES)
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return create_space(request.param, num_classes=4, width_mult=0.25, resolution=32)


def test_divisible_rounds_as_once_for_all_does() -> None:
    assert [divisible(c) for c in (1, 20, 41.6, 51.2, 34, 59, 92.16, 2048)] == [
        *(8, 24, 40, 48, 32, 56, 96, 2048)
    ]
    assert divisible(19) == 24  # 16 would lose more than a tenth
    assert [halved(side, 2) for side in (33, 32, 2, 1)] == [17, 16, 1, 1]


def test_depth_counts_the_longest_path(space: SearchSpace) -> None:
    archs = space.sample(10, seed=0)
    for arch, depth in zip(archs, space.cost(archs)["depth"], strict=True):
        weighted = [
            name
            for name, module in space.build(arch).named_modules()
            if isinstance(module, nn.Conv2d | nn.Linear) and ".project." not in name
        ]
        assert depth == len(weighted)


def test_every_weight_and_relu_is_traced(space: SearchSpace) -> None:
    network = space.supernet(seed=0, init="normal").train().requires_grad_(False)
    network.track_statistics(False)
    for arch in space.sample(5, seed=0):
        trace = Trace(want_weights=True, want_relus=True)
        x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        for step in network.steps(arch):
            x = network.run_step(step, x, trace)
        assert all(bool((relu >= 0).all()) for relu in trace.relus)
        plain = network.extract(arch)
        convs = [m.weight for m in plain.modules() if isinstance(m, nn.Conv2d)]
        traced = sorted(tuple(weight.shape) for weight in trace.weights)
        assert traced == sorted(tuple(weight.shape) for weight in convs)
        x.sum().backward()
        assert all(weight.grad is not None for weight in trace.weights)


def test_proxies_score_them(space: SearchSpace) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(6, 3, 32, 32, generator=generator)
    batch = Batch(images, torch.arange(6) % 4, 4, (0.5,) * 3, (0.3,) * 3)
    names = ["params", "snip", "naswot", "synflow", "grad_norm"]
    scorer = Scorer(space, names, batch=batch)
    archs = space.sample(4, seed=1)
    together = scorer.table(archs)
    assert not together.failures
    alone = Scorer(space, names, batch=batch).table(archs[2:3])
    for name in names:
        assert together[name][2] == alone[name][0]
