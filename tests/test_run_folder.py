"""The folder of a training run as a teacher, and as what is exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import scholarch
from scholarch.cli_options import options_of
from scholarch.exporting import export_student
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.extremes import largest
from scholarch.searchspace.space import SearchSpace
from scholarch.supernet.pretrained import FILE, write_supernet

OUTLINE = {"dim": 16, "depth": 2, "heads": 2, "head_dim": 8, "tenths": 20}
ABOUT: dict[str, Any] = {"data": {"name": "x", "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]}}


def _run(folder: Path, space: SearchSpace) -> Any:
    folder.mkdir()
    network: Any = space.supernet(seed=3)
    write_supernet(space, network, folder / FILE, ABOUT)
    return network.eval()


@pytest.fixture
def space() -> SearchSpace:
    return scholarch.create_space(
        "vit-from-teacher", outline=OUTLINE, num_classes=4, resolution=16, patch_size=4
    )


def test_a_training_run_is_a_teacher(tmp_path: Path, space: SearchSpace) -> None:
    elastic = _run(tmp_path / "run", space)
    teacher = scholarch.load_teacher(tmp_path / "run")
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(teacher.module(images), elastic(images, largest(space)))
    assert (teacher.num_classes, teacher.trained, teacher.modality) == (4, True, "image")
    assert teacher.mean == (0.1, 0.2, 0.3)
    assert teacher.std == (0.5, 0.6, 0.7)
    assert "the largest of vit-from-teacher" in teacher.about
    with pytest.raises(InvalidInputError, match="leave weights and untrained out"):
        scholarch.load_teacher(tmp_path / "run", untrained=True)


def test_batch_norms_of_no_network_are_no_teachers(tmp_path: Path) -> None:
    _run(tmp_path / "run", scholarch.create_space("resnet-cifar-s0", width_mult=0.25))
    with pytest.raises(InvalidInputError, match="search it .* give the folder of the student"):
        scholarch.load_teacher(tmp_path / "run")


def test_its_largest_network_is_exported(tmp_path: Path, space: SearchSpace) -> None:
    elastic = _run(tmp_path / "run", space)
    found = export_student(tmp_path / "run", tmp_path / "out", kind="library")
    assert found.notes == ("timm VisionTransformer of 16×16 pixels",)
    again = scholarch.load_teacher(tmp_path / "out").module
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        known = elastic(images, largest(space))
        torch.testing.assert_close(again(images), known, rtol=1e-4, atol=1e-5)


def test_options_may_be_true_or_false() -> None:
    given = options_of(["normalise=true", "conv_bias=false", "conv_norm=layer", "groups=8"])
    assert given == {"normalise": True, "conv_bias": False, "conv_norm": "layer", "groups": 8}


def test_students_inherit_from_a_trained_autoformer(tmp_path: Path) -> None:
    """Its two-dimensional relative positions come along."""
    space = scholarch.create_space(
        "autoformer-tiny", num_classes=10, resolution=32, patch_size=16, width_mult=0.125
    )
    _run(tmp_path / "run", space)
    teacher = scholarch.load_teacher(tmp_path / "run", mean=[0.5] * 3, std=[0.25] * 3)
    data = scholarch.load_data("digits")
    found = scholarch.inherit_supernet(teacher=teacher, data=data, how="even")
    batch = scholarch.load_batch("digits", size=4, seed=0)
    with torch.no_grad():
        known = teacher.module((batch.images - 0.5) / 0.25)
        ours = found.network(batch.normalised, largest(found.space))
    torch.testing.assert_close(ours, known, rtol=1e-3, atol=1e-4)
