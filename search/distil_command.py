"""The shell line that repeats a distillation which was started from Python."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..proxies.teacher import Teacher
from ..supernet.distil.settings import DistilSettings
from .student import Student

__all__ = ["distil_line"]


def distil_line(
    student: Student | str | Path,
    teachers: Mapping[str, Teacher],
    data: str,
    asked: Mapping[str, Any],
    baseline: bool,
    out: str | Path | None,
) -> str:
    """The shell line of a distillation that was started from Python, as far as there is one.

    Args:
        student: or the folder where it lies.
        teachers: by name.
        data: name of the data.
        asked: of ``distil.json``.
        baseline: whether the hand-made network is trained, too.
        out: folder of the run.
    """
    place = "STUDENT" if isinstance(student, Student) else str(student)
    words = ["scholarch", "distil", place, "--data", data]
    for teacher in teachers.values():
        words += ["--teacher", teacher.name]
    settings, plain = asked["settings"], DistilSettings().train.to_json()
    words += ["--distiller", settings["distiller"], "--init", asked["start"]["init"]]
    for name, value in settings["options"].items():
        words += ["--distiller-option", f"{name}={value}"]
    if settings["labels"] is not None:
        words += ["--labels", f"{settings['labels']:g}"]
    own = {"epochs": "epochs", "seed": "seed", "patience": "patience", "device": "device"}
    for name, value in settings.items():
        if name in plain and value != plain[name] and value is not None:
            words += [f"--{own[name]}", str(value)] if name in own else []
            words += [] if name in own else ["--setting", f"{name}={value}"]
    words += ["--int8"] if settings["int8"] else []
    words += ["--baseline"] if baseline else []
    return shlex.join([*words, "--out", str(out) if out is not None else "RUN"])
