"""Data sets of sentences in files, as token ids."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from ..searchspace.errors import InvalidInputError
from ..searchspace.inputs import pack_tokens
from .arrays import Part
from .dataset import DataSet, make_dataset
from .tokens import LENGTH, TextTokens, open_tokenizer

__all__ = ["TABLES", "TEXT", "Sentence", "make_text", "read_text", "read_text_folder"]

#: Files of one sentence a line.
TEXT = frozenset({".txt"})

#: Files of a label and a sentence a line.
TABLES = frozenset({".tsv", ".csv"})

_VALIDATION = ("val", "valid", "validation")
_HEADERS = ({"label", "text"}, {"label", "sentence"})


class Sentence(NamedTuple):
    """A line of text and the name of its class, where it has one."""

    text: str
    label: str | None = None


def read_text(
    path: Path,
    *,
    seed: int,
    val_fraction: float,
    tokenizer: str | os.PathLike[str] | None = None,
    length: int = LENGTH,
) -> DataSet:
    """Read sentences from a file.

    Args:
        path: ``.txt`` with a sentence a line, unlabelled; or ``.tsv`` with a label, a tab and a
            sentence a line, or ``.csv`` with the same two columns. A first line ``label``,
            ``text`` is skipped.
        seed: of the split into training and validation part.
        val_fraction: of the training part.
        tokenizer: see :func:`~scholarch.datasets.tokens.open_tokenizer`.
        length: tokens of a sentence at most.

    Raises:
        InvalidInputError: if the file is empty, damaged, no UTF-8 or has other columns, or the
            tokenizer cannot be had.
    """
    lines = list(_sentences(path))
    if not lines:
        raise InvalidInputError(f"text file {str(path)!r} holds no sentences")
    return make_text(
        path.stem,
        {"train": lines},
        seed=seed,
        val_fraction=val_fraction,
        tokenizer=tokenizer,
        length=length,
    )


def read_text_folder(
    root: Path,
    *,
    seed: int,
    val_fraction: float,
    tokenizer: str | os.PathLike[str] | None = None,
    length: int = LENGTH,
) -> DataSet:
    """Read sentences from a folder of ``.txt`` files, a sentence a line.

    Args:
        root: ``root/train`` and optionally ``root/val`` and ``root/test``, or the one part that
            is split. A part holds ``<class>/*.txt``, or ``*.txt``, which are unlabelled.
        seed: see :func:`read_text`, as the others.
        val_fraction: likewise.
        tokenizer: likewise.
        length: likewise.

    Raises:
        InvalidInputError: likewise; or if a part has classes and another none.
    """
    parts = {"train": _folder(root)}
    if (root / "train").is_dir():
        validation = next((name for name in _VALIDATION if (root / name).is_dir()), "val")
        places = {"train": root / "train", "val": root / validation, "test": root / "test"}
        parts = {name: _folder(place) for name, place in places.items() if place.is_dir()}
    return make_text(
        root.resolve().name,
        parts,
        seed=seed,
        val_fraction=val_fraction,
        tokenizer=tokenizer,
        length=length,
    )


def make_text(
    name: str,
    parts: dict[str, list[Sentence]],
    *,
    seed: int,
    val_fraction: float,
    tokenizer: str | os.PathLike[str] | TextTokens | None = None,
    length: int = LENGTH,
) -> DataSet:
    """A data set of sentences.

    Of sentences that are the same to the tokenizer, cut to the length, one is left: the test
    part's before the validation part's before the training part's, so that none is in two.

    Args:
        name: of the data set.
        parts: ``train`` and optionally ``val`` and ``test``.
        seed: see :func:`read_text`, as the others.
        val_fraction: likewise.
        tokenizer: likewise, or one that is open.
        length: likewise.

    Raises:
        InvalidInputError: if nothing is left, or some sentences have labels and some have none.
    """
    classes = _classes(name, parts)
    words = tokenizer if isinstance(tokenizer, TextTokens) else open_tokenizer(tokenizer)
    order = [part for part in ("test", "val", "train") if part in parts]
    lines = [line for part in order for line in parts[part]]
    ids = words.encode([line.text for line in lines], length)
    found, seen, start = dict[str, Part](), set[bytes](), 0
    for part in order:
        rows = range(start, start + len(parts[part]))
        start = rows.stop
        kept = []
        for row in rows:
            if (key := ids[row].tobytes()) not in seen:
                seen.add(key)
                kept.append(row)
        labels = _labels([lines[row] for row in kept], classes)
        found[part] = Part(pack_tokens(torch.from_numpy(ids[kept])).numpy(), labels)
    return make_dataset(
        name,
        found["train"],
        found.get("val"),
        found.get("test"),
        seed=seed,
        val_fraction=val_fraction,
        class_names=classes or None,
        modality="text",
    )


def _classes(name: str, parts: dict[str, list[Sentence]]) -> tuple[str, ...]:
    """Names of the classes; none where no sentence has one."""
    known = {line.label for line in parts["train"]}
    for part, lines in parts.items():
        if not lines:
            raise InvalidInputError(f"data {name!r} has no sentences in its {part} part")
        for line in lines:
            if line.label not in known:
                has = "no class" if line.label is None else f"the class {line.label!r}"
                raise InvalidInputError(
                    f"data {name!r}: a sentence of the {part} part has {has}, none of the train"
                    " part does"
                )
    if None in known and len(known) > 1:
        raise InvalidInputError(
            f"data {name!r} has sentences with and without a class; need all or none"
        )
    return tuple(sorted(label for label in known if label is not None))


def _labels(lines: Sequence[Sentence], classes: tuple[str, ...]) -> npt.NDArray[np.generic]:
    if not classes:
        return np.zeros((len(lines), 0), dtype=np.float32)
    numbers = {label: i for i, label in enumerate(classes)}
    return np.array([numbers[line.label or ""] for line in lines], dtype=np.int64)


# ---------------------------------------------------------------------- files


def _folder(root: Path) -> list[Sentence]:
    """The sentences of a part, classes by folder where there are any."""
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    lines = []
    for label, folder in [(None, root), *((p.name, p) for p in folders)]:
        for file in sorted(p for p in folder.iterdir() if p.suffix.lower() in TEXT):
            lines += [Sentence(line.text, label) for line in _sentences(file)]
    return lines


def _sentences(path: Path) -> Iterator[Sentence]:
    content = _content(path)
    if path.suffix.lower() in TEXT:
        yield from (Sentence(line) for raw in content.splitlines() if (line := raw.strip()))
        return
    comma = path.suffix.lower() == ".csv"
    # A tab needs no quotes, and quotes are as often part of a sentence.
    text = io.StringIO(content)
    rows = csv.reader(text) if comma else csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE)
    try:
        for number, row in enumerate(rows, start=1):
            if not row or (number == 1 and {word.strip().lower() for word in row} in _HEADERS):
                continue
            if len(row) != 2 or not row[0].strip() or not row[1].strip():
                between = "a comma" if comma else "a tab"
                raise InvalidInputError(
                    f"{str(path)!r}, line {number}: need a label, {between} and a sentence, found"
                    f" {len(row)} column{'' if len(row) == 1 else 's'}"
                )
            yield Sentence(row[1].strip(), row[0].strip())
    except csv.Error as error:
        raise InvalidInputError(f"{str(path)!r} cannot be read: {error}") from error


def _content(path: Path) -> str:
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"text file {str(path)!r} is no UTF-8 (byte {error.start}); convert it, e.g. with iconv"
        ) from error
    except OSError as error:
        raise InvalidInputError(
            f"text file {str(path)!r} cannot be read: {error.strerror}"
        ) from error
    if "\0" in content:
        raise InvalidInputError(f"text file {str(path)!r} holds zero bytes; it is no text")
    return content
