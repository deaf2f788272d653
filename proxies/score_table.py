"""What scoring gives: one candidate's score under one proxy, and columns of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

__all__ = ["CandidateScore", "ScoreTable", "as_table", "reason_of"]


@dataclass(frozen=True, slots=True)
class CandidateScore:
    """One candidate under one proxy.

    Attributes:
        value: oriented, higher is better; NaN where it failed.
        failure: why, or ``None``.
    """

    value: float
    failure: str | None = None


@dataclass(frozen=True)
class ScoreTable(Mapping[str, npt.NDArray[np.float64]]):
    """Columns of scores, every one oriented: higher is better.

    Attributes:
        columns: name → float64 ``[N]``; NaN = failed.
        failures: (row, name) → reason.
    """

    columns: dict[str, npt.NDArray[np.float64]]
    failures: dict[tuple[int, str], str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> npt.NDArray[np.float64]:
        return self.columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)


def as_table(rows: Sequence[Mapping[str, CandidateScore]], names: Sequence[str]) -> ScoreTable:
    """Columns of per-candidate scores, with the failures' reasons."""
    columns = {
        name: np.array([row[name].value for row in rows], dtype=np.float64) for name in names
    }
    failures = {
        (i, name): reason
        for i, row in enumerate(rows)
        for name in names
        if (reason := row[name].failure) is not None
    }
    return ScoreTable(columns, failures)


def reason_of(error: BaseException) -> str:
    """What a failure's record says of an error, in one line."""
    text = str(error).strip().split("\n")[0]
    if isinstance(error, MemoryError) or "allocate memory" in text or "out of memory" in text:
        return f"out of memory: {text[:160]}" if text else "out of memory"
    return f"{type(error).__name__}: {text[:200]}"
