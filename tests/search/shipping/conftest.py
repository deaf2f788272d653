"""Students that cost little to export."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scholarch.datasets.arrays import Part
from scholarch.datasets.dataset import DataSet
from scholarch.search.shipping.inputs import seeded_images
from scholarch.search.student import Student, TrainedWeights
from scholarch.searchspace.factory import create_space
from scholarch.supernet.finetune import FinetuneSettings, finetune

SIDE = 8


def _student(
    space: str = "resnet-cifar", text: str | None = "8-8x1-16x1-32x1", **options: object
) -> Student:
    """An untrained one, with its costs."""
    where = create_space(space, **{"num_classes": 4, "resolution": SIDE, **options})
    arch = where.sample(1, seed=3)[0] if text is None else where.parse(text)
    costs = {name: float(column[0]) for name, column in where.cost([arch]).items()}
    return Student(arch, where, costs, 0.25, {"naswot": 1.5, "zico": float("nan")}, seed=1)


def _of_module(module: nn.Module) -> Student:
    """A student whose network is some module: as a plug-in space's may be."""
    student = _student()
    return Student(
        student.arch, student.space, {}, 0.0, trained=TrainedWeights(lambda: module.eval(), {}, {})
    )


def _images_of(student: Student, count: int = 3, seed: int = 0) -> Tensor:
    """Images in [0, 1], token ids or waveforms."""
    if not isinstance(student.image, tuple):
        return seeded_images(count, student.image, seed)
    return torch.rand(count, *student.image, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="session")
def make_student() -> Callable[..., Student]:
    """Makes an untrained student: of a space, by its notation, with options."""
    return _student


@pytest.fixture(scope="session")
def of_module() -> Callable[[nn.Module], Student]:
    """Makes a student whose network is some module."""
    return _of_module


@pytest.fixture(scope="session")
def images_of() -> Callable[..., Tensor]:
    """Draws images in [0, 1] for a student."""
    return _images_of


@pytest.fixture(scope="session")
def patches() -> DataSet:
    """Images whose bright row tells the class."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 160, (400, SIDE, SIDE, 3), dtype=np.uint8)
    labels = np.arange(400) % 4
    images[np.arange(400), labels] = 255
    parts = [Part(images[i], labels[i]) for i in np.split(np.arange(400), (200, 300))]
    return DataSet("patches", 4, *parts, mean=(0.3, 0.4, 0.5), std=(0.3, 0.25, 0.2))


@pytest.fixture(scope="session")
def trained(patches: DataSet) -> Student:
    """A student that learned them, and knows its normalisation."""
    torch.set_num_threads(1)
    plain = _student()
    settings = FinetuneSettings(epochs=4, batch_size=20, lr=0.1, augment="none")
    tuned = finetune(plain.module(), patches, settings)
    weights = tuned.network.state_dict()

    def module() -> nn.Module:
        network = plain.space.build(plain.arch)
        network.load_state_dict(weights)
        return network.eval()

    about = {
        "by": "trained for 4 epochs",
        "data": "patches",
        "teacher": "resnet56-cifar10",
        "supernet": {"path": "/somewhere/of/mine", "steps": 7},
        "input": {"mean": list(patches.mean), "std": list(patches.std)},
    }
    known = TrainedWeights(module, {"val": tuned.after}, about)
    return Student(plain.arch, plain.space, plain.costs, 0.25, plain.scores, 1, known)
