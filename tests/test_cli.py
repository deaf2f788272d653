"""The command line: what it prints, and that bad input is one plain line and exit code 2."""

from __future__ import annotations

import csv
import errno
import json
import os
import pickle
import resource
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import scholarch
from scholarch.cli import main
from scholarch.proxies import registry
from scholarch.proxies.probe import Probe
from scholarch.proxies.registry import Proxy
from scholarch.search import store as store_module

Fork = Callable[[Callable[[], int]], Any]
S0 = "search --space resnet-cifar-s0 --data digits --batch-size 8 --evaluations 6"
BOXES = "╭╮╰╯│─━"

pytestmark = pytest.mark.usefixtures("plain_pages")


class Cli:
    """Runs the command line in this process."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, line: str | list[str], *more: str | Path) -> tuple[int, str, str]:
        words = shlex.split(line) if isinstance(line, str) else line
        self._capfd.readouterr()
        code = main([*words, *map(str, more)])
        out, err = self._capfd.readouterr()
        return code, out, err

    def refused(self, line: str | list[str], *more: str | Path) -> str:
        """The one or two plain lines of a refusal."""
        code, out, err = self(line, *more)
        assert code == 2, (out, err)
        assert out == ""
        plain(err)
        return err.strip()

    def done(self, line: str | list[str], *more: str | Path) -> str:
        """What a command printed that went well."""
        code, out, err = self(line, *more)
        assert code == 0, err
        return out


def plain(err: str) -> None:
    assert 1 <= len(err.splitlines()) <= 2, err
    assert err.startswith("error: ")
    assert all(line.strip() for line in err.splitlines())
    assert "Traceback" not in err
    assert not set(err) & set(BOXES)


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capfd)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run; copied where it is to be harmed."""
    out = tmp_path_factory.mktemp("finished") / "run"
    assert main([*S0.split(), "--proxy", "params", "--out", str(out), "--quiet"]) == 0
    return out


@pytest.fixture
def run_copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies ``test-half`` and ``test-never`` that fail on some candidates, and on all."""

    def half(probe: Probe) -> float:
        if probe.arch.choices[0] % 2:
            raise RuntimeError("this one breaks")
        return probe.costs["params"]

    def never(probe: Probe) -> float:
        raise MemoryError

    for name, compute in (("test-half", half), ("test-never", never)):
        proxy = Proxy(name, compute, "of a test", "a test", frozenset())
        monkeypatch.setitem(registry._PROXIES._items, name, proxy)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }


# ---------------------------------------------------------------------- what it prints


def test_version_and_help(cli: Cli) -> None:
    assert cli.done("--version") == f"scholarch {scholarch.__version__}\n"
    text = cli.done("--help")
    assert all(f"  {command} " in text for command in ("search", "score", "report", "list"))
    for command in ("search", "score", "report", "list"):
        text = cli.done(f"{command} --help")
        assert "--json" in text
        assert "--quiet" in text
        assert not set(text) & set(BOXES)


def test_python_m() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scholarch", "--version"], capture_output=True, text=True
    )
    assert done.stdout == f"scholarch {scholarch.__version__}\n"
    done = subprocess.run(
        [sys.executable, "-m", "scholarch", "lst"], capture_output=True, text=True
    )
    assert done.returncode == 2
    plain(done.stderr)


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("spaces", "resnet-cifar"),
        ("proxies", "naswot"),
        ("proxies", "ensemble"),
        ("searchers", "nsga2"),
        ("teachers", "resnet56-cifar10"),
    ],
)
def test_list(what: str, name: str, cli: Cli) -> None:
    text = cli.done(f"list {what}")
    assert any(line.split()[0] == name for line in text.splitlines())
    rows = json.loads(cli.done(f"list {what} --json"))
    assert {row["name"] for row in rows} == {line.split()[0] for line in text.splitlines()}
    assert all(row["about"] for row in rows)
    rows = json.loads(cli.done(["list", what, f"{name[:-2]}*", "--json"]))
    assert name in {row["name"] for row in rows}
    assert all(row["name"].startswith(name[:-2]) for row in rows)
    assert cli.done(f"list {what} no-such-*") == ""
    assert json.loads(cli.done(f"list {what} no-such-* --json")) == []
    assert cli.done(f"list {what} --quiet") == ""


def test_search_prints_the_front_and_the_pick(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "a run"
    code, text, err = cli(f"{S0} --max-params 600k --proxy params --seed 2", "--out", out)
    assert code == 0
    with (out / "pareto.csv").open() as file:
        front = list(csv.DictReader(file))
    assert "6 architectures evaluated, 0 failed" in text
    assert all(row["arch"] in text for row in front)
    pick = max(front, key=lambda row: float(row["score"]))
    assert f"best student: {pick['arch']} (" in text
    assert f"report: {out}/report.html" in text
    assert "search" in err  # progress goes to stderr
    assert "6/6" in err
    assert "Traceback" not in err


def test_search_json(cli: Cli, tmp_path: Path) -> None:
    code, text, err = cli(f"{S0} --json --proxy params", "--out", tmp_path / "é")
    assert (code, err) == (0, "")
    data = json.loads(text)
    assert data["evaluations"] == 6
    assert data["best"]["arch"] in {student["arch"] for student in data["pareto"]}
    assert data["out"] == str(tmp_path / "é")


@pytest.mark.usefixtures("few_references")
def test_quiet_prints_nothing(cli: Cli, tmp_path: Path, run_copy: Path) -> None:
    archs = tmp_path / "archs.txt"
    archs.write_text("111\n")
    for line in (
        [*S0.split(), "--out", str(tmp_path / "new")],
        ["report", str(run_copy)],
        ["score", str(archs), *S0.split()[1:7]],
        ["list", "spaces"],
    ):
        assert cli([*line, "--quiet"]) == (0, "", "")


@pytest.mark.usefixtures("failing")
def test_failures_are_told(cli: Cli, tmp_path: Path) -> None:
    code, text, err = cli(f"{S0} --proxy test-half --evaluations 64 --json", "--out", tmp_path)
    assert (code, err) == (0, "")
    assert json.loads(text)["failures"] == {"test-half: RuntimeError: this one breaks": 32}
    text = cli.done("report", tmp_path)
    assert "64 architectures evaluated, 32 failed" in text
    assert "failed 32×: test-half: RuntimeError: this one breaks" in text


@pytest.mark.usefixtures("failing")
def test_all_failed(cli: Cli, tmp_path: Path) -> None:
    code, text, err = cli(f"{S0} --proxy test-never --json", "--out", tmp_path / "a")
    assert code == 2
    plain(err)
    assert "no candidate could be scored: 6× test-never: out of memory" in err
    assert json.loads(text)["best"] is None
    assert (tmp_path / "a" / "report.html").stat().st_size > 1000
    code, text, err = cli(f"{S0} --proxy test-never", "--out", tmp_path / "b")
    assert code == 2
    assert "6 architectures evaluated, 6 failed" in text
    refusal = cli.refused(
        f"{S0} --proxy test-never --proxy params --quiet", "--out", tmp_path / "c"
    )
    assert "test-never failed on all 64 architectures of the reference sample" in refusal


def test_the_command_in_run_json_repeats_the_run(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "it's a [run]"
    cli.done(f"{S0} --quiet --proxy params --max-macs 70M", "--out", out)
    before = (out / "pareto.csv").read_bytes()
    name, *line = shlex.split(json.loads((out / "run.json").read_text())["command"])
    assert name == "scholarch"
    shutil.rmtree(out)
    cli.done(line)
    assert (out / "pareto.csv").read_bytes() == before


def test_a_relative_out(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cli.done(f"{S0} --quiet --proxy params --out runs/a")
    cli.done(f"{S0} --quiet --proxy params", "--out", tmp_path / "runs" / "a")
    assert "report: runs/a/report.html" in cli.done("report runs/a")


@pytest.mark.usefixtures("few_references")
def test_score(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "archs.txt"
    file.write_text("# two of 64\n111\n\n  777  \n", encoding="utf-8")
    options = "--space resnet-cifar-s0 --data digits --batch-size 8"
    data = json.loads(cli.done(f"score {options} --json --proxy macs --proxy naswot", file))
    assert [row["arch"] for row in data["scores"]] == ["111", "777"]
    assert [row["macs"] for row in data["scores"]] == [12501632.0, 97436288.0]
    assert data["failures"] == []
    text = cli.done(f"score {options}", file)
    assert "ensemble" in text
    assert "777" in text


@pytest.mark.usefixtures("failing")
def test_score_failures(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "archs.txt"
    file.write_text("111\n311\n")
    line = "score --space resnet-cifar-s0 --data digits --batch-size 8 --proxy test-half"
    data = json.loads(cli.done(f"{line} --json", file))
    assert data["scores"][1] == {"arch": "311", "test-half": None}
    reason = "RuntimeError: this one breaks"
    assert data["failures"] == [{"row": 1, "proxy": "test-half", "reason": reason}]
    assert f"failed: 311 test-half: {reason}" in cli.done(line, file)


def test_score_refuses(cli: Cli, tmp_path: Path) -> None:
    line = "score --space resnet-cifar-s0 --data digits --batch-size 8"
    assert "no.txt" in cli.refused(line, tmp_path / "no.txt")
    file = tmp_path / "archs.txt"
    for text, message in ((b"", "lists no architecture"), (b"\xff\xfe", "cannot read")):
        file.write_bytes(text)
        assert message in cli.refused(line, file)
    for text in ("112", "11", "x", "1111", "1-1-1"):
        file.write_text(f"111\n{text}\n")
        assert f"archs.txt, line 2, {text!r}: " in cli.refused(line, file)
    assert "archs.txt" in cli.refused(line, file / "below")


def test_report(cli: Cli, run_copy: Path) -> None:
    before = contents(run_copy)
    (run_copy / "report.html").unlink()
    assert "best student: " in cli.done("report", run_copy)
    assert json.loads(cli.done("report --json", run_copy))["evaluations"] == 6
    assert contents(run_copy).keys() == before.keys()
    for name in before.keys() - {"report.html"}:
        assert contents(run_copy)[name] == before[name]


# ---------------------------------------------------------------------- bad words


WORDS = [
    ("", "Usage: scholarch"),
    ("foo", "No such command 'foo'"),
    ("search", "Missing option '"),
    ("search --space resnet-cifar", "Missing option '--data'"),
    ("search --space resnet-cifar --data digits", "Missing option '--out'"),
    ("score", "Missing argument 'file'"),
    ("report", "Missing argument 'folder'"),
    ("list", "Missing argument 'what'"),
    ("list space", "did you mean spaces"),
    ("list spaces a b c", "unexpected extra argument"),
    ("search --evalutions 5", "--evaluations"),
    ("--verbose", "No such option: --verbose"),
    (f"{S0} --out X --evaluations five", "'--evaluations'"),
    (f"{S0} --out X --evaluations 1.5", "'--evaluations'"),
    (f"{S0} --out X --evaluations", "requires an argument"),
    (f"{S0} --out X --seed x", "'--seed'"),
]


@pytest.mark.parametrize(("line", "message"), WORDS)
def test_usage_errors_are_one_plain_line(line: str, message: str, cli: Cli) -> None:
    code, out, err = cli(line)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
    assert not set(err) & set(BOXES)
    if line:  # without a word: the help
        assert len(err.splitlines()) == 1
        assert err.startswith("error: ")


VALUES = [
    ("--space resnet-cifr", "unknown space 'resnet-cifr'; did you mean resnet-cifar"),
    ("--data digit", "unknown data set 'digit'; did you mean digits"),
    ("--data no/such/folder", "data 'no/such/folder' does not exist"),
    ("--data none.npz", "data file 'none.npz' does not exist"),
    ("--teacher resnet56-cifar11", "unknown teacher 'resnet56-cifar11'; did you mean resnet56-c"),
    ("--teacher resnet56-cifar10", "--weights"),
    ("--teacher none.pth", "none.pth"),
    ("--weights none.pth", "none.pth"),
    ("--searcher nsga", "unknown searcher 'nsga'; did you mean nsga2"),
    ("--proxy naswat", "unknown proxy 'naswat'; did you mean naswot"),
    ("--proxy ensemble --proxy naswot", "'ensemble' is a combination already"),
    ("--max-params -5", "budget for params: '-5' is no amount"),
    ("--max-params 0", "budget for params: '0' is no amount"),
    ("--max-macs nan", "budget for macs: 'nan' is no amount"),
    ("--max-macs many", "budget for macs: 'many' is no amount"),
    ("--max-flops 1e999", "budget for flops: '1e999' is no amount"),
    ("--max-params 78041", "has params ≤ 78,041; its smallest at 32×32 are: params 78,042, macs"),
    ("--evaluations 0", "evaluations = 0; need a whole number of at least 1"),
    ("--evaluations -3", "evaluations = -3;"),
    ("--seed -1", "seed -1; need a whole number of at least 0"),
    ("--seed 9223372036854775808", "seed = 9223372036854775808; need"),
    ("--batch-size 0", "batch size 0; need"),
    ("--batch-size 1", "batch size 1; need"),
    ("--batch-size 100000", "batch size 100000 exceeds the 1295 training images of 'digits'"),
    ("--tap final", "--tap 'final'; write ROLE=MODULE"),
    ("--tap final=nowhere", "nowhere"),
    ("--teacher resnet56-cifar10 --untrained --weights x.pth", "exclude each other"),
]


@pytest.mark.parametrize(("words", "message"), VALUES)
@pytest.mark.parametrize("how", ["", "--json", "--quiet"])
def test_bad_values_are_named(words: str, message: str, how: str, cli: Cli, tmp_path: Path) -> None:
    """Nothing is made, whichever way the output goes."""
    assert message in cli.refused(f"{S0} {words} {how}", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_out_that_cannot_be(cli: Cli, tmp_path: Path) -> None:
    line = f"{S0} --proxy params"
    (tmp_path / "file").write_text("mine")
    assert "cannot make the folder" in cli.refused(line, "--out", tmp_path / "file")
    assert "cannot make the folder" in cli.refused(line, "--out", tmp_path / "file" / "run")
    assert "too long" in cli.refused(line, "--out", tmp_path / ("x" * 300))
    assert "is not empty (file)" in cli.refused(line, "--out", tmp_path)
    assert (tmp_path / "file").read_text() == "mine"


def test_report_of_what_is_no_run(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path, tmp_path / "none", tmp_path / "file"):
        assert cli.refused("report", folder) == f"error: no run in {folder}: run.json is missing"


def test_other_settings_and_fewer_evaluations(cli: Cli, run_copy: Path) -> None:
    before = contents(run_copy)
    refusal = cli.refused(f"{S0} --proxy params --seed 1", "--out", run_copy)
    assert "seed: 0 there, 1 here" in refusal
    refusal = cli.refused(f"{S0} --proxy params --evaluations 5", "--out", run_copy)
    assert "holds a run of 6 evaluations, 5 are fewer" in refusal
    assert contents(run_copy) == before
    cli.done(f"{S0} --proxy params --evaluations 7 --quiet", "--out", run_copy)


# ---------------------------------------------------------------------- bad files


class Payload:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("suffix", ["pth", "pt", "th", "pkl", "bin", "safetensors"])
@pytest.mark.parametrize("option", ["--weights", "--teacher"])
@pytest.mark.parametrize("kind", ["pickle", "torch", "old torch"])
def test_a_pickle_is_never_executed(
    suffix: str, option: str, kind: str, cli: Cli, tmp_path: Path
) -> None:
    file, trace = tmp_path / f"weights.{suffix}", tmp_path / "executed"
    if kind == "pickle":
        file.write_bytes(pickle.dumps({"fc.weight": Payload(trace)}))
    else:
        zipped = kind == "torch"
        torch.save({"fc.weight": Payload(trace)}, file, _use_new_zipfile_serialization=zipped)
    name = "--teacher resnet20-cifar10" if option == "--weights" else ""
    refusal = cli.refused(f"{S0} {name} {option}", file, "--out", tmp_path / "run")
    assert str(file) in refusal
    assert not trace.exists()
    assert not (tmp_path / "run").exists()


def bad_weights(path: Path, how: str) -> Path:
    good = {"a.weight": torch.zeros(2, 2)}
    if how == "empty":
        path.touch()
    elif how == "text":
        path.write_text("no weights at all\n")
    elif how == "folder":
        path.mkdir()
    elif how == "cut":
        torch.save({"a": torch.zeros(1000)}, path)
        path.write_bytes(path.read_bytes()[:700])
    elif how == "another network":
        torch.save(good, path)
    elif how == "another network, safetensors":
        path = path.with_suffix(".safetensors")
        save_file(good, path)
    elif how == "a number":
        torch.save(5, path)
    elif how == "a zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a", "b")
    return path


WEIGHTS = [
    "empty", "text", "folder", "cut", "another network", "another network, safetensors",
    "a number", "a zip",
]  # fmt: skip


@pytest.mark.parametrize("how", WEIGHTS)
def test_corrupt_checkpoints(how: str, cli: Cli, tmp_path: Path) -> None:
    file = bad_weights(tmp_path / "weights.pth", how)
    for words in ("--teacher resnet20-cifar10 --weights", "--weights", "--teacher"):
        refusal = cli.refused(f"{S0} {words}", file, "--out", tmp_path / "run")
        assert str(file) in refusal
    assert not (tmp_path / "run").exists()


def images(n: int, side: int = 8) -> Any:
    return np.random.default_rng(0).integers(0, 256, size=(n, side, side, 3), dtype=np.uint8)


def bad_data(folder: Path, how: str) -> Path:
    file = folder / "data.npz"
    labels = np.arange(40) % 4
    if how == "empty folder":
        (folder / "data").mkdir()
        return folder / "data"
    if how == "class folders without images":
        (folder / "data" / "cats").mkdir(parents=True)
        return folder / "data"
    if how == "no image":
        (folder / "data" / "cats").mkdir(parents=True)
        (folder / "data" / "cats" / "a.png").write_text("no image")
        return folder / "data"
    np.savez(file, x_train=images(40), y_train=labels)
    if how == "cut":
        file.write_bytes(file.read_bytes()[:2000])
    elif how == "flipped":
        whole = bytearray(file.read_bytes())
        whole[1500] ^= 255
        file.write_bytes(whole)
    elif how == "empty file":
        file.write_bytes(b"")
    elif how == "other names":
        np.savez(file, images=images(40))
    elif how == "no labels":
        np.savez(file, x_train=images(40))
    elif how == "fewer labels":
        np.savez(file, x_train=images(40), y_train=labels[:30])
    elif how == "negative labels":
        np.savez(file, x_train=images(40), y_train=labels - 1)
    elif how == "no images":
        np.savez(file, x_train=images(0), y_train=labels[:0])
    elif how == "objects":
        np.savez(file, x_train=images(40), y_train=np.array([Payload(folder / "executed")] * 40))
    elif how == "floats beyond one":
        np.savez(file, x_train=images(40).astype(np.float32), y_train=labels)
    return file


DATA = [
    "empty folder", "class folders without images", "no image", "cut", "flipped", "empty file",
    "other names", "no labels", "fewer labels", "negative labels", "no images", "objects",
    "floats beyond one",
]  # fmt: skip


@pytest.mark.parametrize("how", DATA)
def test_bad_data(how: str, cli: Cli, tmp_path: Path) -> None:
    data = bad_data(tmp_path, how)
    line = "search --space resnet-cifar-s0 --batch-size 8 --evaluations 6 --proxy params"
    refusal = cli.refused(line, "--data", data, "--out", tmp_path / "run")
    assert "data" in refusal
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "executed").exists()


def test_good_data_of_other_shapes(cli: Cli, tmp_path: Path) -> None:
    line = "search --space resnet-cifar-s0 --batch-size 8 --evaluations 3 --quiet --proxy naswot"
    np.savez(tmp_path / "a.npz", x_train=images(60, 12), y_train=np.arange(60) % 3)
    cli.done(line, "--data", tmp_path / "a.npz", "--out", tmp_path / "a")
    settings = json.loads((tmp_path / "a" / "run.json").read_text())["settings"]
    assert settings["space"]["resolution"] == 12
    assert settings["teacher"] is None
    assert settings["space"]["num_classes"] == 3
    for half, name in enumerate(("cats", "dogs")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i, image in enumerate(images(40, 16)[half::2]):
            Image.fromarray(image).save(tmp_path / "pets" / name / f"{i}.png")
    cli.done(line, "--data", tmp_path / "pets", "--out", tmp_path / "b")
    settings = json.loads((tmp_path / "b" / "run.json").read_text())["settings"]
    assert settings["space"]["num_classes"] == 2
    refusal = cli.refused(line.replace("--proxy naswot", ""), "--data", tmp_path / "pets",
                          "--out", tmp_path / "c")  # fmt: skip
    assert "no teacher for 'pets': give --teacher" in refusal
    refusal = cli.refused(line, "--data", tmp_path / "pets", "--weights", tmp_path / "a.npz",
                          "--out", tmp_path / "c")  # fmt: skip
    assert "name it with --teacher" in refusal


def test_a_teacher_of_other_classes(cli: Cli, tmp_path: Path) -> None:
    line = f"{S0} --teacher resnet20-cifar100 --untrained"
    text = cli.done(f"{line} --proxy expr", "--out", tmp_path / "a")
    assert "diswot-semantic is left out: the teacher tells 100 classes apart" in text
    refusal = cli.refused(f"{line} --proxy diswot", "--out", tmp_path / "b")
    assert "proxy 'diswot' is not defined here" in refusal


# ---------------------------------------------------------------------- a store in trouble


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def quickly(*args: object, timeout: float = 5.0, **options: object) -> sqlite3.Connection:
        return connect(*args, timeout=min(timeout, 0.1), **options)

    monkeypatch.setattr(store_module.sqlite3, "connect", quickly)


@pytest.mark.usefixtures("_impatient")
def test_a_locked_store(cli: Cli, run_copy: Path) -> None:
    before = contents(run_copy)
    with closing(sqlite3.connect(run_copy / "candidates.sqlite", isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        refusal = cli.refused(f"{S0} --proxy params --evaluations 9", "--out", run_copy)
    assert "candidates.sqlite: database is locked; another process holds it" in refusal
    assert contents(run_copy) == before
    cli.done(f"{S0} --proxy params --evaluations 9 --quiet", "--out", run_copy)


@pytest.mark.parametrize("how", ["garbage", "cut", "text", "zeros inside"])
def test_a_damaged_store(how: str, cli: Cli, run_copy: Path) -> None:
    path = run_copy / "candidates.sqlite"
    whole = path.read_bytes()
    path.write_bytes(
        {
            "garbage": b"\x17" * len(whole),
            "cut": whole[: len(whole) // 2],
            "text": b"arch,score\n",
            "zeros inside": whole[:4096] + bytes(len(whole) - 4096),
        }[how]
    )
    before = contents(run_copy)
    for line in (
        ["report", str(run_copy)],
        [*S0.split(), "--proxy", "params", "--out", str(run_copy)],
    ):
        refusal = cli.refused(line)
        assert str(path) in refusal
        assert "move the folder away" in refusal
    assert contents(run_copy) == before


def test_a_missing_store(cli: Cli, run_copy: Path) -> None:
    before = (run_copy / "pareto.csv").read_bytes()
    (run_copy / "candidates.sqlite").unlink()
    assert "no run store at" in cli.refused("report", run_copy)
    cli.done(f"{S0} --proxy params --quiet", "--out", run_copy)
    assert (run_copy / "pareto.csv").read_bytes() == before


@pytest.mark.parametrize("kilobytes", [1, 12, 40, 64, 400])
def test_a_full_disk(kilobytes: int, fork: Fork, finished: Path, tmp_path: Path) -> None:
    """No file may grow beyond a limit: store, front, student and report fail in turn."""
    words = [*S0.split(), "--proxy", "params", "--out", str(tmp_path / "run")]

    def limited(line: list[str]) -> Callable[[], int]:
        def action() -> int:
            # Not what the child itself prints: that goes to files as well.
            resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, resource.RLIM_INFINITY))
            return main(line)

        return action

    child = fork(limited([*words, "--quiet"]))
    code, out, err = child.wait()
    assert out == ""
    if code != 0:
        assert code == 2, err
        plain(err)
        assert "free space" in err
        assert str(tmp_path) in err
    if (tmp_path / "run").exists():
        assert not list((tmp_path / "run").rglob("*.partial"))
    # An earlier run is left as it was.
    earlier = Path(shutil.copytree(finished, tmp_path / "earlier"))
    before = contents(earlier)
    line = [*S0.split(), "--proxy", "params", "--evaluations", "64", "--out", str(earlier)]
    second, _, _ = fork(limited([*line, "--quiet"])).wait()
    assert second in (0, 2)
    if second == 2:
        assert contents(earlier)["pareto.csv"] == before["pareto.csv"] or kilobytes >= 8
        assert main(["report", str(earlier), "--quiet"]) == 0
    # With room again, both go on.
    assert main([*words, "--quiet"]) == 0
    assert (tmp_path / "run" / "pareto.csv").read_bytes() == before["pareto.csv"]
    assert main([*line, "--quiet"]) == 0
    assert len(scholarch.SearchResult.load(earlier).candidates) == 64


def test_a_full_disk_at_the_commit(fork: Fork, tmp_path: Path) -> None:
    """Groups that were committed stay; the one that did not fit is scored again."""
    words = [*S0.split(), "--proxy", "params", "--evaluations", "64", "--quiet", "--out"]
    assert main([*words, str(tmp_path / "whole")]) == 0

    def action() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50 * 1024, resource.RLIM_INFINITY))
        return main([*words, str(tmp_path / "run")])

    code, _, err = fork(action).wait()
    assert code == 2
    assert "candidates.sqlite: " in err
    assert main([*words, str(tmp_path / "run")]) == 0
    for name in ("pareto.csv", "student/model.safetensors"):
        whole, run = tmp_path / "whole" / name, tmp_path / "run" / name
        assert whole.read_bytes() == run.read_bytes()


@pytest.mark.parametrize("write", range(8))
def test_a_disk_full_at_each_file(
    write: int, cli: Cli, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``run.json``, the front, the student's files, the report, ``run.json`` again."""
    writes = 0

    def fsync(descriptor: int) -> None:
        nonlocal writes
        writes += 1
        if writes == write + 1:
            raise OSError(errno.ENOSPC, "No space left on device")

    line = f"{S0} --proxy params --quiet"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        refusal = cli.refused(line, "--out", tmp_path)
    student = ("model.safetensors", "model.py", "README.md", "config.json")
    name = ("run.json", "pareto.csv", *student, "report.html")[write % 7]
    assert f"cannot write {tmp_path}" in refusal
    assert f"{name}: No space left on device; free space" in refusal
    assert not list(tmp_path.rglob("*.partial"))
    cli.done(line, "--out", tmp_path)
    assert contents(tmp_path).keys() == contents(finished).keys()
    assert (tmp_path / "pareto.csv").read_bytes() == (finished / "pareto.csv").read_bytes()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a Linux device")
def test_stdout_on_a_full_disk(fork: Fork) -> None:
    def action() -> int:
        sys.stdout = open("/dev/full", "w", encoding="utf-8")  # noqa: SIM115
        return main(["list", "proxies"])

    code, _, err = fork(action).wait()
    assert (code, err) == (2, "error: No space left on device\n")


def test_a_broken_pipe(fork: Fork, run_copy: Path) -> None:
    for line in (["list", "proxies"], ["list", "teachers", "--json"], ["report", str(run_copy)]):

        def action(line: list[str] = line) -> int:
            reader, writer = os.pipe()
            os.close(reader)
            os.dup2(writer, 1)
            return main(line)

        code, _, err = fork(action).wait()
        assert code in (0, 1)
        assert err == ""


def test_a_folder_without_rights(fork: Fork) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)

        def action(out: Path) -> int:
            if os.getuid() == 0:  # to whom rights do not apply
                os.setgid(65534)
                os.setuid(65534)
            return main([*S0.split(), "--proxy", "params", "--out", str(out)])

        for out, message in ((folder, "cannot write to"), (folder / "a", "cannot make the folder")):
            code, printed, err = fork(lambda out=out: action(out)).wait()  # type: ignore[misc]
            assert (code, printed) == (2, "")
            plain(err)
            assert message in err
            assert "ermission denied" in err
        folder.chmod(0o755)


def test_a_terminal_without_unicode(fork: Fork, run_copy: Path) -> None:
    def action() -> int:
        sys.stdout = open(1, "w", encoding="ascii", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="ascii", closefd=False, buffering=1)  # noqa: SIM115
        code = main(["report", str(run_copy)])
        assert main([*S0.split(), "--space", "é", "--out", "x"]) == 2
        return code

    code, out, err = fork(action).wait()
    assert code == 0, err
    assert "best student: " in out
    assert "unknown space '\\xe9'" in err
