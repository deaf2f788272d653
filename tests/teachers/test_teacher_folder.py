"""Folders of weights and a config as teachers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from scholarch.data import load_batch
from scholarch.search.student import Student
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space
from scholarch.teacher import load_teacher
from scholarch.teachers.timm_import import import_timm


def test_a_students_folder(tmp_path: Path) -> None:
    space = create_space("resnet-cifar-s0", num_classes=10)
    student = Student(space.parse("131"), space, {"macs": 1.0}, 0.5, {})
    student.save_pretrained(tmp_path / "s")
    teacher = load_teacher(str(tmp_path / "s"))
    assert not teacher.trained
    assert teacher.num_classes == 10
    weights = Student.from_pretrained(tmp_path / "s").state_dict()
    assert all(torch.equal(weights[k], v) for k, v in teacher.module.state_dict().items())
    assert teacher.observe(load_batch("digits", 4)).logits.shape == (4, 10)


def test_timms_folder(tmp_path: Path) -> None:
    with torch.random.fork_rng():  # timm draws initial weights from the global generator
        network = import_timm().create_model("resnet18", pretrained=False, num_classes=5)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    config = {
        "architecture": "resnet18",
        "num_classes": 5,
        "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [1.0, 1.0, 1.0]},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    teacher = load_teacher(tmp_path)
    assert teacher.trained
    assert teacher.num_classes == 5
    assert teacher.mean == (0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "holds no config.json"),
        ("{", "cannot be read"),
        ("[]", "no table of settings"),
        ("{}", "neither a student of ours nor a timm architecture"),
        ('{"architecture": "resnet_nowhere"}', "timm does not know"),
        ('{"format": "scholarch-student"}', "describes no student"),
        ('{"architecture": "resnet18"}', "holds none of model.safetensors"),
    ],
)
def test_other_folders_are_refused(tmp_path: Path, config: str | None, message: str) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(InvalidInputError, match=message):
        load_teacher(str(tmp_path))
