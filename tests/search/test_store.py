"""The store keeps what it was given, whole groups only, and says so when it cannot."""

from __future__ import annotations

import math
import os
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from scholarch.proxies.scoring import CandidateScore
from scholarch.search import store as store_module
from scholarch.search.store import RunStore, ScoreKey, StoreError
from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.factory import create_space

SPACE = create_space("resnet-cifar-s0")
ARCHS = SPACE.decode(SPACE.enumerate_matrix())
KEY: ScoreKey = ("expr", 1, "teacher", "batch", 0)
OTHER: ScoreKey = ("macs", 2, "", "batch", 0)

Row = tuple[Architecture, dict[str, float], dict[ScoreKey, CandidateScore]]


def row(arch: Architecture, value: float = 1.0, failure: str | None = None) -> Row:
    costs = {name: float(column[0]) for name, column in SPACE.cost([arch]).items()}
    scores = {KEY: CandidateScore(value, failure), OTHER: CandidateScore(costs["macs"])}
    return arch, costs, scores


def fill(path: Path, archs: list[Architecture] = ARCHS[:6]) -> None:
    with closing(RunStore(path)) as store:
        store.add([row(arch, i + 0.1) for i, arch in enumerate(archs)])
        store.record("reference", archs[:2])
        store.record("evaluations", archs)


def rows_of(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT * FROM scores ORDER BY arch, proxy").fetchall()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five seconds of waiting for a lock are too long for a test."""
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def quickly(*args: object, timeout: float = 5.0, **options: object) -> sqlite3.Connection:
        return connect(*args, timeout=min(timeout, 0.1), **options)

    monkeypatch.setattr(store_module.sqlite3, "connect", quickly)


def test_the_schema_is_as_documented(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    fill(path)
    with closing(sqlite3.connect(path)) as database:
        columns = [name for _, name, *_ in database.execute("PRAGMA table_info(scores)")]
        (mode,) = database.execute("PRAGMA journal_mode").fetchone()
    assert columns == [
        "arch", "proxy", "proxy_version", "teacher", "batch", "seed", "value", "failure",
    ]  # fmt: skip
    assert mode == "wal"
    rows = rows_of(path)
    assert len(rows) == 12  # one a candidate and proxy
    assert {row[:6] for row in rows} == {(a.key, *key) for a in ARCHS[:6] for key in (KEY, OTHER)}


@pytest.mark.parametrize("value", [0.1 + 0.2, -1e-300, 5e-324, 1e308, 12501632.0])
def test_values_come_back_bit_for_bit(value: float) -> None:
    with closing(RunStore(":memory:")) as store:
        store.add([row(ARCHS[0], value)])
        back = store.scores([ARCHS[0].key], [KEY])[ARCHS[0].key][KEY]
    assert back.value.hex() == value.hex()
    assert back.failure is None


def test_failures_come_back_with_their_reason() -> None:
    with closing(RunStore(":memory:")) as store:
        store.add([row(ARCHS[0], math.nan, "out of memory: 'x'; -- é")])
        back = store.scores([ARCHS[0].key], [KEY])[ARCHS[0].key][KEY]
    assert math.isnan(back.value)
    assert back.failure == "out of memory: 'x'; -- é"


def test_only_the_scores_asked_for_come_back() -> None:
    with closing(RunStore(":memory:")) as store:
        store.add([row(ARCHS[0])])
        for i in range(5):
            other = tuple("x" if j == i and isinstance(k, str) else 9 if j == i else k
                          for j, k in enumerate(KEY))  # fmt: skip
            assert store.scores([ARCHS[0].key], [other]) == {}  # type: ignore[list-item]
        assert store.scores([ARCHS[1].key], [KEY]) == {}
        assert set(store.scores([ARCHS[0].key], [KEY, OTHER])[ARCHS[0].key]) == {KEY, OTHER}


def test_candidates_come_back_in_order(tmp_path: Path) -> None:
    order = [ARCHS[i] for i in (5, 3, 60, 1)]
    fill(tmp_path / "s.sqlite", order)
    with closing(RunStore(tmp_path / "s.sqlite")) as store:
        store.record("evaluations", [ARCHS[3], ARCHS[60]])  # those already there stay
        assert [arch for arch, _ in store.candidates("evaluations")] == order
        assert [arch for arch, _ in store.candidates("reference")] == order[:2]
        assert store.count() == 4
        assert store.count("reference") == 2
        for arch, costs in store.candidates("evaluations"):
            assert costs == row(arch)[1]


def test_the_same_row_is_never_written_twice(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    fill(path)
    before = rows_of(path)
    with closing(RunStore(path)) as store, pytest.raises(StoreError, match="UNIQUE"):
        store.add([row(ARCHS[10]), row(ARCHS[0], 7.0)])
    assert rows_of(path) == before  # and with it the whole group


def test_a_group_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    fill(path)
    before = rows_of(path)
    with closing(RunStore(path)) as store:

        def group():  # type: ignore[no-untyped-def]
            yield row(ARCHS[10])
            yield row(ARCHS[11])
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store.add(group())  # type: ignore[arg-type]
        assert store.scores([ARCHS[10].key], [KEY]) == {}
        store.add([row(ARCHS[10])])  # and the store goes on
    assert len(rows_of(path)) == len(before) + 2


def test_survives_kill_9_amid_a_transaction(
    tmp_path: Path, fork: Callable[[Callable[[], int]], Any]
) -> None:
    path = tmp_path / "s.sqlite"
    fill(path)

    def die() -> int:
        store = RunStore(path)
        store.add([row(arch) for arch in ARCHS[20:25]])
        store._db.execute("BEGIN IMMEDIATE")
        store._db.execute("DELETE FROM scores")
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    assert fork(die).wait() == (-9, "", "")
    for readonly in (True, False):
        with closing(RunStore(path, readonly=readonly)) as store:
            assert store.count() == 6
            assert len(store.scores([a.key for a in ARCHS], [KEY])) == 11


def test_a_reader_sees_a_run_that_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    fill(path)
    with closing(RunStore(path)) as writer:
        writer.add([row(ARCHS[20])])
        with closing(RunStore(path, readonly=True)) as reader:
            assert reader.scores([ARCHS[20].key], [KEY])
            with pytest.raises(StoreError, match="readonly"):
                reader.add([row(ARCHS[21])])


def test_serialized_bytes_are_a_store(tmp_path: Path) -> None:
    fill(tmp_path / "s.sqlite")
    with closing(RunStore(tmp_path / "s.sqlite")) as store:
        (tmp_path / "copy.sqlite").write_bytes(store.serialize())
    assert rows_of(tmp_path / "copy.sqlite") == rows_of(tmp_path / "s.sqlite")
    with closing(RunStore(tmp_path / "copy.sqlite")) as copy:
        assert copy.count() == 6


# ---------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("begin", ["BEGIN EXCLUSIVE", "BEGIN IMMEDIATE"])
def test_locked(begin: str, tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    fill(path)
    before = rows_of(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute(begin)
        with pytest.raises(StoreError, match="locked; another process holds it; wait for that"):
            RunStore(path)
    with closing(RunStore(path)) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as holder:
            holder.execute(begin)
            with pytest.raises(StoreError, match="locked"):
                store.add([row(ARCHS[20])])
        assert store.count() == 6
    assert rows_of(path) == before


def damage(path: Path, how: str) -> None:
    whole = path.read_bytes()
    if how == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "cut short":
        path.write_bytes(whole[:-100])
    elif how == "garbage":
        path.write_bytes(b"\x00garbage" * 1000)
    elif how == "text":
        path.write_text("arch,score\n")
    elif how == "holes":
        path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    elif how == "another database":
        path.unlink()
        with closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE scores(x)")
    elif how == "folder":
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize(
    "how", ["truncated", "cut short", "garbage", "text", "holes", "another database", "folder"]
)
@pytest.mark.parametrize("readonly", [False, True])
def test_damaged(how: str, readonly: bool, tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    fill(path, ARCHS)
    damage(path, how)

    def use() -> None:
        with closing(RunStore(path, readonly=readonly)) as store:
            store.scores([ARCHS[0].key], [KEY])
            store.candidates("evaluations")
            store.add([row(ARCHS[0])])

    with pytest.raises(StoreError) as caught:
        use()
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith((f"{path}: ", f"no run store at {path}"))


def test_an_empty_file_is_a_new_store(tmp_path: Path) -> None:
    (tmp_path / "s.sqlite").touch()
    fill(tmp_path / "s.sqlite")


def test_rows_edited_to_nonsense(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    fill(path)
    for column, value in (("choices", "5"), ("choices", "{"), ("costs", "nope")):
        with closing(sqlite3.connect(path)) as database, database:
            database.execute(f"UPDATE candidates SET {column} = ?", (value,))
        with closing(RunStore(path)) as store, pytest.raises(StoreError, match="damaged"):
            store.candidates("evaluations")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DELETE FROM candidates")
    with closing(RunStore(path)) as store, pytest.raises(StoreError, match="damaged"):
        store.candidates("evaluations")


@pytest.mark.parametrize("lost", [("-wal",), ("-shm",), ("-wal", "-shm")])
def test_a_deleted_log_loses_what_it_held_and_no_more(
    lost: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "s.sqlite"
    fill(path)  # closed: folded into the file
    with closing(RunStore(path)) as store:
        store.add([row(ARCHS[20])])  # in the log alone
        copy = tmp_path / "copy"
        copy.mkdir()
        for suffix in {"", "-wal", "-shm"} - set(lost):
            shutil.copy(f"{path}{suffix}", copy / f"s.sqlite{suffix}")
    with closing(RunStore(copy / "s.sqlite")) as store:
        assert store.count() == 6
        assert len(store.scores([ARCHS[20].key], [KEY])) == (0 if "-wal" in lost else 1)
        store.scores([], [])
        if "-wal" in lost:
            store.add([row(ARCHS[20])])


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no run store at .*; is this the folder of a run"):
        RunStore(tmp_path / "s.sqlite", readonly=True)
    assert not (tmp_path / "s.sqlite").exists()
    with pytest.raises(StoreError, match="unable to open database file; free space or rights"):
        RunStore(tmp_path / "no" / "folder" / "s.sqlite")


@pytest.mark.skipif(os.name != "posix", reason="rights are those of POSIX")
def test_a_read_only_folder_can_be_read(fork: Callable[[Callable[[], int]], Any]) -> None:
    def read(path: Path) -> int:
        if os.getuid() == 0:  # to whom rights do not apply
            os.setgid(65534)
            os.setuid(65534)
        with pytest.raises(StoreError, match="free space or rights there"):
            RunStore(path)
        with closing(RunStore(path, readonly=True)) as store:
            return store.count()

    with tempfile.TemporaryDirectory() as name:  # pytest's own are for its user alone
        folder = Path(name)
        fill(folder / "s.sqlite")
        (folder / "s.sqlite").chmod(0o444)
        folder.chmod(0o555)
        code, _, err = fork(lambda: read(folder / "s.sqlite")).wait()
        folder.chmod(0o755)
    assert (code, err) == (6, "")
