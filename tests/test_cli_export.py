"""``scholarch export``: what it prints and writes, and one line for what will not do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scholarch.cli import main
from scholarch.search.student import Student
from scholarch.searchspace.factory import create_space


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder, as far as an export reads it."""
    space = create_space("resnet-cifar", num_classes=10, resolution=32)
    folder = tmp_path_factory.mktemp("run")
    for place, text in (("student", "8-8x1-16x1-32x1"), ("distil/student", "8-8x1-16x1-32x2")):
        arch = space.parse(text)
        costs = {name: float(column[0]) for name, column in space.cost([arch]).items()}
        Student(arch, space, costs, 0.5).save_pretrained(folder / place)
    return folder


def told(capsys: pytest.CaptureFixture[str], *words: Any, code: int = 0) -> tuple[str, str]:
    assert main(["export", *(str(word) for word in words)]) == code
    return capsys.readouterr()


def test_onnx_in_words_and_in_json(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    out = tmp_path / "deep" / "a.onnx"
    found, errors = told(capsys, run, "--out", out)
    assert errors == ""
    assert found.startswith(f"{out}: onnx of 8-8x1-16x1-32x2 (resnet-cifar), ")
    assert "max|Δ|/max|y| " in found
    assert "onnxruntime" in found
    assert "weights are not trained" in found
    size = out.stat().st_size
    found, _ = told(capsys, run / "student", "--format", "torch-export", "--out", out, "--json")
    data = json.loads(found)
    assert out.stat().st_size != size
    assert data["arch"] == "8-8x1-16x1-32x1"
    assert data["format"] == "torch-export"
    assert data["bytes"] == out.stat().st_size
    assert set(data["parity"]) == {"1", "2", "5"}
    assert max(data["parity"].values()) <= 1e-4
    assert set(data["latency_ms"]) == {"torch", "torch.export"}


def test_a_folder_is_a_student_again_and_quiet_is_quiet(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "again"
    for _ in range(2):  # over itself, too
        assert told(capsys, run, "--format", "folder", "--out", out, "--quiet") == ("", "")
    names = sorted(item.name for item in out.iterdir())
    assert names == ["README.md", "config.json", "model.py", "model.safetensors"]
    for name in names:
        assert (out / name).read_bytes() == (run / "distil" / "student" / name).read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["RUN", "--out", "OUT", "--format", "onx"], "unknown format 'onx'; did you mean onnx"),
        (["RUN", "--out", "OUT", "--data", "digits"], "--data digits is for --format onnx-int8"),
        (["RUN", "--out", "OUT", "--calibration", "9"], "--calibration 9 is for --format onnx-"),
        (["RUN", "--out", "OUT", "--format", "onnx-int8"], "needs data"),
        (["RUN", "--out", "OUT", "--format", "onnx-int8", "--data", "nodata"], "'nodata'"),
        (["RUN", "--out", "FULL"], "is a folder; name the file"),
        (["RUN", "--out", "FULL", "--format", "folder"], "is not empty (note.txt)"),
        (["RUN", "--out", "FULL/note.txt", "--format", "folder"], "is a file"),
        (["FULL", "--out", "OUT"], "no student in"),
        (["OUT", "--out", "OUT"], "is no folder"),
    ],
)
def test_what_will_not_do_is_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "note.txt").write_text("mine")
    places = {"RUN": str(run), "OUT": str(tmp_path / "out"), "FULL": str(full)}
    for name, path in places.items():
        words = [word.replace(name, path) for word in words]
    found, error = told(capsys, *words, code=2)
    assert found == ""
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert (full / "note.txt").read_text() == "mine"
