"""Which maps or tokens of student and teacher a distiller compares, brought to one grid."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from ...proxies.kd_matching import stage_pairs
from ...proxies.taps import TokenTaps
from ...searchspace.errors import InvalidInputError
from .distiller import Pair, Sides, TokenShapes

__all__ = [
    "matched_channels",
    "matched_indices",
    "matched_maps",
    "same_grid",
    "token_shapes",
    "token_taps",
]


def matched_indices(sides: Sides) -> list[tuple[int, int]]:
    """(student's, teacher's) stages matched by relative depth, shallow to deep.

    Raises:
        InvalidInputError: if one of the networks has no stage.
    """
    return _indices(len(sides.student.stages), len(sides.teacher.stages))


def matched_channels(sides: Sides) -> list[tuple[int, int]]:
    """(student's, teacher's) channels of the matched stages, shallow to deep.

    Raises:
        InvalidInputError: if one of the networks has no stage.
    """
    student, teacher = sides.student.stages, sides.teacher.stages
    return [(student[i][0], teacher[j][0]) for i, j in matched_indices(sides)]


def matched_maps(pair: Pair) -> list[tuple[Tensor, Tensor]]:
    """Student's and teacher's maps of matched stages on one grid, shallow to deep.

    Returns:
        ``[B, C, H, W]`` and ``[B, C', H, W]`` each, the teacher's without gradient.

    Raises:
        InvalidInputError: if one of the networks has no stage.
    """
    student, teacher = pair.student.stages, pair.teacher.stages
    pairs = _indices(len(student), len(teacher))
    return [same_grid(student[i], teacher[j].detach()) for i, j in pairs]


def same_grid(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps pooled, by averages, to the smaller height and the smaller width of both."""
    height, width = (min(*sizes) for sizes in zip(a.shape[2:], b.shape[2:], strict=True))
    return _pooled(a, height, width), _pooled(b, height, width)


def _pooled(x: Tensor, height: int, width: int) -> Tensor:
    if x.shape[2:] == (height, width):
        return x
    return functional.adaptive_avg_pool2d(x, (height, width))


def token_shapes(sides: Sides) -> tuple[TokenShapes, TokenShapes]:
    """Shapes of the student's and the teacher's token taps.

    Raises:
        InvalidInputError: if one of the networks has none.
    """
    student, teacher = sides.student.tokens, sides.teacher.tokens
    if student is None or teacher is None:
        raise _no_tokens("student" if student is None else "teacher")
    return student, teacher


def token_taps(pair: Pair) -> tuple[TokenTaps, TokenTaps]:
    """Token taps of student and teacher.

    Raises:
        InvalidInputError: if one of the networks has none.
    """
    student, teacher = pair.student.tokens, pair.teacher.tokens
    if student is None or teacher is None:
        raise _no_tokens("student" if student is None else "teacher")
    return student, teacher


def _no_tokens(side: str) -> InvalidInputError:
    return InvalidInputError(
        f"layers of Transformers are compared, and the {side} is none; take a distiller of maps"
        " or logits"
    )


def _indices(students: int, teachers: int) -> list[tuple[int, int]]:
    if not students or not teachers:
        side = "student" if not students else "teacher"
        raise InvalidInputError(
            f"feature maps are compared, and the {side} has none; take a distiller of logits"
        )
    return stage_pairs(students, teachers)
