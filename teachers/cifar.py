"""CIFAR ResNets by name, and from checkpoints in the layouts that are in use.

Read are akamaster/pytorch_resnet_cifar10 (shortcuts of option A, ``linear``),
chenyaofo/pytorch-cifar-models and HobbitLong/RepDistiller (option B as ``downsample``),
kuangliu/pytorch-cifar's CIFAR variants (option B as ``shortcut``) and our own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..searchspace.convnets.resnet_cifar_net import CifarResNet
from ..searchspace.elastic import to_channels_last
from ..searchspace.errors import InvalidInputError
from ..searchspace.weights import Weights, fit_weights, read_weights
from .registry import TeacherNetwork, TeacherRequest, needs_weights, register_teacher

__all__ = ["CIFAR_SIZE", "load_cifar_file"]

CIFAR_SIZE = 32
DEPTHS = (20, 32, 44, 56, 110)
WIDTHS = (16, 16, 32, 64)

Normalisation = tuple[tuple[float, float, float], tuple[float, float, float]]

#: akamaster normalises CIFAR-10 as ImageNet.
OPTION_A: Normalisation = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
#: By number of classes, the data sets' own moments.
OPTION_B: dict[int, Normalisation] = {
    10: ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    100: ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a checkpoint's tensors tell about its network."""

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    num_classes: int
    in_channels: int
    shortcut: str

    @property
    def layers(self) -> int:
        """The number in the network's name: weighted layers, shortcuts not counted."""
        return 2 * sum(self.depths) + 2

    def build(self, seed: int = 0) -> CifarResNet:
        network = CifarResNet(
            self.depths,
            self.widths,
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            shortcut=self.shortcut,
            seed=seed,
        )
        to_channels_last(network)
        return network


def load_cifar_file(path: Path, weights: Weights) -> TeacherNetwork | None:
    """A CIFAR ResNet from a checkpoint alone, or ``None`` where its tensors tell another."""
    weights = _own_keys(weights)
    shape = _shape(weights)
    return None if shape is None else _network(path.stem, path, weights, shape)


def _load(request: TeacherRequest) -> TeacherNetwork:
    found = re.fullmatch(r"resnet(\d+)-cifar(\d+)", request.name)
    if found is None:
        raise RuntimeError(f"{request.name!r} is registered as a CIFAR ResNet")
    layers, classes = int(found[1]), int(found[2])
    if request.num_classes not in (None, classes):
        raise InvalidInputError(
            f"teacher {request.name!r} has {classes} classes, not {request.num_classes}"
        )
    shape = _Shape(((layers - 2) // 6,) * 3, WIDTHS, classes, 3, "A")
    if request.weights is None:
        if not request.untrained:
            raise needs_weights(request.name, "its weights are not bundled")
        source = f"random weights, seed {request.seed}"
        module, (mean, std) = shape.build(request.seed), OPTION_A
        return TeacherNetwork(module, False, source, mean, std, image_size=CIFAR_SIZE)
    weights = _own_keys(read_weights(request.weights))
    found_shape = _shape(weights)
    what = f"weights file {str(request.weights)!r}"
    if found_shape is None:
        raise InvalidInputError(
            f"{what} is not of a CIFAR ResNet of three stages of basic blocks; its first tensor"
            f" is {next(iter(weights))!r}"
        )
    _check_name(request.name, shape, found_shape, what)
    return _network(request.name, request.weights, weights, found_shape)


for _layers in DEPTHS:
    for _classes in OPTION_B:
        register_teacher(
            f"resnet{_layers}-cifar{_classes}",
            about=f"CIFAR ResNet-{_layers} of {_classes} classes, with --weights FILE",
        )(_load)


def _check_name(name: str, wanted: _Shape, found: _Shape, what: str) -> None:
    if found.num_classes != wanted.num_classes:
        raise InvalidInputError(
            f"{what} tells {found.num_classes} classes apart, teacher {name!r} has"
            f" {wanted.num_classes}"
            + (
                f"; use teacher 'resnet{found.layers}-cifar{found.num_classes}'"
                if found.num_classes in OPTION_B and found.layers in DEPTHS
                else ""
            )
        )
    if found.depths != wanted.depths:
        raise InvalidInputError(
            f"{what} holds a ResNet-{found.layers} ({'/'.join(map(str, found.depths))} blocks),"
            f" not teacher {name!r} ({'/'.join(map(str, wanted.depths))})"
        )
    if found.widths != wanted.widths:
        raise InvalidInputError(
            f"{what} holds widths {'/'.join(map(str, found.widths))}, teacher {name!r} has"
            f" {'/'.join(map(str, wanted.widths))}; give the file itself as the teacher"
        )


def _network(name: str, path: Path, weights: Weights, shape: _Shape) -> TeacherNetwork:
    module = shape.build()
    fit_weights(module, weights, path, name)
    known = OPTION_A if shape.shortcut == "A" else OPTION_B.get(shape.num_classes)
    mean, std = known if known is not None and shape.in_channels == 3 else (None, None)
    source = f"weights {path.name}"
    return TeacherNetwork(module, True, source, mean, std, image_size=CIFAR_SIZE)


def _own_keys(weights: Weights) -> Weights:
    """Other layouts' names, as ``CifarResNet`` has them."""
    renamed = {}
    for key, value in weights.items():
        key = re.sub(r"^linear\.", "fc.", key)
        renamed[key.replace(".downsample.", ".shortcut.")] = value
    return renamed


def _shape(weights: Weights) -> _Shape | None:
    """The CIFAR ResNet that these tensors are of, or ``None``."""
    first, last = weights.get("conv1.weight"), weights.get("fc.weight")
    stages: dict[int, set[int]] = {}
    for key in weights:
        if found := re.match(r"layer(\d+)\.(\d+)\.", key):
            stages.setdefault(int(found[1]), set()).add(int(found[2]))
    ends = [weights.get(f"layer{i}.0.conv2.weight") for i in (1, 2, 3)]
    convolutions = (first, *ends)
    if (
        last is None
        or last.dim() != 2
        or sorted(stages) != [1, 2, 3]
        or any(blocks != set(range(len(blocks))) for blocks in stages.values())
        or any(".conv3." in key for key in weights)
    ):
        return None
    widths = []
    for conv in convolutions:
        if conv is None or conv.dim() != 4 or conv.shape[2:] != (3, 3):
            return None
        widths.append(int(conv.shape[0]))
    depths = tuple(len(stages[i]) for i in (1, 2, 3))
    shortcut = "B" if any(".shortcut." in key for key in weights) else "A"
    in_channels = int(first.shape[1]) if first is not None else 3
    return _Shape(depths, tuple(widths), int(last.shape[0]), in_channels, shortcut)
