"""A run that is killed, interrupted or met by another goes on as if nothing had been."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from scholarch.cli import main

Fork = Callable[[Callable[[], int]], Any]
Row = tuple[Any, ...]


def words(out: Path, *more: str) -> list[str]:
    """A search of two seconds: every proxy that is not slow, so that a kill finds it scoring."""
    line = (
        "search --space resnet-cifar --data digits --batch-size 8 --max-macs 40M"
        " --evaluations 100 --seed 5 --proxy expr --proxy naswot --proxy macs"
    )
    return [*shlex.split(line), "--out", str(out), *more]


def stored(folder: Path) -> set[Row]:
    path = folder / "candidates.sqlite"
    if not path.exists():
        return set()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        if not database.execute("SELECT 1 FROM sqlite_master").fetchone():
            return set()  # killed before the schema
        return set(database.execute("SELECT * FROM scores"))


def watch(folder: Path) -> set[Row]:
    """What is stored while a run goes on; nothing where it is just beginning."""
    path = folder / "candidates.sqlite"
    if not path.exists():
        return set()
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        try:
            return set(database.execute("SELECT * FROM scores"))
        except sqlite3.OperationalError:
            return set()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    assert main(words(out, "--quiet")) == 0
    return out


def as_undisturbed(out: Path, undisturbed: Path) -> None:
    assert (out / "pareto.csv").read_bytes() == (undisturbed / "pareto.csv").read_bytes()
    assert stored(out) == stored(undisturbed)
    for name in ("config.json", "model.safetensors"):
        path = Path("student") / name
        assert (out / path).read_bytes() == (undisturbed / path).read_bytes()
    assert {path.name for path in out.iterdir()} == {path.name for path in undisturbed.iterdir()}
    assert json.loads((out / "run.json").read_text())["finished"] is True


@pytest.mark.parametrize("seed", range(2))
def test_kill_9_at_random_several_times_in_a_row(
    seed: int, fork: Fork, undisturbed: Path, tmp_path: Path
) -> None:
    rng = random.Random(seed)
    out = tmp_path / "run"
    rows: set[Row] = set()
    kills = 0
    for _ in range(5):
        child = fork(lambda: main(words(out)))
        time.sleep(rng.uniform(0.0, 1.2))
        before = watch(out)
        child.kill(signal.SIGKILL)
        code, printed, _ = child.wait()
        now = stored(out)
        assert rows <= before <= now, "a stored row was lost or rewritten"
        # Groups are whole: three scores a candidate, and the reference sample at once.
        per_candidate = len(now) / max(1, len({row[0] for row in now}))
        assert per_candidate in (0.0, 5.0)
        assert len(now) == 0 or len(now) >= 5 * 64
        rows = now
        kills += code == -signal.SIGKILL
        assert code in (0, -signal.SIGKILL), printed
    assert kills
    assert fork(lambda: main(words(out, "--quiet"))).wait() == (0, "", "")
    assert rows <= stored(out)
    as_undisturbed(out, undisturbed)


def test_kill_9_at_each_step_of_the_beginning(fork: Fork, tmp_path: Path) -> None:
    """Where the folder, its lock, run.json and the store come into being."""
    brief = (
        "search --space resnet-cifar-s0 --data digits --batch-size 8 --evaluations 4 --proxy macs"
    )
    runs = [[*brief.split(), "--quiet", "--out", str(tmp_path / str(i))] for i in range(9)]
    assert fork(lambda: main(runs[8])).wait() == (0, "", "")
    for i in range(8):
        out = tmp_path / str(i)
        child = fork(lambda i=i: main(runs[i]))  # type: ignore[misc]
        deadline = time.monotonic() + 20
        step = (".lock", "run.json", "candidates.sqlite", "candidates.sqlite-wal")[i % 4]
        while not (out / step).exists() and time.monotonic() < deadline:
            time.sleep(0.0005)
        time.sleep(0.002 * (i // 4))
        child.kill(signal.SIGKILL)
        child.wait()
        assert fork(lambda i=i: main(runs[i])).wait() == (0, "", "")  # type: ignore[misc]
        assert (out / "pareto.csv").read_bytes() == (tmp_path / "8" / "pareto.csv").read_bytes()


@pytest.mark.parametrize("signals", [1, 3])
def test_ctrl_c(signals: int, fork: Fork, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    child = fork(lambda: main(words(out, "--quiet")))
    while not watch(out):
        time.sleep(0.01)
    for _ in range(signals):
        child.kill(signal.SIGINT)
    code, printed, err = child.wait()
    assert (code, printed) == (130, "")
    (line,) = err.splitlines()
    assert line == f"stopped; what was scored is kept in {out}. Run the same command to go on."
    rows = stored(out)
    assert rows
    assert fork(lambda: main(words(out, "--quiet"))).wait() == (0, "", "")
    assert rows <= stored(out)
    as_undisturbed(out, undisturbed)


def test_sigterm(fork: Fork, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    child = fork(lambda: main(words(out, "--quiet")))
    while not watch(out):
        time.sleep(0.01)
    child.kill(signal.SIGTERM)
    code, printed, err = child.wait()
    assert code in (-signal.SIGTERM, 143)
    assert "Traceback" not in printed + err
    assert main(words(out, "--quiet")) == 0
    as_undisturbed(out, undisturbed)


def test_two_processes_in_one_folder(fork: Fork, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = fork(lambda: main(words(out, "--quiet")))
    while not watch(out):
        time.sleep(0.01)
    first.kill(signal.SIGSTOP)
    code, printed, err = fork(lambda: main(words(out))).wait()
    assert (code, printed) == (2, "")
    assert err == f"error: another run is writing to {out}; wait for it, or choose another --out\n"
    # Reading is no writing.
    code, printed, _ = fork(lambda: main(["report", str(out), "--json"])).wait()
    assert code in (0, 2)
    first.kill(signal.SIGCONT)
    assert first.wait() == (0, "", "")
    as_undisturbed(out, undisturbed)


@pytest.mark.slow
def test_a_real_process(undisturbed: Path, tmp_path: Path) -> None:
    """Through the installed command: interrupted, then finished from another working folder.

    The same bytes with other hash seeds and thread counts.
    """
    script = Path(sys.executable).with_name("scholarch")
    out = tmp_path / "run"

    def start(folder: Path, hashes: int) -> subprocess.Popen[str]:
        variables = {"PYTHONHASHSEED": str(hashes), "OMP_NUM_THREADS": str(1 + hashes)}
        return subprocess.Popen(
            [str(script), *words(Path(os.path.relpath(out, folder)))],
            cwd=folder,
            env=os.environ | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    process = start(tmp_path, 0)
    while not watch(out) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    printed, err = process.communicate()
    assert (process.returncode, printed) == (130, "")
    last = err.splitlines()[-1]
    assert last == "stopped; what was scored is kept in run. Run the same command to go on."
    assert "Traceback" not in err
    rows = stored(out)
    assert rows
    process = start(Path.cwd(), 1)
    printed, err = process.communicate()
    assert process.returncode == 0, err
    assert "best student: " in printed
    assert rows <= stored(out)
    as_undisturbed(out, undisturbed)
