"""DisWOT's released score done plainly, candidate by candidate, by autograd.

Written from the formulas (Dong, Li and Wei, CVPR 2023, §3.2, and what the released code
computes), to be timed and compared with. Nothing here is shared with the package's scores:
the class-gradient comes from a backward pass and the per-class C×C correlations are formed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from scholarch.searchspace.convnets.resnet_cifar_net import CifarResNet

WIDTHS = (16, 16, 32, 64)


@dataclass(frozen=True)
class Scores:
    """Oriented as released: higher, that is nearer 0, is better."""

    semantic: float
    relation: float

    @property
    def total(self) -> float:
        return self.semantic + self.relation


@dataclass(frozen=True)
class Reference:
    """What the losses compare: class correlations ``[K, C, C]``, image similarity ``[B, B]``."""

    correlations: Tensor
    similarity: Tensor


def fresh_student(depths: tuple[int, ...], num_classes: int, seed: int) -> CifarResNet:
    """A new module with N(0, 1) weights, in training mode."""
    network = CifarResNet(depths, WIDTHS, num_classes=num_classes, seed=seed)
    with torch.no_grad():
        for module in network.modules():
            # Its weights are N(0, σ²) already; dividing is cheaper than drawing once more.
            if isinstance(module, nn.Conv2d):
                module.weight.div_((2.0 / module.weight[0].numel()) ** 0.5)
            elif isinstance(module, nn.Linear):
                module.weight.div_((1.0 / module.weight[0].numel()) ** 0.5)
    return network.train()


def final_map(network: CifarResNet, images: Tensor) -> Tensor:
    """The last feature map ``[B, C, H, W]``."""
    x = functional.relu(network.bn1(network.conv1(images)))
    return network.layer3(network.layer2(network.layer1(x)))


def correlations(gradient: Tensor) -> Tensor:
    """Row-normalised outer product of every class's gradient, ``[K, C]`` → ``[K, C, C]``."""
    return functional.normalize(torch.bmm(gradient.unsqueeze(2), gradient.unsqueeze(1)), dim=2)


def similarity(features: Tensor) -> Tensor:
    """Row-normalised Gram matrix of the images, ``[B, C, H, W]`` → ``[B, B]``."""
    flat = features.flatten(1)
    return functional.normalize(flat @ flat.T, dim=1)


def observe(network: CifarResNet, images: Tensor, labels: Tensor) -> Reference:
    """One forward and one backward pass of the cross-entropy, as released."""
    network.zero_grad(set_to_none=True)
    features = final_map(network, images)
    logits = network.fc(features.mean(dim=(2, 3)))
    functional.cross_entropy(logits, labels).backward()
    gradient = network.fc.weight.grad
    assert gradient is not None
    return Reference(correlations(gradient), similarity(features.detach()))


def observe_fast(network: CifarResNet, images: Tensor, labels: Tensor) -> Reference:
    """The same measurements as fast as plain PyTorch gives them.

    No gradient is wanted below the classifier, so none is computed there; ``images`` and the
    network are expected in channels-last layout.
    """
    with torch.no_grad():
        features = final_map(network, images)
    logits = network.fc(features.mean(dim=(2, 3)))
    (gradient,) = torch.autograd.grad(functional.cross_entropy(logits, labels), [network.fc.weight])
    return Reference(correlations(gradient), similarity(features))


def compare(student: Reference, teacher: Reference) -> Scores:
    """The two losses, negated: ICKD's over classes and channels, SP's over images."""
    difference = student.correlations - teacher.correlations
    classes, channels = difference.shape[:2]
    semantic = difference.square().sum() / (classes * channels)
    difference = student.similarity - teacher.similarity
    relation = difference.square().sum() / len(difference) ** 2
    return Scores(-float(semantic), -float(relation))


class Released:
    """The teacher is run forward and backward again for every candidate."""

    def __init__(self, teacher: CifarResNet, images: Tensor, labels: Tensor) -> None:
        self.teacher = teacher
        self.images = images
        self.labels = labels

    def score(self, student: CifarResNet) -> Scores:
        teacher = observe(self.teacher, self.images, self.labels)
        return compare(observe(student, self.images, self.labels), teacher)


class Cached:
    """The teacher is run once."""

    def __init__(self, teacher: CifarResNet, images: Tensor, labels: Tensor) -> None:
        self.reference = observe(teacher, images, labels)
        self.images = images
        self.labels = labels

    def score(self, student: CifarResNet) -> Scores:
        return compare(observe(student, self.images, self.labels), self.reference)


class Tuned:
    """The teacher once, channels-last, no backward pass below the classifier."""

    def __init__(self, teacher: CifarResNet, images: Tensor, labels: Tensor) -> None:
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.labels = labels
        self.reference = observe_fast(_channels_last(teacher), self.images, labels)

    def score(self, student: CifarResNet) -> Scores:
        student = _channels_last(student)
        return compare(observe_fast(student, self.images, self.labels), self.reference)


def _channels_last(network: CifarResNet) -> CifarResNet:
    return network.to(memory_format=torch.channels_last)


WAYS = {"released": Released, "cached": Cached, "tuned": Tuned}
