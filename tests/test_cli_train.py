"""The command ``scholarch train`` from end to end, on images of 8×8 pixels."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scholarch
from scholarch.cli import main
from scholarch.supernet.session import BEST, LAST

Fork = Callable[[Callable[[], int]], Any]
Capture = pytest.CaptureFixture[str]

PLUGIN = '''
"""A space that trains in no time, and a schedule."""
from scholarch.searchspace.convnets.resnet_cifar import CifarResNetSpace
from scholarch.searchspace.space import register_space
from scholarch.supernet.schedule import Pass, Phase, Schedule, register_schedule

@register_space("test-small")
def small(name, **options):
    """ResNets of three to six blocks."""
    return CifarResNetSpace(name, (1, 2), ((4, 8), (4, 8), (8, 12), (8, 16)), **options)

@register_schedule("test-random")
def random(*, count: int = 1):
    """Random networks by labels."""
    return Schedule("test-random", (Phase("all", 1.0, (Pass("random", count, labels=1.0),)),))
'''


# One a process: what a plug-in registers stays, and processes may come back to a file.
@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a plug-in and data of four classes."""
    folder = tmp_path_factory.mktemp("train")
    (folder / "plugin.py").write_text(PLUGIN)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 128, (80, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(80) % 4
    images[np.arange(80), labels] = 255
    parts = {"x_train": images[:60], "y_train": labels[:60]}
    parts |= {"x_val": images[60:72], "y_val": labels[60:72]}
    np.savez(folder / "data.npz", **parts, x_test=images[72:], y_test=labels[72:])
    return folder


def words(place: Path, out: Path, *more: str) -> list[str]:
    """Twenty-one steps, unless told."""
    given = ["train", "--plugin", f"{place}/plugin.py", "--data", f"{place}/data.npz"]
    given += ["--out", str(out)]
    defaults = {
        "--space": "test-small",
        "--epochs": "3",
        "--batch-size": "8",
        "--lr": "0.02",
        "--evaluations": "3",
    }
    if "--max-passed-macs" in more and "--epochs" not in more:
        del defaults["--epochs"]
    for name, value in defaults.items():
        given += [] if name in more else [name, value]
    return [*given, "--setting", "calibration=12", *more]


@pytest.fixture(scope="module")
def finished(place: Path) -> Path:
    out = place / "finished"
    assert main(words(place, out, "--quiet")) == 0
    return out


def one_line(capsys: Capture) -> str:
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert printed.out == ""
    return line


def test_table_json_and_nothing(
    place: Path, finished: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    capsys.readouterr()
    assert main(words(place, finished, "--quiet")) == 0
    assert capsys.readouterr() == ("", "")
    assert main(words(place, finished)) == 0
    table = capsys.readouterr().out
    for word in ("smallest", "between1", "largest", "params", "val accuracy", "curves.svg"):
        assert word in table
    assert f"next: scholarch search --supernet {finished} --data {place}/data.npz" in table
    assert main(words(place, finished, "--json")) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["steps"] == 21
    assert told["macs_passed"] > 0
    assert told["seconds"] > 0
    assert list(told["landmarks"]) == ["smallest", "between1", "between2", "largest"]
    mean = np.mean([one["accuracy"] for one in told["landmarks"].values()])
    assert told["best_mean"] == pytest.approx(mean)
    assert all(Path(path).is_file() for path in told["paths"].values())
    assert scholarch.load_supernet(finished).about["next_step"] <= 21


def test_the_command_in_train_json_repeats_the_run(place: Path, finished: Path) -> None:
    line = json.loads((finished / "train.json").read_text())["command"]
    assert line == shlex.join(["scholarch", *words(place, finished, "--quiet")])


def test_other_options(place: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "a"
    more = [
        "--schedule",
        "test-random",
        "--schedule-option",
        "count=2",
        "--max-passed-macs",
        "200M",
    ]
    more += ["--width-mult", "2", "--augment", "none", "--precision", "bfloat16", "--seed", "3"]
    capsys.readouterr()
    assert main(words(place, out, *more, "--setting", "momentum=0.5", "--json")) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["macs_passed"] == pytest.approx(200e6, rel=0.3)
    settings = json.loads((out / "train.json").read_text())["settings"]
    assert settings["options"] == {"count": 2}
    assert (settings["momentum"], settings["precision"], settings["seed"]) == (0.5, "bfloat16", 3)
    assert scholarch.load_supernet(out).space.spec()["width_mult"] == 2.0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_and_gone_on(
    number: int, place: Path, finished: Path, fork: Fork, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    child = fork(lambda: main(words(place, out, "--quiet")))
    deadline = time.monotonic() + 120
    while not (out / LAST).exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    child.kill(number)
    child.kill(number)  # as from a terminal and from torchrun
    code, printed, err = child.wait()
    assert (code, printed) == (130, "")
    again = "Run the same command with --resume to go on."
    assert err == f"stopped; what was trained is kept in {out}. {again}\n"
    told = json.loads((out / "train.json").read_text())
    assert 7 <= told["steps_done"] < 21
    code, printed, err = fork(lambda: main(words(place, out, "--quiet"))).wait()
    assert (code, printed) == (2, "")
    assert err.startswith(f"error: {out} holds an unfinished run")
    assert "--resume" in err
    assert len(err.splitlines()) == 1
    assert fork(lambda: main(words(place, out, "--quiet", "--resume"))).wait() == (0, "", "")
    for name in (BEST, "curves.svg"):
        assert (out / name).read_bytes() == (finished / name).read_bytes()


def test_kill_9(place: Path, finished: Path, fork: Fork, tmp_path: Path) -> None:
    out = tmp_path / "run"
    child = fork(lambda: main(words(place, out, "--quiet")))
    deadline = time.monotonic() + 120
    while not (out / LAST).exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    child.kill(signal.SIGKILL)
    child.wait()
    assert main(words(place, out, "--quiet", "--resume")) == 0
    assert (out / BEST).read_bytes() == (finished / BEST).read_bytes()


def test_two_runs_in_one_folder(place: Path, fork: Fork, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = fork(lambda: main(words(place, out, "--quiet", "--epochs", "200")))
    deadline = time.monotonic() + 120
    while not (out / "train.json").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    first.kill(signal.SIGSTOP)
    code, _, err = fork(lambda: main(words(place, out, "--epochs", "200", "--resume"))).wait()
    assert code == 2
    assert err == f"error: another run is writing to {out}; wait for it, or choose another --out\n"
    first.kill(signal.SIGKILL)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--schedule", "delaid"], "unknown schedule 'delaid'; did you mean delayed"),
        (["--schedule-option", "warmup=2"], "need 0 < ramp < warmup < 1"),
        (["--schedule-option", "warm"], "--schedule-option 'warm'; write NAME=VALUE"),
        (["--lr", "0"], "lr = 0; need a number above 0"),
        (["--lr", "nan"], "lr = nan"),
        (["--epochs", "1", "--max-passed-macs", "2T"], "--epochs 1 and --max-passed-macs 2T both"),
        (["--max-passed-macs", "-1"], "--max-passed-macs: '-1' is no amount"),
        (["--batch-size", "1000"], "batch size 1000 with 60 images"),
        (["--device", "cuda:99"], "device 'cuda:99'"),
        (["--teacher", "resnet14-digits"], "has 10 classes, data 'data' has 4"),
        (["--weights", "w.pt"], "name it with --teacher"),
        (["--data", "nowhere/at/all"], "does not exist"),
        (["--setting", "lr=1"], "--setting lr=… has an option of its own"),
        (["--setting", "nesterov=1"], "unknown training setting 'nesterov'"),
        (["--patience", "2", "--evaluations", "0"], "patience = 2 needs a validation part"),
        (["--space", "test-smal"], "did you mean test-small"),
    ],
)
def test_bad_input_is_one_line(
    more: list[str], said: str, place: Path, tmp_path: Path, capsys: Capture
) -> None:
    capsys.readouterr()
    assert main(words(place, tmp_path / "out", *more)) == 2
    line = one_line(capsys)
    assert line.startswith("error: ")
    assert said in line
    assert not (tmp_path / "out").exists()


def test_other_settings_in_the_same_folder(place: Path, finished: Path, capsys: Capture) -> None:
    for more, said in (
        (["--lr", "0.5"], "lr is 0.02 there and 0.5 here"),
        (["--option", "width_mult=2"], "width_mult is 1.0 there and 2 here"),
        (["--schedule", "sandwich"], "schedule is 'delayed' there and 'sandwich' here"),
    ):
        for resume in ([], ["--resume"]):
            capsys.readouterr()
            assert main(words(place, finished, *more, *resume)) == 2
            line = one_line(capsys)
            assert said in line
            assert "choose another --out" in line


def test_a_loss_that_is_no_number(place: Path, tmp_path: Path, capsys: Capture) -> None:
    capsys.readouterr()
    assert main(words(place, tmp_path / "out", "--lr", "1e6", "--quiet")) == 2
    line = one_line(capsys)
    assert "start again with a smaller lr than 1e+06" in line
    assert main(words(place, tmp_path / "out", "--lr", "1e6", "--resume", "--quiet")) == 2
    assert "smaller" in one_line(capsys)


@pytest.mark.slow
def test_torchrun(place: Path, tmp_path: Path, fork: Fork) -> None:
    """Two processes say one thing, and what they write is what one process computes for two."""
    from scholarch.supernet.world import World
    from scholarch.training import train_supernet

    scholarch.load_plugin(str(place / "plugin.py"))
    runner = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    runner += ["--master-port", "0", "--standalone", "-m", "scholarch"]
    done = subprocess.run(
        [*runner, *words(place, tmp_path / "two")],
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("next: scholarch search") == 1
    train_supernet(
        space="test-small",
        data=str(place / "data.npz"),
        out=tmp_path / "emulated",
        world=World.emulated(2),
        epochs=3.0,
        batch_size=8,
        lr=0.02,
        evaluations=3,
        calibration=12,
    )
    two, one = (scholarch.load_supernet(tmp_path / name) for name in ("two", "emulated"))
    weights = (net.network.state_dict().values() for net in (two, one))
    for a, b in zip(*weights, strict=True):
        assert np.allclose(a.numpy(), b.numpy(), atol=1e-5)

    # Once more, forked: torchrun and its processes take ten seconds to import torch thrice.
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]

    def refused(rank: int) -> int:
        ranks = {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
        os.environ.update(ranks | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)})
        return main(words(place, tmp_path / "two", "--lr", "0.7"))

    ranks = [fork(lambda rank=rank: refused(rank)) for rank in range(2)]  # type: ignore[misc]
    codes, _, errors = zip(*(rank.wait() for rank in ranks), strict=True)
    assert any(codes)
    assert "".join(errors).count("lr is 0.02 there and 0.7 here") == 1
