"""The teacher that comes with the package: ResNet-14 on the digits, trained by ``digits.py``."""

from __future__ import annotations

import json
from pathlib import Path

from ..searchspace.convnets.resnet_cifar_net import CifarResNet
from ..searchspace.errors import InvalidInputError
from ..searchspace.weights import fit_weights, read_weights
from .registry import TeacherNetwork, TeacherRequest, register_teacher

__all__ = ["BUNDLED", "DEPTHS", "WIDTHS"]

BUNDLED = "resnet14-digits"
DEPTHS = (2, 2, 2)
WIDTHS = (16, 16, 32, 64)
NUM_CLASSES = 10


@register_teacher(BUNDLED, about="bundled; ResNet-14 trained on the digits")
def _load(request: TeacherRequest) -> TeacherNetwork:
    if request.num_classes not in (None, NUM_CLASSES):
        raise InvalidInputError(
            f"teacher {request.name!r} has {NUM_CLASSES} classes, not {request.num_classes}"
        )
    facts_path = Path(__file__).with_name(f"{BUNDLED}.json")
    facts = json.loads(facts_path.read_text())
    mean, std = tuple(facts["mean"]), tuple(facts["std"])
    module = CifarResNet(DEPTHS, WIDTHS, num_classes=NUM_CLASSES, seed=request.seed)
    if request.untrained:
        return TeacherNetwork(
            module, False, f"random weights, seed {request.seed}", mean, std, image_size=32
        )
    path = request.weights or facts_path.with_suffix(".safetensors")
    fit_weights(module, read_weights(path), path, request.name)
    if request.weights is not None:
        return TeacherNetwork(module, True, f"weights {path.name}", mean, std, image_size=32)
    accuracy = float(facts["accuracy"]["test"])
    source = f"bundled weights, {accuracy:.1%} on the digits' test part"
    return TeacherNetwork(module, True, source, mean, std, image_size=32, accuracy=accuracy)
