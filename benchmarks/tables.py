"""Tables of trained architectures: CSV files, plain or gzipped, in a folder."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..searchspace.errors import InvalidInputError
from .metrics import Column, Index

__all__ = [
    "TruthTable",
    "accuracies",
    "find_files",
    "has_column",
    "merged",
    "read_json",
    "read_rows",
    "read_tables",
    "truth_table",
]

_SUFFIXES = (".csv", ".csv.gz")
#: A column none of whose values exceeds it holds fractions.
_FRACTIONS = 1.0


@dataclass(frozen=True)
class TruthTable:
    """Architectures and their accuracies.

    Attributes:
        archs: in the space's own notation, length N.
        truths: name → accuracy in percent, ``[N]``; NaN where a file has none.
        source: the files' names.
        groups: number of each row's isomorphism group, by whose parity a table is halved;
            ``None`` where the file tells none.
    """

    archs: tuple[str, ...]
    truths: dict[str, Column]
    source: str
    groups: Index | None = field(default=None)


def find_files(folder: Path, stem: str) -> list[Path]:
    """CSV files, plain or gzipped, whose names begin with ``stem``, sorted by name.

    Raises:
        InvalidInputError: if there is no such folder or file.
    """
    if not folder.is_dir():
        raise InvalidInputError(f"data folder {str(folder)!r} does not exist")
    found = sorted({path for end in _SUFFIXES for path in folder.glob(f"{stem}*{end}")})
    if not found:
        names = " or ".join(f"{stem}*{end}" for end in _SUFFIXES)
        raise InvalidInputError(f"{folder} holds no {names}, the table of this benchmark")
    return found


def read_rows(path: Path) -> list[dict[str, str]]:
    """Lines of a CSV file with a head, plain or gzipped.

    Raises:
        InvalidInputError: if it cannot be read, or a line has fewer or more fields than the head.
    """
    text = _text(path)
    reader = csv.DictReader(io.StringIO(text), restkey="")
    try:
        rows = list(reader)
    except csv.Error as error:
        raise InvalidInputError(f"{path}, line {reader.line_num}: {error}") from error
    for number, row in enumerate(rows, start=2):
        if "" in row or None in row.values():
            raise InvalidInputError(
                f"{path}, line {number}: not {len(reader.fieldnames or ())} fields, as the head has"
            )
    return rows


def has_column(path: Path, name: str) -> bool:
    """Whether a CSV file has lines, and a column of that name."""
    rows = read_rows(path)
    return bool(rows) and name in rows[0]


def read_json(path: Path) -> Any:
    """The contents of a JSON file; raises :class:`InvalidInputError` if it holds none."""
    try:
        return json.loads(_text(path))
    except ValueError as error:
        raise InvalidInputError(f"{path} is no JSON: {error}") from error


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise InvalidInputError(f"{path} does not exist") from error
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"cannot read {path}: {error}") from error


def truth_table(
    path: Path,
    *,
    arch: str,
    truths: Sequence[str] | None = None,
    others: Sequence[str] = (),
    group: str | None = None,
) -> TruthTable:
    """A table from one CSV file.

    Args:
        path: of the file.
        arch: the column with the architecture.
        truths: columns with accuracies; default all but ``arch``, ``group`` and ``others``.
        others: columns that are no accuracies.
        group: the column with the isomorphism group, where there is one.

    Raises:
        InvalidInputError: if a column is missing, or a value is no accuracy.
    """
    rows = read_rows(path)
    heads = list(rows[0]) if rows else []
    if truths is None:
        truths = [head for head in heads if head not in {arch, group, *others}]
    missing = [head for head in (arch, *truths) if head not in heads]
    if missing or not truths:
        what = f"column {' and no column '.join(map(repr, missing))}" if missing else ""
        raise InvalidInputError(
            f"{path} has no {what or 'column of accuracies'}; its columns: {', '.join(heads)}"
        )
    return TruthTable(
        tuple(row[arch] for row in rows),
        {name: accuracies(rows, name, path) for name in truths},
        path.name,
        _groups(rows, group, path) if group in heads else None,
    )


def read_tables(folder: Path, stem: str) -> TruthTable:
    """All files of a benchmark as one table: ``arch``, ``params``, ``macs``, else accuracies.

    Args:
        folder: where they are.
        stem: with which their names begin.

    Raises:
        InvalidInputError: if there is none, or one cannot be read.
    """
    files = find_files(folder, stem)
    return merged([truth_table(path, arch="arch", others=("params", "macs")) for path in files])


def accuracies(rows: Sequence[Mapping[str, Any]], name: str, path: Path) -> Column:
    """A column in percent, fractions times 100; NaN where a row has none.

    Raises:
        InvalidInputError: if a value is no number from 0 to 100.
    """
    values = np.full(len(rows), np.nan)
    for i, row in enumerate(rows):
        given = row.get(name)
        if given is None or given == "":
            continue
        try:
            values[i] = float(given)
        except (TypeError, ValueError):
            values[i] = np.inf
        if not (0.0 <= values[i] <= 100.0 or np.isnan(values[i])):
            raise InvalidInputError(
                f"{path}, row {i + 1}: {name} = {given!r}; need an accuracy from 0 to 100"
            )
    largest = np.nanmax(values, initial=0.0)
    return values * 100.0 if largest <= _FRACTIONS else values


def _groups(rows: Sequence[Mapping[str, str]], name: str | None, path: Path) -> Index:
    try:
        return np.array([int(row[str(name)]) for row in rows], dtype=np.int64)
    except ValueError as error:
        raise InvalidInputError(f"{path}, column {name!r}: {error}") from error


def merged(tables: Sequence[TruthTable]) -> TruthTable:
    """Tables as one: their rows together, a row that several hold with all its columns.

    Where two tell the same accuracy of the same row, the first one counts.
    """
    place: dict[str, int] = {}
    for table in tables:
        for arch in table.archs:
            place.setdefault(arch, len(place))
    truths: dict[str, Column] = {}
    groups = np.full(len(place), -1, dtype=np.int64)
    for table in tables:
        rows = np.array([place[arch] for arch in table.archs], dtype=np.int64)
        for name, column in table.truths.items():
            into = truths.setdefault(name, np.full(len(place), np.nan))
            into[rows] = np.where(np.isnan(into[rows]), column, into[rows])
        if table.groups is not None:
            groups[rows] = table.groups
    known = bool(len(place)) and bool((groups >= 0).all())
    source = ", ".join(dict.fromkeys(table.source for table in tables))
    return TruthTable(tuple(place), truths, source, groups if known else None)
