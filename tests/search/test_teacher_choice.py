"""One of several teachers: by accuracy, by the students they teach, never by a similarity."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import scholarch
from scholarch.choosing import choose_teacher
from scholarch.datasets.arrays import Part
from scholarch.datasets.dataset import DataSet
from scholarch.proxies.batch import Batch
from scholarch.search.teacher_choice import (
    FIRST,
    SimilarityRow,
    TeacherFacts,
    by_accuracy,
    by_labels,
    examine,
)
from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space

SPACE: dict[str, Any] = {"num_classes": 4, "resolution": 8, "width_mult": 0.25}


class Brightest(nn.Module):
    """Names the class whose pixel is lit, with a given certainty; ``width`` adds parameters."""

    def __init__(self, certainty: float, width: int = 4, classes: int = 4) -> None:
        super().__init__()
        with torch.random.fork_rng():
            self.conv = nn.Conv2d(3, width, 1, bias=False)
            self.classifier = nn.Linear(width, classes)
        self.certainty = certainty

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        named = self.classifier(self.conv(x).mean(dim=(2, 3))) * 1e-3
        lit = x[:, 0, 0, : named.shape[1]]
        return named + self.certainty * lit


def dataset(val: int = 32) -> DataSet:
    rng = np.random.default_rng(0)
    labels = np.arange(160) % 4
    images = rng.integers(0, 160, (160, 8, 8, 3), dtype=np.uint8)
    images[np.arange(160), 0, labels] = 255
    parts = [Part(images[i], labels[i]) for i in np.split(np.arange(160), (96, 96 + val))]
    return DataSet("patches", 4, *parts, mean=(0.4,) * 3, std=(0.3,) * 3)


def batches() -> list[Batch]:
    return [dataset().batch(32, seed) for seed in range(2)]


def facts(name: str, accuracy: float, params: int = 10, *, trained: bool = True) -> TeacherFacts:
    fits = math.isfinite(accuracy)
    return TeacherFacts(name, params, None, fits, trained, accuracy, 0.5, 0.9, 64)


def test_a_teacher_is_measured_on_validation_images() -> None:
    sure = examine(scholarch.load_teacher(Brightest(20.0)), batches())
    unsure = examine(scholarch.load_teacher(Brightest(0.01)), batches())
    assert sure.accuracy == 1.0
    assert sure.entropy < 0.1 < unsure.entropy
    assert unsure.entropy == pytest.approx(math.log(4), abs=0.01)
    assert sure.confidence > 0.9
    assert unsure.confidence == pytest.approx(0.25, abs=0.01)
    assert sure.images == 64


def test_other_classes_have_no_accuracy() -> None:
    found = examine(scholarch.load_teacher(Brightest(20.0, classes=6)), batches())
    assert not found.fits
    assert math.isnan(found.accuracy)
    assert found.to_json()["accuracy"] is None
    assert math.isfinite(found.entropy)


def test_the_order_is_by_accuracy_and_says_so() -> None:
    order, why = by_accuracy(
        [facts("a", 0.8), facts("random", 0.9, trained=False), facts("other", math.nan),
         facts("c", 0.95, 90), facts("d", 0.95, 20)]
    )  # fmt: skip
    assert order == [4, 3, 0, 2, 1]
    assert "validation accuracy" in why
    assert "nothing else" in why
    order, why = by_accuracy([facts("x", math.nan), facts("y", math.nan)])
    assert order == [0, 1]
    assert "named first" in why


def test_students_decide_by_pairs() -> None:
    rng = np.random.default_rng(0)
    of_student = rng.uniform(0.5, 0.9, 8)  # a far larger spread than between teachers
    noise = rng.normal(0, 0.001, (2, 8))
    labels = {"small": of_student + 0.02 + noise[0], "large": of_student + noise[1]}
    labels["large"][3] = math.nan
    names, (difference,) = by_labels(labels)
    assert names == ["small", "large"]
    assert difference.pairs == 7
    assert difference.mean == pytest.approx(0.02, abs=0.002)
    assert difference.distinguishable
    assert "better" in str(difference)
    labels = {"small": of_student, "large": of_student + 0.001 * (-1.0) ** np.arange(8)}
    _, (difference,) = by_labels(labels)
    assert not difference.distinguishable
    assert "not distinguishable" in str(difference)
    with pytest.raises(InvalidInputError, match="1 students"):
        by_labels({"a": np.array([0.5, math.nan]), "b": np.array([0.5, 0.6])})


def test_a_control_of_the_same_order_is_named() -> None:
    row = SimilarityRow(
        "s", "t", {FIRST: 0.0, "shuffled": 0.0, "random": 0.0}, {"shuffled": 0.95, "random": 0.1}
    )
    assert row.holds == ("shuffled",)


def test_teachers_need_validation_images_and_names() -> None:
    guides = [scholarch.load_teacher(Brightest(20.0, width)) for width in (4, 5)]
    choice = choose_teacher(guides, dataset())
    assert {one.name for one in choice.teachers} == {"Brightest#1", "Brightest#2"}
    with pytest.raises(InvalidInputError, match="twice"):
        choose_teacher([*guides, guides[0]], dataset())
    with pytest.raises(InvalidInputError, match="validation"):
        choose_teacher(guides, dataset(val=0))
    with pytest.raises(InvalidInputError, match="validation"):
        choose_teacher(guides, None)
    with pytest.raises(InvalidInputError, match="empty"):
        choose_teacher([], dataset())


def find(out: Path, **given: Any) -> Any:
    asked: dict[str, Any] = {
        "space": create_space("resnet-cifar", **SPACE),
        "data": dataset(),
        "teacher": [Brightest(-20.0, 16), Brightest(20.0), Brightest(20.0, 4, 6)],
        "proxies": ["macs"],
        "searcher": "random",
        "evaluations": 6,
        "batch_size": 8,
        "budget": {"params": 2e5},
    }
    return scholarch.find_student(**(asked | given), out=out)


def test_a_search_compares_several_teachers(tmp_path: Path) -> None:
    result = find(tmp_path)
    told = result.info["teachers"]
    assert told["chosen"] == "Brightest#2"
    assert result.info["teacher"]["name"] == "Brightest#2"
    assert [row["name"] for row in told["rows"]] == ["Brightest#2", "Brightest#1", "Brightest#3"]
    assert told["rows"][0]["accuracy"] == 1.0
    assert told["rows"][1]["params_ratio"] == pytest.approx(
        told["rows"][1]["params"] / result.best.costs["params"], abs=0.01
    )
    for row in told["similarities"]:
        assert {"shuffled", "labels", "constant", "random"} >= set(row["tau"])
        assert set(row["mean"]) == {FIRST, *row["tau"]}
    assert told["similarities"]
    assert any("nothing else" in note for note in result.notes)
    page = (tmp_path / "teachers.html").read_text()
    assert "Brightest#3" in page
    assert "no score without training" in page
    again = scholarch.SearchResult.load(tmp_path)
    assert again.info["teachers"] == told


def test_with_labels_students_choose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, list[str]] = {}

    def make(space: Any, teacher: Any, *_: Any, **__: Any) -> Any:
        def label(arch: Architecture, seed: int) -> float:
            asked.setdefault(teacher.name, []).append(arch.key)
            lead = 0.05 if teacher.name == "Brightest#1" else 0.0
            return 0.5 + lead + 1e-8 * float(space.cost([arch])["macs"][0])

        return label

    monkeypatch.setattr("scholarch.calibrating.make_labeller", make)
    result = find(tmp_path, calibrate=4, teacher=[Brightest(-20.0, 16), Brightest(20.0)])
    assert len(asked) == 2
    assert asked["Brightest#1"] == asked["Brightest#2"]
    told = result.info["teachers"]
    # The more accurate teacher's students are worse.
    assert told["chosen"] == "Brightest#1"
    assert told["differences"][0]["distinguishable"]
    assert result.info["teacher"]["name"] == "Brightest#1"
    assert result.info["calibration"]["teacher"] == "Brightest#1"
    page = (tmp_path / "report.html").read_text()
    assert "Which teacher" in page
    assert "+5.00" in page
