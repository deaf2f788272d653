"""What fits together: a space, data, a schedule, a teacher."""

from __future__ import annotations

from ..proxies.teacher import Teacher
from ..searchspace.errors import InvalidInputError
from ..searchspace.modality import PLURALS
from ..searchspace.space import SearchSpace
from .loader import LabelledImages
from .robust.training import ATTACKING
from .schedule import Schedule
from .settings import TrainSettings
from .task import check_teacher, has_targets
from .vocabulary import check_vocabulary

__all__ = ["check_fit", "check_objectives"]


def check_fit(
    space: SearchSpace, data: LabelledImages, settings: TrainSettings, teacher: Teacher | None
) -> None:
    """Refuse a space, data, settings and a teacher that are not of one kind and number of outputs.

    Raises:
        InvalidInputError: naming both sides and the way out.
    """
    if space.modality != data.modality:
        raise InvalidInputError(
            f"space {space.name!r} takes {PLURALS[space.modality]}, data {data.name!r} is"
            f" {PLURALS[data.modality]}; choose a space or data of the other's kind"
        )
    check_vocabulary(data, space.vocabulary, f"space {space.name!r}")
    targets = has_targets(data.train.labels)
    if space.num_classes != data.num_classes:
        has, want = ("outputs", " target values") if targets else ("classes", "")
        raise InvalidInputError(
            f"space {space.name!r} has {space.num_classes} {has}, data {data.name!r} has"
            f" {data.num_classes}{want}; create the space with num_classes={data.num_classes}"
        )
    if space.in_channels != len(data.mean):
        raise InvalidInputError(
            f"space {space.name!r} takes images of {space.in_channels} channels, data"
            f" {data.name!r} has {len(data.mean)}"
        )
    if settings.external != (teacher is not None):
        raise InvalidInputError(
            "settings and teacher do not agree: external = True needs a teacher, and a teacher"
            " external = True"
        )
    if teacher is not None:
        check_teacher(
            teacher.name, teacher.num_classes, data.name, data.num_classes, targets=targets
        )


def check_objectives(schedule: Schedule, data: LabelledImages) -> None:
    """Refuse to attack what has no pixels, or is no class.

    Raises:
        InvalidInputError: if a phase of the schedule would.
    """
    asked = {one.objective for phase in schedule.phases for one in phase.passes}
    if asked & ATTACKING and (data.modality != "image" or has_targets(data.train.labels)):
        kind = f"{data.modality} without classes" if has_targets(data.train.labels) else "no images"
        raise InvalidInputError(
            f"schedule {schedule.name!r} moves pixels of images of known classes, and data"
            f" {data.name!r} is {kind if data.modality == 'image' else PLURALS[data.modality]};"
            " choose another schedule"
        )
