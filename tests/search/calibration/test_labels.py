"""``labels.csv`` and what labels are said to cost."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from scholarch.data import load_batch
from scholarch.search.calibration.cost import label_cost
from scholarch.search.calibration.labels import Label, LabelBook, labelled
from scholarch.searchspace.errors import InvalidInputError, StoreError
from scholarch.searchspace.factory import create_space
from scholarch.teacher import load_teacher

FINE = Label("t", "1,2", "k1", 0, 0.8125, 1.5)
BAD = Label("t", "3", "k2", 0, math.nan, 0.1, 'RuntimeError: "x", y\nz')


def test_lines_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    book = LabelBook(path)
    book.add(FINE)
    book.add(BAD)
    assert path.read_text().count("\n") == 3
    again = LabelBook(path)
    assert again.get("t", "k1", 0) == FINE
    failed = again.get("t", "k2", 0)
    assert failed is not None
    assert not failed.fine
    assert failed.failure == 'RuntimeError: "x", y z'
    assert again.get("other", "k1", 0) is None
    assert again.get("t", "k1", 1) is None
    assert len(list(again)) == 2


def test_a_torn_line_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    LabelBook(path).add(FINE)
    whole = path.read_bytes()
    for cut in (1, 5, len("t,") + 3):
        path.write_bytes(whole + b"t,4,k3,0,0.91"[:cut])
        assert [one.key for one in LabelBook(path)] == ["k1"]
        assert path.read_bytes() == whole
    path.write_bytes(whole[: whole.index(b"\n") - 2])
    assert not list(LabelBook(path))


def test_strangers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("arch,truth\n1,2\n")
    with pytest.raises(InvalidInputError, match="move it away"):
        LabelBook(path)
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(StoreError, match="cannot read"):
        LabelBook(path)


def test_a_label_is_made_once() -> None:
    space = create_space("resnet-cifar-s0")
    arch = space.parse("111")
    book = LabelBook(None)
    asked: list[int] = []

    def distil(_: object, seed: int) -> float:
        asked.append(seed)
        return 0.5

    assert labelled(book, "t", arch, 3, distil) == labelled(book, "t", arch, 3, distil)
    assert asked == [3]
    labelled(book, "u", arch, 3, distil)
    assert asked == [3, 3]


def test_a_full_disk_is_no_candidates_fault() -> None:
    arch = create_space("resnet-cifar-s0").parse("111")

    def distil(_: object, __: int) -> float:
        raise StoreError("disk full")

    with pytest.raises(StoreError, match="disk full"):
        labelled(LabelBook(None), "t", arch, 0, distil)


def test_the_cost_is_counted_and_timed() -> None:
    space = create_space("resnet-cifar-s0")
    archs = [space.parse(text) for text in ("111", "113", "333")]
    teacher = load_teacher("resnet14-digits")
    batch = load_batch("digits", size=8)
    cost = label_cost(
        space, archs, [teacher], batch, 80, epochs=3, batch_size=16, left=[(archs[0], teacher.name)]
    )
    macs = space.cost(archs)["macs"]
    assert cost.steps == 3 * 5
    assert teacher.macs is not None
    assert cost.macs == pytest.approx(3 * 80 * (3 * macs.sum() + 3 * teacher.macs))
    assert (cost.labels, cost.left) == (3, 1)
    assert cost.timed == "113"  # of middling MACs
    assert 0 < cost.seconds < cost.step_seconds * cost.steps
    assert "3 distillations of 3 epochs (2 are there)" in str(cost)
    none = label_cost(space, archs, [teacher], batch, 80, epochs=3, batch_size=16, left=[])
    assert none.seconds == 0.0
