"""What gradient proxies do with networks and batches that they cannot score."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from scholarch.proxies import te_nas
from scholarch.proxies.batch import Batch
from scholarch.proxies.gradients import differentiate
from scholarch.proxies.scoring import Scorer
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space


def make_batch(images: int = 8, classes: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(3)
    pixels = torch.rand(images, 3, 16, 16, generator=generator)
    labels = torch.arange(images) % classes
    return Batch(pixels, labels, classes, (0.5, 0.5, 0.5), (0.3, 0.3, 0.3))


def failure(name: str, batch: Batch) -> str:
    space = create_space("resnet-cifar-s0", num_classes=batch.num_classes, resolution=16)
    table = Scorer(space, [name], batch=batch).table([space.parse("111")])
    assert math.isnan(table[name][0])
    return table.failures[0, name]


def test_epe_nas_with_many_classes() -> None:
    assert "0 classes have two among the batch's 8 images; need 1" in failure(
        "epe_nas", make_batch(classes=8)
    )
    assert "need 2" in failure("epe_nas", make_batch(classes=120))
    # One class with two images is enough; the others say nothing.
    batch = make_batch(images=5)
    space = create_space("resnet-cifar-s0", num_classes=4, resolution=16)
    table = Scorer(space, ["epe_nas"], batch=batch).table([space.parse("111")])
    assert not table.failures


def test_epe_nas_beyond_a_hundred_classes() -> None:
    batch = make_batch()
    batch = Batch(batch.images, batch.labels, 120, batch.mean, batch.std)
    space = create_space("resnet-cifar-s0", num_classes=120, resolution=16)
    found = Scorer(space, ["epe_nas"], batch=batch).table([space.parse("111")])["epe_nas"][0]
    network = space.supernet(init="normal").train().extract(space.parse("111"))
    weights = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        for weight in weights:
            gain = 2.0 if weight.dim() == 4 else 1.0
            weight.mul_(math.sqrt(gain / weight[0].numel()))
    images = batch.normalised.requires_grad_()
    network(images).sum().backward()
    assert images.grad is not None
    rows = images.grad.flatten(1).double().numpy()
    scores = []
    for label in range(4):
        correlation = np.corrcoef(rows[batch.labels.numpy() == label])
        scores.append(np.log(np.abs(correlation) + 1e-5).sum() / 2)
    expected = sum(abs(a - b) for a in scores for b in scores) / 4
    assert found == pytest.approx(expected, rel=5e-3)


def test_a_network_that_lets_nothing_through() -> None:
    space = create_space("nasbench201", num_classes=4, resolution=16, width_mult=0.25)
    dead = space.parse("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")
    expected = {
        "plain": "every gradient is 0",
        "grasp": "every gradient is 0",
        "epe_nas": "the same at every pixel",
        "te-nas-ntk": "the tangent kernel is singular",
        "vkdnw-entropy": "eigenvalues are 0",
        "vkdnw": "eigenvalues are 0",
    }
    least = {"zico": 0.0, "gradsign": 0.0, "te-nas-regions": 1.0}
    table = Scorer(space, [*expected, *least], batch=make_batch()).table([dead])
    assert {name for _, name in table.failures} == set(expected)
    assert all(text in table.failures[0, name] for name, text in expected.items())
    assert {name: table[name][0] for name in least} == least


def test_zico_with_too_few_images() -> None:
    with pytest.raises(InvalidInputError, match="'zico' needs at least 4 images, the batch has 3"):
        failure("zico", make_batch(images=3))


def test_te_nas_with_two_equal_images() -> None:
    batch = make_batch()
    images = batch.images.clone()
    images[1] = images[0]
    twins = Batch(images, batch.labels, 4, batch.mean, batch.std)
    assert "the tangent kernel is singular" in failure("te-nas-ntk", twins)


def test_condition_of_known_kernels() -> None:
    assert te_nas.condition(torch.diag(torch.tensor([2.0, 8.0, 5.0]).double())) == 4.0
    with pytest.raises(RuntimeError, match="singular"):
        te_nas.condition(torch.ones(3, 3).double())
    with pytest.raises(RuntimeError, match="singular"):
        te_nas.condition(torch.zeros(3, 3).double())


def test_a_loss_without_a_weight_is_told() -> None:
    leaf, other = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="depends on none of 1 weights"):
        differentiate(torch.ones(()), [leaf])
    with pytest.raises(RuntimeError, match="depends on none of 1 weights"):
        differentiate(other.sum(), [leaf])
    grads = differentiate(leaf.sum(), [leaf, other])
    assert [grad.tolist() for grad in grads] == [[1.0, 1.0], [0.0, 0.0, 0.0]]


def test_weights_that_are_not_finite_are_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    space = create_space("resnet-cifar-s0", num_classes=4, resolution=16)
    names = ["plain", "grasp", "epe_nas", "zico", "gradsign", "te-nas-ntk", "vkdnw-entropy"]
    scorer = Scorer(space, names, batch=make_batch())
    assert scorer._walk is not None
    broken = copy.deepcopy(scorer._walk.network)
    with torch.no_grad():
        broken.classifier.weight[0, 0] = math.nan
    monkeypatch.setattr(scorer._walk, "network", broken)
    table = scorer.table([space.parse("111")])
    assert {name for _, name in table.failures} == set(names)
    assert all(np.isnan(table[name]).all() for name in names)
