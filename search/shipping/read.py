"""A student read back from what was written of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ...searchspace.errors import InvalidInputError
from ...searchspace.factory import create_space
from ..student import FORMAT, Student, TrainedWeights

__all__ = ["read_student", "student_folder"]

#: Where a run's folder keeps a student, the one to be used first.
_PLACES = ("distil/student", "student", ".")


def student_folder(folder: str | Path) -> Path:
    """The folder of the student that a run handed over, or of a student itself.

    Args:
        folder: of a search, a refined search or a distillation, or what
            :meth:`Student.save_pretrained` wrote. What was distilled comes before what was not.

    Raises:
        InvalidInputError: if there is none.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise InvalidInputError(f"{folder} is no folder; give a run's, or a student's")
    for place in _PLACES:
        if _is_student(folder / place):
            return folder / place
    raise InvalidInputError(
        f"no student in {folder}: neither distil/student, student nor the folder itself holds a"
        " student's config.json; give the folder of a finished run, or what save_pretrained wrote"
    )


def _is_student(folder: Path) -> bool:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # A damaged one is told of by who reads it.
        return (folder / "config.json").is_file()
    return isinstance(config, dict) and config.get("format") == FORMAT


def read_student(folder: str | Path) -> Student:
    """A student with its weights, costs, scores and accuracies.

    Args:
        folder: what :meth:`Student.save_pretrained` wrote.

    Raises:
        InvalidInputError: if the folder holds no student, or a damaged one.
    """
    folder = Path(folder)
    Student.from_pretrained(folder)  # says what is wrong with the weights, if anything is
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        space = create_space(**config["space"])
        about = dict(config.get("weights") or {})
        weights = TrainedWeights(lambda: _copy(folder), _numbers(config.get("accuracy")), about)
        return Student(
            space.parse(config["architecture"]["text"]),
            space,
            _numbers(config.get("costs")),
            _number(config.get("score")),
            _numbers(config.get("scores")),
            int(config.get("seed") or 0),
            weights if config.get("trained") else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInputError(f"{folder / 'config.json'} is damaged: {error}") from error


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _numbers(values: Mapping[str, Any] | None) -> dict[str, float]:
    return {name: _number(value) for name, value in (values or {}).items()}


def _copy(folder: Path) -> nn.Module:
    return Student.from_pretrained(folder).eval()
