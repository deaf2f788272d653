"""Students made of the teacher's own blocks, and their agreement with a target."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from _common import DEPTHS
from torch import Tensor, nn
from torch.nn import functional

from scholarch.proxies.diswot import image_relation
from scholarch.proxies.taps import Taps
from scholarch.searchspace.convnets.resnet_cifar_net import CifarResNet

__all__ = ["PLACES", "Seen", "agreement", "students"]

BLOCKS = 9
TEMPERATURE = 4.0
#: Of the features' mean eigenvalue.
RIDGE = 0.1
#: Block j of a stage of d is the teacher's block …
PLACES = {
    "spread": lambda depth: [round(j * BLOCKS / depth) for j in range(depth)],
    "first": lambda depth: list(range(depth)),
}


def students(network: CifarResNet, images: Tensor, places: str) -> Iterator[Taps]:
    """The 64 students' measurements, ``"111"`` first; what they share is computed once."""

    def stage(layer: nn.Module, x: Tensor) -> Iterator[Tensor]:
        blocks = list(cast(nn.Sequential, layer))
        for depth in DEPTHS:
            y = x
            for place in PLACES[places](depth):
                y = blocks[place](y)
            yield y

    for x in stage(network.layer1, functional.relu(network.bn1(network.conv1(images)))):
        for y in stage(network.layer2, x):
            for z in stage(network.layer3, y):
                pooled = z.mean(dim=(2, 3))
                yield Taps((x, y, z), z, pooled, network.fc(pooled))


def ridge(features: Tensor, target: Tensor) -> float:
    """R² of the target on every other image, ridge regression fitted to the rest."""
    x, y = features.double(), target.double()
    x, y = x - x[::2].mean(dim=0), y - y[::2].mean(dim=0)
    gram = x[::2].T @ x[::2]
    gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    error = y[1::2] - x[1::2] @ torch.linalg.solve(gram, x[::2].T @ y[::2])
    total = float(y[1::2].square().sum())
    return 1.0 - float(error.square().sum()) / total if total > 1e-9 else float("nan")


@dataclass(frozen=True, slots=True)
class Seen:
    """What is compared, of a student or of a target: relations of each stage, and logits."""

    relations: tuple[Tensor, ...]
    pooled: Tensor
    logits: Tensor

    @classmethod
    def of(cls, taps: Taps) -> Seen:
        if taps.logits is None:
            raise RuntimeError("CIFAR ResNets have classifiers")
        return cls(tuple(map(image_relation, taps.stages)), taps.pooled, taps.logits.double())

    def soft(self) -> Tensor:
        return (self.logits / TEMPERATURE).log_softmax(dim=1)


def agreement(student: Seen, target: Seen) -> dict[str, float]:
    """Scores of a student, higher is better."""
    divergence = functional.kl_div(
        student.soft(), target.soft(), reduction="batchmean", log_target=True
    )
    pairs = zip(student.relations, target.relations, strict=True)
    gaps = [float((s - t).square().mean()) for s, t in pairs]
    return {
        "kd-logits": -float(divergence),
        "kd-sp": -sum(gaps),
        "diswot-relation": -gaps[-1],
        "ridge R²": ridge(student.pooled, target.logits),
    }
