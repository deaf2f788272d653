"""One of several teachers, by what can be known of them without a student."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .benchmarks.controls import teachers_of
from .datasets.dataset import DataSet
from .proxies.batch import Batch
from .proxies.teacher import Teacher
from .search.calibration.labels import Label
from .search.calibration.report import teachers_html
from .search.calibration.request import SearchRequest
from .search.folder import write_outputs
from .search.result import SearchResult
from .search.teacher_choice import TeacherFacts, by_accuracy, by_labels, examine, similarities
from .searchspace.errors import InvalidInputError
from .searchspace.files import write_atomic

__all__ = [
    "TEACHERS",
    "TeacherChoice",
    "by_students",
    "choose_teacher",
    "find_among",
    "teachers_told",
]

TEACHERS = "teachers.html"

#: Validation images on which teachers are compared, at most, and so many at a time.
_IMAGES, _CHUNK = 2048, 128
#: Students that the similarities are shown for, at most.
_STUDENTS = 16


@dataclass(frozen=True)
class TeacherChoice:
    """Teachers compared without a student.

    Attributes:
        teachers: of different names, the first choice first.
        facts: of each.
        why: what that order rests on.
    """

    teachers: tuple[Teacher, ...]
    facts: tuple[TeacherFacts, ...]
    why: str

    def to_json(self, student: Mapping[str, float] | None) -> dict[str, Any]:
        """Plain data, with how many times larger each is than a student of given costs."""
        rows = []
        for fact in self.facts:
            row = fact.to_json()
            for name in ("params", "macs"):
                size, of = getattr(fact, name), (student or {}).get(name)
                row[f"{name}_ratio"] = round(size / of, 2) if size and of else None
            rows.append(row)
        return {"chosen": self.teachers[0].name, "why": self.why, "rows": rows}


def choose_teacher(teachers: Sequence[Teacher], data: DataSet | None) -> TeacherChoice:
    """Teachers in the order of what can be measured of them without a student.

    Args:
        teachers: at least one.
        data: with validation images, where there are several teachers.

    Raises:
        InvalidInputError: if there is none or one twice, no validation image, or one does not run
            on them.
    """
    if not teachers:
        raise InvalidInputError("an empty list of teachers; give at least one")
    if data is None or not len(data.val.labels):
        raise InvalidInputError(
            "several teachers are compared on validation images, of which there are none; give a"
            " data set with a validation part, or one teacher"
        )
    marks = [teacher.fingerprint for teacher in teachers]
    if twice := next((t.name for i, t in enumerate(teachers) if marks[i] in marks[:i]), None):
        raise InvalidInputError(f"teacher {twice!r} is given twice; name each once")
    named = _named(teachers)
    facts = [examine(teacher, _val_batches(data)) for teacher in named]
    order, why = by_accuracy(facts)
    return TeacherChoice(tuple(named[i] for i in order), tuple(facts[i] for i in order), why)


def find_among(request: SearchRequest, choice: TeacherChoice, out: Path | None) -> SearchResult:
    """A search without training for the teacher chosen among several, and how it was chosen."""
    result = request.run(choice.teachers[0], out)
    told = teachers_told(request, choice, result)
    result.info["teachers"] = told
    result.notes.append(f"Of {len(choice.teachers)} teachers {choice.why}")
    if out is not None:
        write_outputs(result, out)
        write_atomic(out / TEACHERS, teachers_html(result, told))
    return result


def by_students(
    request: SearchRequest,
    choice: TeacherChoice,
    found: Mapping[str, Sequence[Label]],
    first: SearchResult,
) -> tuple[Teacher, dict[str, Any]]:
    """The teacher whose students are best, and the comparison."""
    columns = {
        name: np.array([label.accuracy for label in labels]) for name, labels in found.items()
    }
    names, differences = by_labels(columns)
    near = [one for one in differences if not one.distinguishable]
    chosen = next(one for one in choice.teachers if one.name == names[0])
    why = f"{chosen.name!r} was chosen for the accuracy of the students distilled from it"
    if near:
        others = ", ".join(repr(one.other) for one in near)
        why += (
            f"; against {others} the difference is within its 95 % interval, so that the choice"
            " rests on a mean that more students could turn round"
        )
    told = teachers_told(request, choice, first)
    told |= {
        "chosen": chosen.name,
        "why": f"{why}.",
        "labels": {
            name: float(np.nanmean(column)) if np.isfinite(column).any() else None
            for name, column in columns.items()
        },
        "differences": [one.to_json() | {"text": str(one)} for one in differences],
    }
    return chosen, told


def teachers_told(
    request: SearchRequest, choice: TeacherChoice, result: SearchResult
) -> dict[str, Any]:
    """Facts, and the similarities under controls, on students of the front."""
    told = choice.to_json(result.pick.costs if result.pick else None)
    places = np.linspace(0, len(result.front) - 1, min(_STUDENTS, len(result.front))).round()
    archs = [result.front[i].arch for i in dict.fromkeys(places.astype(int).tolist())]
    rows = []
    for teacher in choice.teachers:
        guides = teachers_of(teacher, request.batch, request.seed, controls=True)
        rows += similarities(
            request.space,
            archs,
            teacher.name,
            {name: guide.taps for name, guide in guides.items()},
            request.batch,
            request.seed,
        )
    told["students"] = len(archs)
    told["similarities"] = [row.to_json() for row in rows]
    return told


def _named(teachers: Sequence[Teacher]) -> list[Teacher]:
    """The same teachers under different names: those of networks of one class are numbered."""
    names = [teacher.name for teacher in teachers]
    return [
        teacher
        if names.count(teacher.name) == 1
        else replace(teacher, name=f"{teacher.name}#{names[:i].count(teacher.name) + 1}")
        for i, teacher in enumerate(teachers)
    ]


def _val_batches(data: DataSet) -> list[Batch]:
    """The validation part, at most 2,048 images drawn from it with a seed of their own."""
    count = len(data.val.labels)
    order = np.random.default_rng(0x7E).permutation(count)[:_IMAGES]
    return [
        Batch(
            torch.from_numpy(data.val.images[chosen]).permute(0, 3, 1, 2).float().div(255.0),
            torch.from_numpy(data.val.labels[chosen].astype(np.int64)),
            data.num_classes,
            data.mean,
            data.std,
            data.name,
        )
        for chosen in np.array_split(order, math.ceil(len(order) / _CHUNK))
        if len(chosen) > 1
    ]
