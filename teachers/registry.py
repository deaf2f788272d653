"""Names of teachers, and what a factory is given and gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ..searchspace.errors import InvalidInputError
from ..searchspace.registry import Registry

__all__ = [
    "ABOUT",
    "TEACHERS",
    "TeacherNetwork",
    "TeacherRequest",
    "needs_weights",
    "register_teacher",
]


@dataclass(frozen=True, slots=True)
class TeacherRequest:
    """What the user asked for.

    Attributes:
        name: registered or timm name.
        weights: a checkpoint, or ``None``.
        untrained: random weights are wanted.
        num_classes: outputs of the classifier, or ``None`` for the network's own.
        resize: side of the inputs in pixels; ``None`` for the network's own, 0 for as they come.
        seed: of random weights.
    """

    name: str
    weights: Path | None = None
    untrained: bool = False
    num_classes: int | None = None
    resize: int | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class TeacherNetwork:
    """A network that a factory has built.

    Attributes:
        module: the network.
        trained: whether its weights are.
        source: where the weights come from, for reports.
        mean: of its inputs' channels, for inputs in [0, 1]; ``None`` takes the batch's.
        std: likewise.
        resize: side of the inputs in pixels; ``None`` leaves them as they come.
        image_size: side of the images it was made for; ``None`` if unknown.
        accuracy: on its test part, in [0, 1], where known.
        modality: what it takes, ``"image"``, ``"text"`` or ``"sound"``; of text ``image_size``
            are tokens, of sound samples.
    """

    module: nn.Module
    trained: bool
    source: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: int | None = None
    image_size: int | None = None
    accuracy: float | None = None
    modality: str = "image"


TeacherFactory = Callable[[TeacherRequest], TeacherNetwork]
TEACHERS: Registry[TeacherFactory] = Registry("teacher")


#: Name → one line for lists.
ABOUT: dict[str, str] = {}


def register_teacher(
    name: str, *, about: str | None = None
) -> Callable[[TeacherFactory], TeacherFactory]:
    """Register a factory ``f(request) -> TeacherNetwork`` under ``name``.

    Args:
        name: not taken yet.
        about: one line for lists; default the first of the factory's docstring.
    """

    def register(factory: TeacherFactory) -> TeacherFactory:
        TEACHERS.add(name, factory)
        ABOUT[name] = about or next(iter((factory.__doc__ or "").strip().splitlines()), "")
        return factory

    return register


def needs_weights(name: str, why: str) -> InvalidInputError:
    """The error for a teacher whose trained weights cannot be had; says how to go on."""
    return InvalidInputError(
        f"teacher {name!r}: {why}; give a checkpoint with --weights FILE, or --untrained for"
        " random weights"
    )
