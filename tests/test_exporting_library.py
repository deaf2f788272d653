"""A student of text or images as its home library's own network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import scholarch
from scholarch.exporting import export_student
from scholarch.search.student import Student
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.space import SearchSpace


def _student(space: SearchSpace, text: str) -> Student:
    arch = space.parse(text)
    costs = {name: float(column[0]) for name, column in space.cost([arch]).items()}
    return Student(arch, space, costs, 0.0)


def test_a_bert_student_is_loaded_by_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    outline = {"dim": 32, "depth": 2, "heads": 4, "head_dim": 8, "tenths": 20}
    space = scholarch.create_space(
        "bert-from-teacher", outline=outline, vocabulary=60, positions=16, resolution=8
    )
    text = '{"embed_dim":16,"depth":2,"num_heads":[2,2],"mlp_ratio":[1.0,1.0]}'
    student = _student(space, text)
    found = export_student(student, tmp_path / "bert", kind="library")
    assert "BertModel" in " ".join(found.notes)
    own, ids = (
        student.module().eval(),
        torch.randint(1, 60, (3, 8), generator=torch.Generator().manual_seed(0)),
    )
    with torch.no_grad(), torch.random.fork_rng():  # it draws a pooler that no file has
        theirs = transformers.AutoModel.from_pretrained(tmp_path / "bert").eval()(ids)
        torch.testing.assert_close(theirs.last_hidden_state, own.tokens(ids), rtol=1e-4, atol=1e-5)


def test_what_no_library_has_is_said(tmp_path: Path) -> None:
    outline = {"dim": 32, "depth": 2, "heads": 4, "head_dim": 8, "tenths": 20}
    space = scholarch.create_space("bert-from-teacher", outline=outline, vocabulary=60)
    uneven = '{"embed_dim":16,"depth":2,"num_heads":[2,1],"mlp_ratio":[1.0,1.0]}'
    with pytest.raises(InvalidInputError, match="no form in its home library"):
        export_student(_student(space, uneven), tmp_path / "bert", kind="library")
    convnet = _student(scholarch.create_space("resnet-cifar-s0"), "111")
    with pytest.raises(InvalidInputError, match="library is for Transformers"):
        export_student(convnet, tmp_path / "resnet", kind="library")
