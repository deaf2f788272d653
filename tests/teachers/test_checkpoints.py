from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from scholarch.data import load_batch, load_data
from scholarch.proxies.batch import Batch
from scholarch.proxies.teacher import Teacher
from scholarch.searchspace.convnets.resnet_cifar_net import CifarResNet
from scholarch.searchspace.errors import InvalidInputError
from scholarch.teacher import load_teacher

Weights = dict[str, Tensor]


def refused(
    match: str, *given: Any, error: type[Exception] = InvalidInputError, **options: Any
) -> None:
    with pytest.raises(error, match=match) as caught:
        load_teacher(*given, **options)
    assert "\n" not in str(caught.value)


def resnet(layers: int = 20, classes: int = 10, **options: Any) -> CifarResNet:
    """Weights and statistics that no initialisation gives."""
    network = CifarResNet(((layers - 2) // 6,) * 3, num_classes=classes, **options)
    generator = torch.Generator().manual_seed(1)
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) * 0.2 + 0.1)
    return network.eval()


def whole_part(part: Any, like: Batch) -> Batch:
    images = torch.from_numpy(part.images).permute(0, 3, 1, 2).float() / 255.0
    return Batch(images, torch.from_numpy(part.labels), like.num_classes, like.mean, like.std)


def accuracy(teacher: Teacher, batch: Batch) -> float:
    logits = teacher.observe(batch).logits
    assert logits is not None
    return float((logits.argmax(1) == batch.labels).float().mean())


def as_akamaster(weights: Weights) -> dict[str, Any]:
    renamed = {f"module.{k.replace('fc.', 'linear.')}": v for k, v in weights.items()}
    return {"state_dict": renamed, "best_prec1": 91.7}


def as_chenyaofo(weights: Weights) -> dict[str, Any]:
    return {k.replace(".shortcut.", ".downsample."): v for k, v in weights.items()}


def as_repdistiller(weights: Weights) -> dict[str, Any]:
    return {"epoch": 240, "model": as_chenyaofo(weights), "best_acc": 72.0}


def as_kuangliu(weights: Weights) -> dict[str, Any]:
    return {"net": {k.replace("fc.", "linear."): v for k, v in weights.items()}, "acc": 90.0}


@pytest.mark.parametrize(
    ("layout", "shortcut", "mean"),
    [
        (as_akamaster, "A", 0.485),
        (as_chenyaofo, "B", 0.4914),
        (as_repdistiller, "B", 0.4914),
        (as_kuangliu, "B", 0.4914),
        (dict, "B", 0.4914),
    ],
)
def test_layouts_of_checkpoints(
    tmp_path: Path, layout: Callable[[Weights], Any], shortcut: str, mean: float
) -> None:
    original, batch = resnet(shortcut=shortcut), load_batch("digits", 4)
    path = tmp_path / "weights.th"
    torch.save(layout(original.state_dict()), path)
    by_name, by_file = load_teacher("resnet20-cifar10", weights=path), load_teacher(path)
    for teacher in (by_name, by_file, load_teacher(str(path))):
        assert teacher.mean is not None
        assert teacher.mean[0] == mean
        original = original.to(memory_format=torch.channels_last)  # as the teacher, to the bit
        assert torch.equal(teacher.module(batch.images), original(batch.images))
        assert teacher.trained
    assert by_name.fingerprint == by_file.fingerprint
    assert by_name.name == "resnet20-cifar10"


def test_safetensors(tmp_path: Path) -> None:
    original = resnet(classes=100)
    save_file(original.state_dict(), tmp_path / "w.safetensors")
    teacher = load_teacher("resnet20-cifar100", weights=str(tmp_path / "w.safetensors"))
    assert teacher.num_classes == 100
    assert torch.equal(teacher.module.fc.weight, original.fc.weight)


def test_any_width_by_file(tmp_path: Path) -> None:
    wide = CifarResNet((1, 2, 1), (8, 8, 12, 20), num_classes=7, in_channels=1)
    torch.save(wide.state_dict(), tmp_path / "wide.pt")
    teacher = load_teacher(tmp_path / "wide.pt")
    assert teacher.num_classes == 7
    assert teacher.input_shape == (1, 32, 32)
    assert teacher.mean is None
    refused("tells 7 classes apart", "resnet20-cifar10", weights=tmp_path / "wide.pt")


def test_checkpoints_that_do_not_fit(tmp_path: Path) -> None:
    def check(match: str, weights: Any, name: str = "resnet20-cifar10") -> None:
        torch.save(weights, tmp_path / "w.th")
        refused(match, name, weights=tmp_path / "w.th")

    good = resnet().state_dict()
    check(
        "w.th' tells 100 classes apart, teacher 'resnet20-cifar10' has 10; use teacher"
        " 'resnet20-cifar100'",
        resnet(classes=100).state_dict(),
    )
    check(r"holds a ResNet-32 \(5/5/5 blocks\), not teacher", resnet(32).state_dict())
    check(
        "holds widths 8/8/16/32, teacher 'resnet20-cifar10' has 16/16/32/64",
        CifarResNet((3, 3, 3), (8, 8, 16, 32)).state_dict(),
    )
    missing = {k: v for k, v in good.items() if "layer2.1.bn1.weight" not in k}
    check(r"1 of \d+ tensors are missing, first 'layer2.1.bn1.weight'", missing)
    check("1 tensors have no place in it, first 'extra'", good | {"extra": torch.zeros(2)})
    check(r"tensor 'bn1.bias' is \[3\], need \[16\]", good | {"bn1.bias": torch.zeros(3)})
    check("'fc.bias' holds values that are not finite", good | {"fc.bias": torch.ones(10) / 0})
    check("not of a CIFAR ResNet of three stages", {"conv.weight": torch.zeros(3)})
    check("holds no state dict", {"epoch": 3})
    check("holds no state dict", torch.zeros(3))
    check("holds no state dict", [])


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    network = resnet()
    torch.save(network.state_dict(), tmp_path / "good.th")
    save_file(network.state_dict(), tmp_path / "good.safetensors")
    cases = []
    for suffix in (".th", ".safetensors"):
        whole = (tmp_path / f"good{suffix}").read_bytes()
        cases += [(suffix, data) for data in (b"", b"no weights", b"\0" * 64, bytes(range(256)))]
        cases += [(suffix, whole[: int(len(whole) * share)]) for share in (0.001, 0.5, 0.99)]
    for suffix, data in cases:
        path = tmp_path / f"bad{suffix}"
        path.write_bytes(data)
        refused(f"weights file '.*bad{suffix}' is damaged", "resnet20-cifar10", weights=path)
        refused(f"weights file '.*bad{suffix}' is damaged", path)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("this code ran",)


def test_pickles_are_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "w.th"
    (tmp_path / "plain.th").write_bytes(pickle.dumps({"state_dict": Evil()}))
    torch.save({"state_dict": Evil()}, path)
    refused("w.th' is a pickle that could run code", "resnet20-cifar10", weights=path)
    torch.save(resnet(), path)
    refused("w.th' is a pickle that could run code", "resnet20-cifar10", weights=path)
    refused("plain.th' is", "resnet20-cifar10", weights=tmp_path / "plain.th")
    assert "this code ran" not in capsys.readouterr().out


@pytest.mark.parametrize("layers", [20, 32, 44, 56])
def test_akamaster_s_checkpoints(data_dir: Path, layers: int) -> None:
    path = next((data_dir / "teachers").glob(f"resnet{layers}-*.th"))
    teacher = load_teacher(f"resnet{layers}-cifar10", weights=path)
    assert teacher.module.layer3[0].shortcut.state_dict() == {}
    if layers == 20:
        spec = data_dir / "cifar10_5k.npz"
        test = whole_part(load_data(spec).test, load_batch(spec, 2))
        assert accuracy(teacher, test) == pytest.approx(0.915, abs=1e-4)
