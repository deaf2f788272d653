"""The run store: every score of a run in one SQLite file that survives ``kill -9``.

One row a candidate and proxy. A group of candidates is committed whole in one transaction;
what a killed run had not committed is scored again, what it had is never scored twice.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..proxies.scoring import CandidateScore
from ..searchspace.architecture import Architecture
from ..searchspace.errors import StoreError

__all__ = ["RunStore", "ScoreKey", "StoreError"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS candidates(
    arch TEXT PRIMARY KEY, space TEXT NOT NULL, choices TEXT NOT NULL, text TEXT NOT NULL,
    costs TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS scores(
    arch TEXT NOT NULL, proxy TEXT NOT NULL, proxy_version INTEGER NOT NULL,
    teacher TEXT NOT NULL, batch TEXT NOT NULL, seed INTEGER NOT NULL,
    value REAL, failure TEXT,
    PRIMARY KEY (arch, proxy, proxy_version, teacher, batch, seed)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reference(ordinal INTEGER PRIMARY KEY, arch TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS evaluations(ordinal INTEGER PRIMARY KEY, arch TEXT NOT NULL UNIQUE);
"""

ScoreKey = tuple[str, int, str, str, int]
"""(proxy, proxy version, teacher, batch, seed): what, beside the candidate, a score hangs on."""


class RunStore:
    """Candidates, their scores, and the order in which they were asked.

    Args:
        path: of the SQLite file; ``":memory:"`` keeps everything in memory.
        readonly: only read; the file has to be there.

    Raises:
        StoreError: if the file is damaged, locked or cannot be written.
    """

    def __init__(self, path: Path | str, *, readonly: bool = False) -> None:
        self.path = path
        if readonly and not Path(path).is_file():
            raise StoreError(f"no run store at {path}; is this the folder of a run?")
        target = _readonly_uri(Path(path)) if readonly else path
        with self._explained():
            self._db = sqlite3.connect(target, uri=readonly, timeout=5.0, isolation_level=None)
        try:
            with self._explained():
                self._open(readonly)
        except BaseException:
            self._db.close()
            raise

    def _open(self, readonly: bool) -> None:
        if readonly:
            self._check()
            return
        self._db.execute("PRAGMA journal_mode=WAL")
        # A commit has to be on the disk, or a power cut could lose a stored row.
        self._db.execute("PRAGMA synchronous=FULL")
        self._check()
        with self._transaction():
            for statement in _SCHEMA.split(";"):
                self._db.execute(statement)

    def _check(self) -> None:
        if self._db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise StoreError(f"{self.path} is damaged; move the folder away and run again")

    def serialize(self) -> bytes:
        """The whole store as the bytes of a SQLite file."""
        with self._explained():
            return self._db.serialize()

    def close(self) -> None:
        """Close the file; the write-ahead log is folded into it."""
        with self._explained():
            self._db.close()

    # ------------------------------------------------------------------ writing

    def add(
        self,
        rows: Sequence[tuple[Architecture, Mapping[str, float], Mapping[ScoreKey, CandidateScore]]],
    ) -> None:
        """Commit one group: candidates with their costs and scores, all or nothing."""
        with self._explained(), self._transaction():
            for arch, costs, scores in rows:
                self._db.execute(
                    "INSERT OR IGNORE INTO candidates VALUES (?, ?, ?, ?, ?)",
                    (
                        arch.key,
                        arch.space,
                        json.dumps(arch.choices),
                        arch.text,
                        json.dumps(dict(costs)),
                    ),
                )
                self._db.executemany(
                    "INSERT INTO scores VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    [
                        (
                            arch.key,
                            *key,
                            None if math.isnan(score.value) else score.value,
                            score.failure,
                        )
                        for key, score in scores.items()
                    ],
                )

    def record(self, table: str, archs: Iterable[Architecture]) -> None:
        """Append keys to ``reference`` or ``evaluations``; those already there stay."""
        with self._explained(), self._transaction():
            ((start,),) = self._db.execute(_NEXT[table])
            fresh = [
                arch.key
                for arch in archs
                if self._db.execute(_HAS[table], (arch.key,)).fetchone() is None
            ]
            self._db.executemany(_INSERT[table], list(enumerate(fresh, start=start)))

    # ------------------------------------------------------------------ reading

    def scores(
        self, keys: Sequence[str], score_keys: Sequence[ScoreKey]
    ) -> dict[str, dict[ScoreKey, CandidateScore]]:
        """What is stored for candidates under the given keys; missing ones are left out."""
        wanted = set(score_keys)
        found: dict[str, dict[ScoreKey, CandidateScore]] = {}
        query = (
            "SELECT proxy, proxy_version, teacher, batch, seed, value, failure"
            " FROM scores WHERE arch = ?"
        )
        with self._explained():
            for arch in keys:
                for *key, value, failure in self._db.execute(query, (arch,)):
                    if tuple(key) in wanted:
                        score = CandidateScore(math.nan if value is None else value, failure)
                        found.setdefault(arch, {})[tuple(key)] = score
        return found

    def candidates(self, table: str) -> list[tuple[Architecture, dict[str, float]]]:
        """Architectures and costs of ``reference`` or ``evaluations``, in order."""
        with self._explained():
            rows = {
                arch: (space, choices, text, costs)
                for arch, space, choices, text, costs in self._db.execute(
                    "SELECT * FROM candidates"
                )
            }
            return [
                (
                    Architecture(space, tuple(json.loads(choices)), key, text),
                    json.loads(costs),
                )
                for key in self._keys(table)
                for space, choices, text, costs in [rows[key]]
            ]

    def count(self, table: str = "evaluations") -> int:
        """How many keys ``reference`` or ``evaluations`` hold."""
        with self._explained():
            return len(self._keys(table))

    def _keys(self, table: str) -> list[str]:
        return [arch for (arch,) in self._db.execute(_SELECT[table])]

    # ------------------------------------------------------------------ plumbing

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn SQLite's errors into one line that says what to do."""
        try:
            yield
        except (sqlite3.Error, KeyError, TypeError, ValueError) as error:
            text = str(error)
            if "locked" in text:
                way = "another process holds it; wait for that run, or choose another --out"
            elif "full" in text or "disk I/O" in text or "readonly" in text or "open" in text:
                way = "free space or rights there, then run the same command to go on"
            else:
                way = "it is damaged or no run store; move the folder away and run again"
            raise StoreError(f"{self.path}: {text}; {way}") from error


_SELECT = {
    "reference": "SELECT arch FROM reference ORDER BY ordinal",
    "evaluations": "SELECT arch FROM evaluations ORDER BY ordinal",
}
_NEXT = {
    "reference": "SELECT COALESCE(MAX(ordinal) + 1, 0) FROM reference",
    "evaluations": "SELECT COALESCE(MAX(ordinal) + 1, 0) FROM evaluations",
}
_HAS = {
    "reference": "SELECT 1 FROM reference WHERE arch = ?",
    "evaluations": "SELECT 1 FROM evaluations WHERE arch = ?",
}
_INSERT = {
    "reference": "INSERT INTO reference VALUES (?, ?)",
    "evaluations": "INSERT INTO evaluations VALUES (?, ?)",
}


def _readonly_uri(path: Path) -> str:
    """SQLite's address of a file that is only read.

    A file in WAL mode wants its index beside it even for reading. Where that cannot be made,
    and no log waits to be read, the file alone is the whole store.
    """
    path = path.resolve()
    mode = "mode=ro"
    if not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists():
        mode += "&immutable=1"
    return f"{path.as_uri()}?{mode}"
