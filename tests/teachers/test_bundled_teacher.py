from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from scholarch.data import Part, load_batch, load_data
from scholarch.proxies.batch import Batch
from scholarch.proxies.teacher import Teacher
from scholarch.teacher import load_teacher
from scholarch.teachers import digits


def whole_part(part: Any, like: Batch) -> Batch:
    images = torch.from_numpy(part.images).permute(0, 3, 1, 2).float() / 255.0
    return Batch(images, torch.from_numpy(part.labels), like.num_classes, like.mean, like.std)


def accuracy(teacher: Teacher, batch: Batch) -> float:
    logits = teacher.observe(batch).logits
    assert logits is not None
    return float((logits.argmax(1) == batch.labels).float().mean())


def test_the_bundled_teacher() -> None:
    teacher, data = load_teacher("resnet14-digits"), load_data("digits")
    assert teacher.trained
    assert teacher.num_classes == 10
    assert teacher.accuracy is not None
    assert teacher.accuracy >= 0.98
    assert teacher.plan.final == "layer3"
    assert (teacher.mean, teacher.std) == (data.mean, data.std)
    assert "bundled" in teacher.about
    test = whole_part(data.test, load_batch("digits", 2))
    assert accuracy(teacher, test) == pytest.approx(teacher.accuracy, abs=1e-4)


def test_the_bundled_files() -> None:
    folder = Path(digits.__file__).parent
    weights, facts = folder / "resnet14-digits.safetensors", folder / "resnet14-digits.json"
    assert weights.stat().st_size < 1_000_000
    record = json.loads(facts.read_text())
    data = load_data("digits")
    parts = {"train": data.train, "val": data.val, "test": data.test}
    assert record["images"] == {name: len(part.labels) for name, part in parts.items()}
    assert record["bytes"] == weights.stat().st_size
    assert record["command"].startswith("python -m scholarch.teachers.digits")


def test_the_training_script_repeats_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_data("digits")
    few = dataclasses.replace(data, train=Part(*(array[:192] for array in data.train)))
    monkeypatch.setattr(digits, "load_data", lambda name: few)
    written = []
    for name in ("first", "second"):
        out = tmp_path / name
        out.mkdir()
        assert digits.main(["--epochs", "1", "--out", str(out)]) == 0
        written.append((out / "resnet14-digits.safetensors").read_bytes())
        assert json.loads((out / "resnet14-digits.json").read_text())["epochs"] == 1
    assert written[0] == written[1]
    weights = tmp_path / "first" / "resnet14-digits.safetensors"
    teacher = load_teacher("resnet14-digits", weights=weights)
    assert teacher.accuracy is None, "the accuracy told is the bundled weights'"
