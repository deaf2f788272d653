"""Latency tables: what an architecture costs on one device, in milliseconds.

The simplest table is a CSV file with a line an architecture; it knows just those.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..errors import InvalidInputError

if TYPE_CHECKING:
    from ..space import Matrix, SearchSpace

__all__ = ["ArchitectureTable", "load_architecture_table"]

_ARCH_COLUMNS = ("arch", "arch_str", "architecture")
_LATENCY_COLUMNS = ("latency_ms", "latency", "ms")


class ArchitectureTable:
    """Measured latencies of whole architectures of one space.

    Args:
        space: whose notation the architectures are written in.
        device: name of the device.
        latencies: notation → milliseconds.
        fingerprint: of the file.
        source: where it came from, for messages.

    Raises:
        InvalidInputError: if an architecture is none of the space's, or a latency is no
            positive number.
    """

    def __init__(
        self,
        space: SearchSpace,
        device: str,
        latencies: dict[str, float],
        *,
        fingerprint: str = "",
        source: str = "table",
    ) -> None:
        self.device = device
        self.fingerprint = fingerprint
        archs = []
        for line, (text, latency) in enumerate(latencies.items(), start=2):
            if not (math.isfinite(latency) and latency > 0):
                raise InvalidInputError(
                    f"{source}, line {line}: latency {latency} of {text!r}; need positive ms"
                )
            try:
                archs.append(space.parse(text))
            except InvalidInputError as error:
                raise InvalidInputError(
                    f"{source} is no table of space {space.name!r}: line {line}: {error}"
                ) from error
        self.rows: Matrix = space.encode(archs)
        # What is dead in a cell still takes its time, so isomorphic ones may differ: each has its
        # own latency, and one that was not measured that of the fastest of its class.
        self._by_row: dict[bytes, float] = {}
        self._by_key: dict[str, float] = {}
        for row, key, ms in zip(self.rows, space.keys(self.rows), latencies.values(), strict=True):
            self._by_row[row.tobytes()] = ms
            self._by_key[key] = min(ms, self._by_key.get(key, math.inf))

    def latency(self, space: SearchSpace, matrix: Matrix) -> npt.NDArray[np.float64]:
        """Milliseconds of N architectures, ``[N]``; NaN where the table has none.

        An architecture that is not in the table takes as long as the fastest isomorphic one.
        """
        rows = np.ascontiguousarray(matrix, dtype=np.int64)
        found = [self._by_row.get(row.tobytes(), math.nan) for row in rows]
        missing = [i for i, ms in enumerate(found) if math.isnan(ms)]
        for i, key in zip(missing, space.keys(rows[missing]), strict=True):
            found[i] = self._by_key.get(key, math.nan)
        return np.array(found, dtype=np.float64)


def load_architecture_table(path: Path, space: SearchSpace, device: str) -> ArchitectureTable:
    """Read a CSV table, as :func:`~scholarch.searchspace.latency.load_table` describes it.

    Raises:
        InvalidInputError: if the file cannot be read, lacks a column, repeats an
            architecture or belongs to another space.
    """
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"cannot read the latency table {path}: {error}") from error
    reader = csv.DictReader(text.splitlines())
    names = list(reader.fieldnames or ())
    arch_column = next((name for name in _ARCH_COLUMNS if name in names), None)
    if arch_column is None:
        raise InvalidInputError(
            f"latency table {path} has columns {', '.join(names) or 'none'}; one has to be arch"
        )
    others = [name for name in names if name != arch_column]
    column = next((name for name in _LATENCY_COLUMNS if name in others), None)
    if column is None and len(others) == 1:
        column = others[0]
    if column is None:
        raise InvalidInputError(
            f"latency table {path} has columns {', '.join(names)}; call the latency latency_ms"
        )
    latencies: dict[str, float] = {}
    for line, row in enumerate(reader, start=2):
        arch = (row[arch_column] or "").strip()
        if arch in latencies:
            raise InvalidInputError(f"{path}, line {line}: {arch!r} stands there twice")
        try:
            latencies[arch] = float(row[column] or "")
        except ValueError as error:
            raise InvalidInputError(
                f"{path}, line {line}: latency {row[column]!r} is no number"
            ) from error
    if not latencies:
        raise InvalidInputError(f"latency table {path} has no line")
    fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
    return ArchitectureTable(space, device, latencies, fingerprint=fingerprint, source=str(path))
