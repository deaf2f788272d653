from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from scholarch.data import load_batch
from scholarch.searchspace.convnets.resnet_cifar_net import CifarResNet
from scholarch.searchspace.errors import InvalidInputError, UnknownNameError
from scholarch.teacher import describe_teacher, list_teachers, load_teacher, register_teacher
from scholarch.teachers.registry import ABOUT, TEACHERS, TeacherNetwork, TeacherRequest
from scholarch.teachers.timm_import import import_timm


def refused(
    match: str, *given: Any, error: type[Exception] = InvalidInputError, **options: Any
) -> None:
    with pytest.raises(error, match=match) as caught:
        load_teacher(*given, **options)
    assert "\n" not in str(caught.value)


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build().eval()


def resnet(layers: int = 20, classes: int = 10, **options: Any) -> CifarResNet:
    """Weights and statistics that no initialisation gives."""
    network = CifarResNet(((layers - 2) // 6,) * 3, num_classes=classes, **options)
    generator = torch.Generator().manual_seed(1)
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) * 0.2 + 0.1)
    return network.eval()


def test_missing_files_and_folders(tmp_path: Path) -> None:
    refused("weights file 'no/where.th' does not exist", "resnet20-cifar10", weights="no/where.th")
    refused("is a folder; need a file", "resnet20-cifar10", weights=tmp_path)
    refused("weights file 'where.safetensors' does not exist", "where.safetensors")
    refused("holds no config.json", tmp_path)
    torch.save({"a.weight": torch.zeros(3)}, tmp_path / "w.pt")
    refused("w.pt' does not tell its network; give the network's name", tmp_path / "w.pt")
    refused("so untrained says nothing", tmp_path / "w.pt", untrained=True)


def test_without_weights_one_line_says_how_to_go_on() -> None:
    refused("its weights are not bundled; .*--weights FILE, or --untrained", "resnet56-cifar10")


def test_untrained_weights_follow_the_seed() -> None:
    make = lambda seed: load_teacher("resnet20-cifar10", untrained=True, seed=seed)  # noqa: E731
    first, again, other = make(3), make(3), make(4)
    assert not first.trained
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert "random weights, seed 3" in first.about
    assert load_teacher("resnet14-digits", untrained=True).accuracy is None


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("resnet20-cifar10", {"num_classes": 5, "untrained": True}, "has 10 classes, not 5"),
        ("resnet14-digits", {"num_classes": 5}, "has 10 classes, not 5"),
        ("resnet14-digits", {"num_classes": 0}, "num_classes = 0; need a whole number"),
        ("resnet14-digits", {"resize": -1}, "resize = -1; need a whole number of at least 0"),
        ("resnet14-digits", {"seed": -1}, "seed = -1; need a whole number of at least 0"),
        ("resnet14-digits", {"seed": None}, "seed = None"),
        ("resnet14-digits", {"mean": (0.5,)}, "need 3 numbers, one a channel"),
        ("resnet14-digits", {"std": (0.5, 0.0, 1.0)}, "need numbers above 0"),
        ("resnet14-digits", {"taps": "layer1"}, "need a mapping such as"),
        ("resnet14-digits", {"taps": {"final": "layer9"}}, "did you mean layer"),
        ("resnet14-digits", {"weights": "a.th", "untrained": True}, "exclude each other"),
    ],
)
def test_options_out_of_range(name: str, options: dict[str, Any], match: str) -> None:
    refused(match, name, **options)


def test_options_override() -> None:
    teacher = load_teacher(
        "resnet14-digits",
        mean=[0.1, 0.2, 0.3],
        std=[1, 1, 1],
        resize=16,
        taps={"final": "layer2"},
    )
    assert (teacher.mean, teacher.std) == ((0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    assert teacher.observe(load_batch("digits", 4)).final_map.shape == (4, 32, 8, 8)
    assert load_teacher(teacher) is teacher


def test_a_network_is_copied_and_left_as_it_is() -> None:
    network = resnet().train()
    batch = load_batch("digits", 4)
    teacher = load_teacher(network, mean=batch.mean, std=batch.std)
    assert teacher.module is not network
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not any(parameter.requires_grad for parameter in teacher.module.parameters())
    assert not any(module.training for module in teacher.module.modules())
    taps = teacher.observe(batch)
    assert taps.logits is not None
    assert torch.equal(taps.logits, network.eval()(batch.normalised))
    assert teacher.name == "CifarResNet"
    assert load_teacher(network).mean is None


def test_a_network_with_weights_of_a_file(tmp_path: Path) -> None:
    torch.save(resnet().state_dict(), tmp_path / "w.pt")
    blank = CifarResNet((3, 3, 3))
    teacher = load_teacher(blank, weights=tmp_path / "w.pt")
    assert torch.equal(teacher.module.fc.weight, resnet().fc.weight)
    assert not torch.equal(blank.fc.weight, resnet().fc.weight)
    other = CifarResNet((1, 1, 1))
    refused("does not fit teacher 'CifarResNet'", other, weights=tmp_path / "w.pt")


def test_networks_that_cannot_teach() -> None:
    mlp = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 8), nn.ReLU()))
    refused("teacher 'Sequential': this network has no feature map", mlp)
    odd = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(7, 8)))
    refused("does not run on images of 3 channels and 32, 224.*give resize", odd)
    refused("has no parameters", nn.Sequential(nn.ReLU()))
    refused("teacher 'CifarResNet' has 10 classes, not 9", CifarResNet((1, 1, 1)), num_classes=9)


def test_the_plan_does_not_suffer_from_small_probing_images() -> None:
    # At 32 pixels layer4 has 1×1; it is the final map all the same.
    network = seeded(lambda: import_timm().create_model("resnet10t", num_classes=10))
    teacher = load_teacher(network)
    assert teacher.plan.final == "layer4"
    assert teacher.observe(load_batch("digits", 4)).final_map.shape == (4, 256, 2, 2)


def test_unknown_names() -> None:
    for name, near in (
        ("resnt14-digits", "resnet14-digits"),
        ("resnet18d5", "resnet18d"),
        ("resnet18.nope", "resnet18."),
    ):
        refused(f"'{name}'; did you mean {near}", name, error=UnknownNameError)


def test_list_teachers() -> None:
    assert list_teachers("resnet14-*") == ["resnet14-digits"]
    everything = list_teachers()
    for layers in (20, 32, 44, 56, 110):
        for classes in (10, 100):
            assert f"resnet{layers}-cifar{classes}" in everything
    assert "resnet18" in everything
    assert len(set(everything)) == len(everything)
    for name in ("resnet14-digits", "resnet20-cifar10", "resnet18"):
        assert describe_teacher(name)


def test_plugins_add_teachers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TEACHERS, "_items", dict(TEACHERS._items))
    monkeypatch.setitem(ABOUT, "mine", "")

    @register_teacher("mine")
    def mine(request: TeacherRequest) -> TeacherNetwork:
        """A toy."""
        return TeacherNetwork(CifarResNet((1, 1, 1), seed=request.seed), True, "a plugin")

    assert list_teachers("mine") == ["mine"]
    assert describe_teacher("mine") == "A toy."
    assert load_teacher("mine").about.startswith("mine: a plugin; ")
    with pytest.raises(InvalidInputError, match="already registered"):
        register_teacher("resnet14-digits")(mine)
