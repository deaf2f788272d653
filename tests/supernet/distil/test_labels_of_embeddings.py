"""Distillers of classes have nothing to learn where labels are a teacher's embeddings."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from scholarch.datasets.arrays import Part
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space
from scholarch.supernet.distil.distiller import DISTILLERS
from scholarch.supernet.distil.factory import list_distillers
from scholarch.supernet.distil.settings import DistilSettings
from scholarch.supernet.distil.trainer import StudentTrainer
from scholarch.teacher import load_teacher
from scholarch.testing import schedule_suite

OF_CLASSES = {"alpha", "diswot", "dist", "dkd", "kd", "lelp", "pld", "soft"}


def test_which_they_are() -> None:
    named = {n for n in list_distillers() if getattr(DISTILLERS[n], "of_classes", False)}
    assert named == OF_CLASSES


@pytest.mark.parametrize("name", sorted(OF_CLASSES))
def test_refused_in_a_line_that_tells_the_way_out(name: str) -> None:
    labelled = schedule_suite.data()
    rng = np.random.default_rng(0)
    parts = {
        part: Part(
            getattr(labelled, part).images,
            rng.normal(size=(len(getattr(labelled, part).labels), labelled.num_classes)).astype(
                np.float32
            ),
        )
        for part in ("train", "val")
    }
    data = dataclasses.replace(labelled, **parts)
    space = create_space(
        "resnet-cifar-s0",
        num_classes=data.num_classes,
        resolution=data.resolution,
        width_mult=0.25,
    )
    arch = space.parse("111")
    network = space.build(arch)
    with pytest.raises(InvalidInputError, match=rf"'{name}' learns of classes.*take cosine"):
        StudentTrainer(
            space, arch, network, data, DistilSettings(name), teachers=(load_teacher(network),)
        )
