"""``labels.csv``: a line for every distillation that has ended, appended as it ends."""

from __future__ import annotations

import csv
import io
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from ...proxies.score_table import reason_of
from ...searchspace.architecture import Architecture
from ...searchspace.errors import InvalidInputError, StoreError
from ...searchspace.files import write_atomic

__all__ = ["Label", "LabelBook", "Labeller", "label_all", "labelled"]

Labeller = Callable[[Architecture, int], float]
"""``(architecture, seed) -> accuracy`` on the validation part, in [0, 1], once it is distilled."""


@dataclass(frozen=True)
class Label:
    """One distillation.

    Attributes:
        teacher: its name.
        arch: the student, in its space's notation.
        key: of the student.
        seed: of the distillation.
        accuracy: on the validation part, in [0, 1]; NaN = failed.
        seconds: that it took.
        failure: why; empty where it did not fail.
    """

    teacher: str
    arch: str
    key: str
    seed: int
    accuracy: float
    seconds: float
    failure: str = ""

    @property
    def fine(self) -> bool:
        """Whether it did not fail."""
        return math.isfinite(self.accuracy)


_HEAD = [field.name for field in fields(Label)]


class LabelBook:
    """The labels of a run, in a file that grows by a line each.

    A last line without an end, which a killed run leaves, is taken away.

    Args:
        path: of the file; ``None`` keeps the labels in memory.

    Raises:
        InvalidInputError: if it holds something else.
        StoreError: if it cannot be read or written.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._labels: dict[tuple[str, str, int], Label] = {}
        if path is None:
            return
        try:
            text = path.read_text(encoding="utf-8") if path.exists() else ""
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(f"cannot read {path}: {error}; move it away to start anew") from error
        whole = text[: text.rfind("\n") + 1]
        if not whole:
            whole = _line(_HEAD)
        if whole != text:
            write_atomic(path, whole)
        for label in _read(whole, path):
            self._labels[label.teacher, label.key, label.seed] = label

    def __iter__(self) -> Iterator[Label]:
        return iter(self._labels.values())

    def get(self, teacher: str, key: str, seed: int) -> Label | None:
        """What is known of one distillation."""
        return self._labels.get((teacher, key, seed))

    def add(self, label: Label) -> None:
        """Append a line that is on the disk before this returns.

        Raises:
            StoreError: if the disk is full.
        """
        if self.path is not None:
            try:
                with self.path.open("a", encoding="utf-8", newline="") as file:
                    file.write(_line(list(astuple(label))))
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise StoreError(
                    f"cannot write {self.path}: {error.strerror}; free space or rights there, then"
                    " run the same command to go on"
                ) from error
        self._labels[label.teacher, label.key, label.seed] = label


def labelled(
    book: LabelBook, teacher: str, arch: Architecture, seed: int, label: Labeller
) -> Label:
    """A student's label, from the book or made now and put there; a failure is a label, too.

    Args:
        book: of the run.
        teacher: its name.
        arch: the student.
        seed: of the distillation.
        label: distils.

    Raises:
        StoreError: if the book cannot be written.
    """
    known = book.get(teacher, arch.key, seed)
    if known is not None:
        return known
    began = time.monotonic()
    accuracy, failure = math.nan, ""
    try:
        accuracy = float(label(arch, seed))
        if not math.isfinite(accuracy):
            failure = f"the accuracy is {accuracy}"
            accuracy = math.nan
    except StoreError:
        raise  # of the disk, not of the candidate
    except Exception as error:  # noqa: BLE001 (a candidate's failure is recorded)
        failure = reason_of(error)
    spent = round(time.monotonic() - began, 3)
    found = Label(teacher, arch.text, arch.key, seed, accuracy, spent, failure)
    book.add(found)
    return found


def label_all(
    book: LabelBook,
    teacher: str,
    archs: Sequence[Architecture],
    seed: int,
    make: Callable[[], Labeller],
    tell: Callable[[Sequence[Label]], None],
) -> list[Label]:
    """The labels of students, in their order.

    Args:
        book: of the run.
        teacher: its name.
        archs: students.
        seed: of every distillation.
        make: what distils; called once, where something is left to distil.
        tell: called with all labels so far, after each.

    Raises:
        StoreError: if the book cannot be written.
    """
    distil: Labeller | None = None
    found: list[Label] = []
    for arch in archs:
        known = book.get(teacher, arch.key, seed)
        if known is None:
            distil = distil or make()
            known = labelled(book, teacher, arch, seed, distil)
        found.append(known)
        tell(found)
    return found


def _line(cells: list[object] | list[str]) -> str:
    """A CSV line; what is said of a failure stays on it."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(
        [str(cell).replace("\n", " ").replace("\r", " ") for cell in cells]
    )
    return text.getvalue()


def _read(text: str, path: Path) -> list[Label]:
    rows = csv.DictReader(io.StringIO(text))
    try:
        if list(rows.fieldnames or ()) != _HEAD:
            raise ValueError(f"its head is not {','.join(_HEAD)}")
        return [
            Label(
                row["teacher"],
                row["arch"],
                row["key"],
                int(row["seed"]),
                float(row["accuracy"]),
                float(row["seconds"]),
                row["failure"],
            )
            for row in rows
        ]
    except (ValueError, TypeError, csv.Error) as error:
        raise InvalidInputError(
            f"{path} holds no labels of ours ({error}); move it away to start anew"
        ) from error
