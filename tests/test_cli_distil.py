"""The command ``scholarch distil`` from end to end, on images of 8×8 pixels."""

from __future__ import annotations

import json
import os
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scholarch.cli import main

Fork = Callable[[Callable[[], int]], Any]
Capture = pytest.CaptureFixture[str]

pytestmark = pytest.mark.usefixtures("plain_curves")

PLUGIN = '''
"""A space that trains in no time."""
from scholarch.searchspace.convnets.resnet_cifar import CifarResNetSpace
from scholarch.searchspace.space import register_space

@register_space("test-small-distil")
def small(name, **options):
    """ResNets of three to six blocks."""
    return CifarResNetSpace(name, (1, 2), ((4, 8), (4, 8), (8, 12), (8, 16)), **options)
'''

SHORT = ("--setting", "batch_size=8", "--setting", "lr=0.05", "--setting", "evaluations=2")


# One a process: what a plug-in registers stays, and processes may come back to a file.
@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plug-in, data of four classes, ``run``: a search without a teacher."""
    folder = tmp_path_factory.mktemp("distil")
    (folder / "plugin.py").write_text(PLUGIN)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 128, (80, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(80) % 4
    images[np.arange(80), labels] = 255
    parts = {"x_train": images[:48], "y_train": labels[:48]}
    parts |= {"x_val": images[48:64], "y_val": labels[48:64]}
    np.savez(folder / "data.npz", **parts, x_test=images[64:], y_test=labels[64:])
    search = ["search", "--plugin", f"{folder}/plugin.py", "--space", "test-small-distil"]
    search += ["--data", f"{folder}/data.npz", "--proxy", "macs", "--evaluations", "4"]
    search += ["--batch-size", "8", "--max-macs", "150k"]
    assert main([*search, "--out", f"{folder}/run", "--quiet"]) == 0
    return folder


def words(place: Path, *more: str) -> list[str]:
    """Six steps an epoch."""
    given = ["distil", f"{place}/run", "--plugin", f"{place}/plugin.py"]
    return [*given, *([] if "--epochs" in more else ["--epochs", "1"]), *SHORT, *more]


@pytest.fixture(scope="module")
def taught(place: Path) -> Path:
    """A network of labels alone, which is everybody's teacher."""
    out = place / "taught"
    assert main(words(place, "--distiller", "none", "--out", str(out), "--quiet")) == 0
    return out / "student"


def one_line(capsys: Capture) -> str:
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert printed.out == ""
    return line


def test_table_json_and_nothing(
    place: Path, taught: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    capsys.readouterr()
    given = words(place, "--teacher", str(taught), "--baseline", "--distiller-option")
    given += ["temperature=2", "--labels", "0.5", "--seed", "3"]
    assert main([*given, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    told = json.loads((place / "run" / "distil" / "distil.json").read_text())
    assert told["command"] == shlex.join(["scholarch", *given, "--quiet"])
    settings = told["settings"]
    assert (settings["options"], settings["labels"]) == ({"temperature": 2}, 0.5)
    assert (settings["seed"], settings["batch_size"], settings["lr"]) == (3, 8, 0.05)
    assert main(given) == 0
    table = capsys.readouterr().out
    for word in ("student", "hand-made", "teacher", "test accuracy", "report.html", "16 test"):
        assert word in table
    assert f"next: scholarch export {place}/run/distil --format onnx" in table
    assert main([*given, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["student"] == told["student"]
    assert printed["baseline"]["macs"] <= printed["student"]["macs"]
    assert printed["out"] == f"{place}/run/distil"
    plugin = ["--plugin", f"{place}/plugin.py"]
    for folder in (f"{place}/run/distil", f"{place}/run"):
        assert main(["report", folder, *plugin]) == 0
        assert "The distilled student" in Path(folder, "report.html").read_text()
    assert "hand-made" in capsys.readouterr().out


def test_ctrl_c_says_how_to_go_on(
    place: Path, taught: Path, fork: Fork, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "a"
    given = words(place, "--teacher", str(taught), "--out", str(out), "--quiet", "--epochs", "2000")

    def run() -> int:
        return main(given)

    child = fork(run)
    while not (out / "distil.json").exists():
        pass
    child.kill(signal.SIGINT)
    code, printed, said = child.wait()
    assert (code, printed) == (130, "")
    assert said.splitlines()[-1].startswith("stopped")
    if (out / "last.safetensors").exists():
        assert f"kept in {out}. Run the same command with --resume to go on." in said
        capsys.readouterr()
        assert main(given) == 2
        assert "add --resume" in one_line(capsys)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--distiller", "kdd"], "unknown distiller 'kdd'; did you mean"),
        (["--distiller-option", "tau=4"], "distiller 'kd' has no option tau; it has"),
        (["--distiller-option", "tau"], "--distiller-option 'tau'; write NAME=VALUE"),
        (["--distiller", "auto", "--distiller-option", "tau=4"], "are one distiller's; name it"),
        (["--setting", "seed=4"], "--setting seed=… has an option of its own"),
        (["--setting", "momentun=4"], "unknown distillation setting 'momentun'"),
        (["--init", "warm"], "--init 'warm'; one of scratch, trained, teacher"),
        (["--init", "trained"], "has no trained weights to start from"),
        (["--labels", "-1"], "labels = -1; need a weight of at least 0"),
        (["--average", "1"], "average = 1; need a number of at least 0 and below 1"),
        (["--epochs", "0"], "epochs = 0; need a number above 0"),
        (["--device", "tpu"], "'tpu'"),
        (["--data", "nowhere.npz"], "nowhere.npz"),
        (["--data", "digits"], "has 4 classes, data 'digits' has 10"),
        (["--weights", "w.pt", "--no-teacher"], "name it with --teacher"),
        (["--teacher", "resnet14-digits"], "has 10 classes, data"),
        (["--no-teacher"], "no teacher for"),
    ],
)
def test_one_line_of_what_is_wrong(
    more: list[str], said: str, place: Path, taught: Path, tmp_path: Path, capsys: Capture
) -> None:
    teacher = [] if "--teacher" in more or "--no-teacher" in more else ["--teacher", str(taught)]
    more = [word for word in more if word != "--no-teacher"]
    capsys.readouterr()
    assert main(words(place, *teacher, *more, "--out", str(tmp_path / "a"))) == 2
    line = one_line(capsys)
    assert line.startswith("error: ")
    assert said in line
    assert not (tmp_path / "a").exists() or not list((tmp_path / "a").glob("*.safetensors"))


def test_folders_that_are_none(place: Path, tmp_path: Path, capsys: Capture) -> None:
    capsys.readouterr()
    for folder, said in (
        (tmp_path, "no student in"),
        (tmp_path / "a", "is no folder; give a run's"),
        (place / "data.npz", "is no folder"),
    ):
        assert main(["distil", str(folder)]) == 2
        assert said in one_line(capsys)
    (tmp_path / "run.json").write_text("{")
    assert main(["distil", str(tmp_path)]) == 2
    assert "its search is not finished" in one_line(capsys)


def test_other_ranks_say_nothing(
    place: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "RANK", "1")
    capsys.readouterr()
    assert main(words(place, "--distiller", "kdd")) == 2
    assert capsys.readouterr() == ("", "")


def test_distillers_are_listed(capsys: Capture) -> None:
    assert main(["list", "distillers", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert "kd" in {row["name"] for row in rows}
    assert all(row["about"] for row in rows)
