"""ONNX and torch.export: equal outputs on every batch, or no file and one line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scholarch.search.shipping import onnx_file, program
from scholarch.search.shipping.onnx_file import write_onnx
from scholarch.search.shipping.parity import ParityError
from scholarch.search.shipping.program import write_program
from scholarch.search.shipping.runtime import OnnxSession
from scholarch.search.shipping.timing import latencies
from scholarch.search.student import Student
from scholarch.searchspace.errors import ScholarchError

IMAGE = (3, 8, 8)
PIT = '{"base_dim":16,"mlp_ratio":2,"depth":[1,4,2],"num_heads":[2,2,2]}'
Make = Callable[..., Student]
Draw = Callable[..., Tensor]


@pytest.fixture
def onnxruntime() -> Any:
    pytest.importorskip("onnxscript")
    return pytest.importorskip("onnxruntime")


class ByLength(nn.Module):
    """Asks for the batch as a number, which an exporter takes for a constant."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3)).reshape(len(x), 3) * 2.0


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3)) if x.sum() > 0 else -x.mean(dim=(2, 3))


@pytest.mark.parametrize(
    ("space", "options"),
    [
        ("resnet-cifar", {"text": "8-8x1-16x1-32x1"}),
        ("nasbench-macro", {"text": "01000020", "resolution": 16}),
        ("vitbench-pit", {"text": PIT, "resolution": 32}),
    ],
)
def test_onnx_computes_what_the_student_does(
    onnxruntime: Any,
    make_student: Make,
    images_of: Draw,
    tmp_path: Path,
    space: str,
    options: dict[str, Any],
) -> None:
    student = make_student(space, **options)
    path = tmp_path / "student.onnx"
    student.export(path)
    assert [item.name for item in tmp_path.iterdir()] == ["student.onnx"]
    session = onnxruntime.InferenceSession(str(path))
    network = student.module().eval()
    for count in (1, 3):
        images = images_of(student, count)
        (found,) = session.run(None, {"images": images.numpy()})
        with torch.no_grad():
            expected = network(images).numpy()
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_a_batch_that_is_asked_for_stays_open(
    onnxruntime: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    for write in (write_onnx, write_program):
        assert max(write(ByLength(), path, IMAGE).errors.values()) < 1e-6
    before = path.read_bytes()
    for module in (onnx_file, program):
        monkeypatch.setattr(module, "with_open_batch", lambda network, _: network)
    with pytest.raises(ParityError, match=r"batch of 1") as error:
        write_onnx(ByLength(), path, IMAGE)
    assert "\n" not in str(error.value)
    with pytest.raises(ScholarchError, match="cannot be exported by torch.export"):
        write_program(ByLength(), path, IMAGE)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["a"]


def test_other_outputs_leave_no_file(
    onnxruntime: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(self: OnnxSession, images: Tensor) -> Any:
        return images.mean(dim=(2, 3)).numpy() * 2.001

    monkeypatch.setattr(OnnxSession, "__call__", wrong)
    with pytest.raises(ParityError, match=r"1\.0e-03|5\.0e-04.*at most 1e-04"):
        write_onnx(ByLength(), tmp_path / "a.onnx", IMAGE)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_one_line(onnxruntime: Any, tmp_path: Path) -> None:
    for write in (write_onnx, write_program):
        with pytest.raises(ScholarchError, match="cannot be exported") as error:
            write(Branching(), tmp_path / "a", IMAGE)
        assert "\n" not in str(error.value)
        assert "--format folder" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_is_one_line(
    make_student: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ScholarchError, match=r"onnxscript is missing: pip install 'scholarch\[onn"):
        make_student().export(tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_program_is_read_back_equal(make_student: Make, images_of: Draw, tmp_path: Path) -> None:
    student = make_student()
    network = student.module().eval()
    written = write_program(network, tmp_path / "student.pt2", student.image)
    assert set(written.errors) == {1, 2, 5}
    again = torch.export.load(tmp_path / "student.pt2").module()
    for count in (1, 7):
        images = images_of(student, count)
        with torch.no_grad():
            torch.testing.assert_close(again(images), network(images))


def test_latencies_are_of_what_is_run() -> None:
    threads = torch.get_num_threads()

    def slow(images: Tensor) -> Tensor:
        weight = images.new_ones(150, 150)
        for _ in range(20):
            weight = weight @ weight * 1e-3
        return weight

    found = latencies({"quick": lambda x: x + 1, "slow": slow}, IMAGE)
    assert 0.0 < 3 * found["quick"] < found["slow"]
    assert torch.get_num_threads() == threads
