"""What is distilled: a student, its teachers, its data, and how."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ..proxies.teacher import Teacher
from ..searchspace.architecture import Architecture
from ..searchspace.errors import InvalidInputError
from ..searchspace.provenance import host, versions
from ..supernet.distil.choose import REFERENCE
from ..supernet.distil.inherit import inherit_from
from ..supernet.distil.settings import NO_DISTILLER, DistilSettings
from ..supernet.loader import LabelledImages
from ..supernet.record import describe_data
from ..supernet.world import World
from .student import Student
from .weights import weights_fingerprint

__all__ = ["AUTO", "INITS", "Task", "for_targets", "named_teachers", "new_record"]

AUTO = "auto"
"""In a distiller's place: several are tried, and one is picked."""

INITS = ("scratch", "trained", "teacher")

#: What takes the reference's place where a teacher embeds rather than classifies.
_EMBEDDED = "cosine"

#: Settings of the one trainer that a distillation does not have.
_NOT_OURS = ("schedule", "options", "external")


@dataclass(frozen=True, eq=False)
class Task:
    """What is distilled.

    Attributes:
        student: whose architecture, and whose weights where ``init`` is ``"trained"``.
        data: images.
        teachers: by name; measured even where nothing is learned from them.
        settings: how; where ``automatic``, of the distiller that is picked.
        automatic: whether a distiller is picked.
        init: first weights: ``"scratch"``, ``"trained"`` or ``"teacher"``.
        world: ranks.
    """

    student: Student
    data: LabelledImages
    teachers: Mapping[str, Teacher]
    settings: DistilSettings
    automatic: bool
    init: str
    world: World

    def network(self, arch: Architecture) -> tuple[nn.Module, dict[str, Any]]:
        """A network at its first step, and where its weights come from.

        Raises:
            InvalidInputError: if there are no such weights.
        """
        student, settings = self.student, self.settings.train
        own = arch.key == student.arch.key
        if self.init == "trained" and own:
            if student.trained is None:
                raise InvalidInputError(
                    f"student {student.arch.text!r} has no trained weights to start from; search"
                    " with --supernet or --refine supernet, or take --init scratch"
                )
            network = student.trained.module()
            return network, {"init": "trained", "weights": weights_fingerprint(network)}
        network = student.space.build(arch, seed=settings.seed)
        if self.init != "teacher":
            return network, {"init": "scratch"}
        if not self.teachers:
            raise InvalidInputError(
                "--init teacher without a teacher; name one with --teacher, or take --init scratch"
            )
        name, teacher = next(iter(self.teachers.items()))
        share = inherit_from(network, teacher.module).share
        return network, {"init": "teacher", "from": name, "share": round(share, 4)}

    def asked(self, arch: Architecture, start: Mapping[str, Any]) -> dict[str, Any]:
        """What has to be equal for a run to go on."""
        own = self.settings.to_json()
        train = {name: v for name, v in own.pop("train").items() if name not in _NOT_OURS}
        own |= {"distiller": AUTO} if self.automatic else {}
        return {
            "space": self.student.space.spec(),
            "arch": arch.text,
            "data": describe_data(self.data),
            "teachers": {name: one.fingerprint for name, one in self.teachers.items()},
            "start": dict(start),
            "world": self.world.size,
            "settings": {**own, **train},
        }


def new_record(task: Task, asked: Mapping[str, Any], command: str) -> dict[str, Any]:
    """``distil.json`` of a new run.

    Args:
        task: what is distilled.
        asked: what has to be equal for the run to go on.
        command: the shell line that repeats it.
    """
    return {
        **asked,
        "about_teachers": {name: one.about for name, one in task.teachers.items()},
        "command": command,
        "host": host(),
        "versions": versions("torch", "numpy"),
        "threads": torch.get_num_threads(),
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "seconds": 0.0,
        "finished": False,
    }


def named_teachers(
    teachers: Sequence[Teacher], distiller: str, data: LabelledImages
) -> dict[str, Teacher]:
    """Teachers by names of their own.

    Raises:
        InvalidInputError: if there is none to learn from.
    """
    if not teachers and distiller != NO_DISTILLER:
        raise InvalidInputError(
            f"no teacher for {data.name!r}: give --teacher (scholarch list teachers, a timm name,"
            " a file), or learn from labels alone by --distiller none"
        )
    named: dict[str, Teacher] = {}
    for teacher in teachers:
        name, count = teacher.name, 1
        while name in named:
            count += 1
            name = f"{teacher.name} ({count})"
        named[name] = teacher
    return named


def for_targets(
    distiller: str, settings: DistilSettings, data: LabelledImages
) -> tuple[str, DistilSettings]:
    """A distiller of embeddings in the reference's place, where labels are a teacher's answers.

    Args:
        distiller: as it was asked for.
        settings: of the run.
        data: whose labels are targets.

    Raises:
        InvalidInputError: if what was asked for is for classes alone.
    """
    if distiller == AUTO:
        raise InvalidInputError(
            f"--distiller auto chooses among distillers of classes, and data {data.name!r} have"
            f" none; name one, e.g. --distiller {_EMBEDDED}"
        )
    if distiller != REFERENCE:
        return distiller, settings
    if settings.options:
        raise InvalidInputError(
            f"--distiller {REFERENCE} softens logits of classes, and data {data.name!r} have none;"
            f" take --distiller {_EMBEDDED}"
        )
    return _EMBEDDED, replace(settings, distiller=_EMBEDDED)
