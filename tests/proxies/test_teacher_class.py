from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scholarch.proxies.batch import Batch
from scholarch.proxies.tap_finder import TapPlan, find_taps
from scholarch.proxies.teacher import Teacher, batch_statistics
from scholarch.searchspace.convnets.resnet_cifar_net import CifarResNet
from scholarch.searchspace.errors import InvalidInputError

PLAN = TapPlan("layer3", "fc", ("layer1", "layer2", "layer3"))


def make_batch(side: int = 32, channels: int = 3, size: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(
        torch.rand(size, channels, side, side, generator=generator),
        torch.arange(size) % 4,
        4,
        (0.4,) * channels,
        (0.2,) * channels,
    )


def make_teacher(**changes: Any) -> Teacher:
    network = CifarResNet((1, 1, 1), num_classes=4).eval().requires_grad_(False)
    fields: dict[str, Any] = {
        "name": "toy",
        "module": network,
        "mean": (0.5, 0.4, 0.3),
        "std": (0.1, 0.2, 0.3),
        "resize": None,
        "num_classes": 4,
        "trained": True,
        "plan": PLAN,
        "input_shape": (3, 32, 32),
    }
    return Teacher(**(fields | changes))


def norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def test_observe() -> None:
    teacher, batch = make_teacher(), make_batch()
    taps = teacher.observe(batch)
    assert [tuple(s.shape) for s in taps.stages] == [
        (8, 16, 32, 32),
        (8, 32, 16, 16),
        (8, 64, 8, 8),
    ]
    assert taps.logits is not None
    assert taps.classifier is not None
    x = (batch.images - torch.tensor(teacher.mean).view(1, 3, 1, 1)) / torch.tensor(
        teacher.std
    ).view(1, 3, 1, 1)
    assert torch.equal(taps.logits, teacher.module(x))
    assert torch.allclose(taps.pooled, taps.final_map.mean((2, 3)))
    assert torch.allclose(
        taps.logits, taps.pooled @ taps.classifier.T + teacher.module.fc.bias, atol=1e-6
    )
    for tensor in (*taps.stages, taps.final_map, taps.pooled, taps.logits, taps.classifier):
        assert not tensor.requires_grad


def test_observing_twice_gives_the_same_bytes() -> None:
    for trained in (True, False):
        teacher, batch = make_teacher(trained=trained), make_batch()
        first, second = teacher.observe(batch), teacher.observe(batch)
        assert torch.equal(first.final_map, second.final_map)


def test_without_its_own_normalisation_the_batch_s_is_used() -> None:
    batch = make_batch()
    own = make_teacher(mean=batch.mean, std=batch.std).observe(batch)
    assert torch.equal(make_teacher(mean=None, std=None).observe(batch).pooled, own.pooled)


def test_resize() -> None:
    teacher = make_teacher(resize=16)
    assert teacher.prepare(make_batch()).shape == (8, 3, 16, 16)
    assert teacher.observe(make_batch()).final_map.shape == (8, 64, 4, 4)
    constant = dataclasses.replace(make_batch(), images=torch.full((8, 3, 32, 32), 0.5))
    same = make_teacher(resize=16, mean=(0.5,) * 3, std=(1.0,) * 3).prepare(constant)
    assert torch.allclose(same, torch.zeros(1), atol=1e-6)


def test_untrained_networks_use_the_batch_s_statistics_and_stay_as_they_are() -> None:
    teacher, batch = make_teacher(trained=False), make_batch()
    before = {key: value.clone() for key, value in teacher.module.state_dict().items()}
    with batch_statistics(teacher.module):
        pass
    seen: list[Tensor] = []
    hook = teacher.module.layer3[0].bn2.register_forward_hook(lambda *call: seen.append(call[2]))
    teacher.observe(batch)
    hook.remove()
    assert torch.allclose(seen[0].mean((0, 2, 3)), torch.zeros(64), atol=1e-4)
    assert torch.allclose(seen[0].var((0, 2, 3), correction=0), torch.ones(64), atol=1e-2)
    after = teacher.module.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(not n.training and n.track_running_stats for n in norms(teacher.module))


def test_batch_statistics_are_undone_after_an_error() -> None:
    network = CifarResNet((1, 1, 1)).eval()

    def fail() -> None:
        with batch_statistics(network):
            assert all(n.training for n in norms(network))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert all(not n.training and n.track_running_stats for n in norms(network))


def test_without_a_classifier_pooled_is_the_mean_of_the_final_map() -> None:
    taps = make_teacher(plan=TapPlan("layer3", None, ("layer1",))).observe(make_batch())
    assert taps.logits is None
    assert taps.classifier is None
    assert torch.equal(taps.pooled, taps.final_map.mean((2, 3)))


def test_a_convolution_as_classifier() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 4, 1)
        ).eval()
    batch = make_batch()
    plan = find_taps(network, batch.normalised)
    taps = make_teacher(module=network, plan=plan).observe(batch)
    assert taps.pooled.shape == (8, 8)
    assert taps.logits is not None
    assert taps.classifier is not None
    assert taps.classifier.shape == (4, 8)
    bias = network[3].bias
    assert torch.allclose(taps.logits, taps.pooled @ taps.classifier.T + bias, atol=1e-6)


def test_where_the_final_map_shrinks_to_one_pixel_the_deepest_stage_stands_in() -> None:
    taps = make_teacher().observe(make_batch(side=4))
    assert taps.stages[-1].shape[2:] == (1, 1)
    assert taps.final_map.shape == (8, 32, 2, 2)


@pytest.mark.parametrize(
    ("changes", "batch", "message"),
    [
        ({}, {"channels": 1}, "takes images of 3 channels, batch 'tensors' has 1"),
        ({"plan": TapPlan("layer9", "fc", ())}, {}, "'layer9' of teacher 'toy' gives no feature"),
        ({"plan": TapPlan("layer3", "fc", ("fc",))}, {}, "'fc' of teacher 'toy' gives no feature"),
    ],
)
def test_refusals(changes: dict[str, Any], batch: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        make_teacher(**changes).observe(make_batch(**batch))
    assert "\n" not in str(caught.value)


def test_images_that_the_network_does_not_take() -> None:
    network = nn.Sequential(CifarResNet((1, 1, 1)), nn.Flatten())
    network.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(ValueError("no\nway")))
    teacher = make_teacher(module=network)
    with pytest.raises(InvalidInputError, match=r"does not run on images \[3, 32, 32\]: no;"):
        teacher.observe(make_batch())


def test_values_that_are_not_finite() -> None:
    teacher = make_teacher()
    teacher.module.layer3[0].bn2.weight.fill_(float("nan"))
    with pytest.raises(InvalidInputError, match="not finite"):
        teacher.observe(make_batch())


def test_costs_equal_the_space_s() -> None:
    from scholarch.searchspace import create_space

    space = create_space("resnet-cifar-s0", num_classes=4)
    arch = space.parse("111")
    network = space.build(arch).eval().requires_grad_(False)
    teacher, cost = make_teacher(module=network), space.cost([arch])
    assert teacher.params == cost["params"][0]
    assert teacher.macs == cost["macs"][0]
    assert make_teacher(module=network, trained=False).macs == cost["macs"][0]
    assert make_teacher(input_shape=(5, 32, 32)).macs is None


def test_fingerprint() -> None:
    teacher = make_teacher()
    assert len(teacher.fingerprint) == 16
    assert int(teacher.fingerprint, 16) >= 0
    assert make_teacher(name="other", about="other").fingerprint == teacher.fingerprint
    other = CifarResNet((1, 1, 1), num_classes=4, seed=1).eval()
    for change in (
        {"module": other},
        {"mean": (0.5, 0.4, 0.2)},
        {"std": None},
        {"resize": 64},
        {"trained": False},
        {"plan": TapPlan("layer2", "fc", PLAN.stages)},
    ):
        assert make_teacher(**change).fingerprint != teacher.fingerprint
