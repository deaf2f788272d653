"""The model card tells what the student knows, and says where it knows nothing."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from scholarch.search.shipping.card import model_card
from scholarch.search.shipping.read import read_student, student_folder
from scholarch.search.student import Student, TrainedWeights
from scholarch.searchspace.errors import InvalidInputError

Make = Callable[..., Student]


def test_an_untrained_student_says_so_first(make_student: Make) -> None:
    student = make_student()
    card = model_card(student, model_file=None)
    text = card.partition("# resnet-cifar 8-8x1-16x1-32x1\n")[2].strip()
    assert text.startswith("**The weights are not trained**: they are random, of seed 1.")
    assert "Unknown: the weights are not trained." in card
    assert "- Teacher: unknown" in card
    assert "- Data: unknown" in card
    assert "Latency: unknown." in card
    assert "metrics:" not in card
    assert "datasets:" not in card
    assert f"| params | {student.costs['params']:,.0f} |" in card
    assert "- naswot: 1.5" in card
    assert "- zico: failed" in card


def test_a_trained_student_tells_every_accuracy_and_where_it_is_from(trained: Student) -> None:
    assert trained.trained is not None
    known = TrainedWeights(
        trained.trained.module, {"val": 0.875, "test": 0.8125}, trained.trained.about
    )
    costs = {**trained.costs, "latency:phone": 3.25}
    card = model_card(
        dataclasses.replace(trained, trained=known, costs=costs, score=math.nan), model_file=None
    )
    assert "not trained" not in card
    assert "| val | 87.50% | validation images, on which choices were made, of patches |" in card
    assert "| test | 81.25% |" in card
    assert "How the weights were obtained: trained for 4 epochs." in card
    assert "- Teacher: resnet56-cifar10" in card
    assert "mean (0.3000, 0.4000, 0.5000)" in card
    assert "| latency:phone | 3.25 | milliseconds" in card
    assert '"steps": 7' in card
    assert "/somewhere" not in card  # a path of one machine
    assert "maximised" not in card
    header = card.split("---")[1]
    assert re.search(r'datasets:\n- "patches"\n', header)
    assert "      value: 0.8125" in header
    alone = TrainedWeights(trained.trained.module, {}, {"teacher": None})
    card = model_card(dataclasses.replace(trained, trained=alone), model_file=None)
    assert "- Teacher: none" in card
    unmeasured = TrainedWeights(trained.trained.module, {}, {})
    card = model_card(dataclasses.replace(trained, trained=unmeasured), model_file="reasons")
    assert "Unknown: it was not measured. How the weights were obtained: unknown." in card
    assert "There is no `model.py`: reasons." in card
    assert "from model import" not in card


def test_a_student_is_read_back_with_all_it_knows(
    trained: Student, make_student: Make, tmp_path: Path
) -> None:
    for name, student in (("a", trained), ("b", make_student())):
        student.save_pretrained(tmp_path / name)
        found = read_student(tmp_path / name)
        assert found.to_json() == student.to_json()
        assert found.seed == student.seed
        assert (found.trained is None) == (student.trained is None)
        state = student.module().state_dict()
        assert all(torch.equal(state[k], v) for k, v in found.module().state_dict().items())
    assert trained.trained is not None
    again = read_student(tmp_path / "a").trained
    assert again is not None
    assert again.about == trained.trained.about
    assert not again.module().training
    read_student(tmp_path / "a").save_pretrained(tmp_path / "c")
    for name in ("README.md", "model.py", "config.json", "model.safetensors"):
        assert (tmp_path / "c" / name).read_bytes() == (tmp_path / "a" / name).read_bytes()


def test_what_was_distilled_comes_first(make_student: Make, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no student in"):
        student_folder(tmp_path)
    with pytest.raises(InvalidInputError, match="is no folder"):
        student_folder(tmp_path / "nowhere")
    make_student().save_pretrained(tmp_path / "student")
    assert student_folder(tmp_path) == tmp_path / "student"
    assert student_folder(tmp_path / "student") == tmp_path / "student" / "."
    make_student().save_pretrained(tmp_path / "distil" / "student")
    assert student_folder(str(tmp_path)) == tmp_path / "distil" / "student"
    assert student_folder(tmp_path / "distil") == tmp_path / "distil" / "student"
    config = tmp_path / "distil" / "student" / "config.json"
    config.write_text(config.read_text().replace('"seed": 1', '"seed": "one"'))
    with pytest.raises(InvalidInputError, match=r"config\.json is damaged"):
        read_student(tmp_path / "distil" / "student")
    config.write_text("{")
    with pytest.raises(InvalidInputError, match="no student in"):
        read_student(student_folder(tmp_path))
    config.write_text('{"format": "of another"}')
    assert student_folder(tmp_path) == tmp_path / "student"
