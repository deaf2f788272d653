"""What a run's folder knows of its student: the network, and who and what it was searched with."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from ..searchspace.errors import InvalidInputError
from .folder import RUN, read_run
from .settings import RunSettings
from .shipping.read import read_student
from .student import Student

__all__ = ["Origin", "read_origin"]

#: Where a run's folder keeps the student of its search: a plain search's and a refined one's,
#: that of a second search, or the folder is the student's own.
_STUDENTS = ("student", "second/student", ".")
#: Where the run that had a teacher tells of it.
_RUNS = (".", "first", "second")
#: Options by which text and sound are read; ``load_data`` takes them behind a question mark.
_DATA_OPTIONS = ("tokenizer", "length", "seconds")


@dataclass(frozen=True, eq=False)
class Origin:
    """Where a student comes from.

    Attributes:
        folder: that was named.
        student: of the search; never one that was distilled.
        settings: of the run; ``None`` for a student's own folder.
        teacher: its options as the run's command has them: ``teacher``, ``weights``, ``untrained``
            and ``tap``; empty where the run had none.
        data: as ``--data`` takes it, with the options of text and sound; empty where it is not
            known.
    """

    folder: Path
    student: Student
    settings: RunSettings | None = None
    teacher: dict[str, Any] = field(default_factory=dict)
    data: str = ""


def read_origin(folder: str | Path) -> Origin:
    """A student and what is known of its search.

    Args:
        folder: of a search, also on a supernet, refined or calibrated, or what
            :meth:`Student.save_pretrained` wrote.

    Raises:
        InvalidInputError: if it is none of these, or the run has no student yet.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise InvalidInputError(f"{folder} is no folder; give a run's, or a student's")
    run = next((folder / p for p in _RUNS if (folder / p / RUN).is_file()), None)
    places = [folder / place for place in _STUDENTS]
    place = next((p for p in places if (p / "config.json").is_file()), None)
    if place is None:
        why = (
            "no run and no student's config.json is there; give the folder of scholarch search"
            if run is None
            else "its search is not finished; run the same search to go on"
        )
        raise InvalidInputError(f"no student in {folder}: {why}")
    student = read_student(place)
    if run is None:
        return Origin(folder, student)
    told = read_run(run)
    settings = RunSettings.from_json(told["settings"])
    words = shlex.split(str(told.get("command", "")))
    teacher: dict[str, Any] = {}
    if settings.teacher is not None:
        # By the name it was asked for, which is a path's for a file.
        teacher["teacher"] = settings.teacher["name"]
        teacher["weights"] = _last(words, "--weights") or None
        teacher["untrained"] = "--untrained" in words
        teacher["tap"] = _all(words, "--tap")
    data = _read_as(words) or str(settings.data["name"])
    return Origin(folder, student, settings, teacher, data)


def _all(words: Sequence[str], option: str) -> list[str]:
    """Values of an option, given as ``--name value`` or ``--name=value``."""
    found = []
    for i, word in enumerate(words):
        if word == option and i + 1 < len(words):
            found.append(words[i + 1])
        elif word.startswith(f"{option}="):
            found.append(word.partition("=")[2])
    return found


def _read_as(words: Sequence[str]) -> str:
    """The data with the options of text and sound that were given beside, in one string."""
    data = _last(words, "--data")
    given = {name: value for name in _DATA_OPTIONS if (value := _last(words, f"--{name}"))}
    if not data or not given:
        return data
    first = data.rpartition("?")[2].partition("=")[0]
    between = "&" if first in _DATA_OPTIONS else "?"
    return data + between + urlencode(given, safe="/", quote_via=quote)


def _last(words: Sequence[str], option: str) -> str:
    return (_all(words, option) or [""])[-1]
