"""What distillers check of what they are given."""

from __future__ import annotations

import math
from typing import TypeGuard

from torch import Tensor
from torch.nn import functional

from ...searchspace.errors import InvalidInputError
from ..losses import kl_divergence
from .distiller import Pair, Sides

__all__ = [
    "answers_apart",
    "classes_of",
    "finite",
    "logits_of",
    "not_negative",
    "positive",
    "share",
    "whole",
]


def finite(name: str, value: float) -> float:
    """Any number that is finite.

    Raises:
        InvalidInputError: if it is none.
    """
    if not _is_number(value) or not math.isfinite(value):
        raise InvalidInputError(f"{name} = {value!r} of the distiller; need a finite number")
    return float(value)


def positive(name: str, value: float) -> float:
    """A number above 0.

    Raises:
        InvalidInputError: if it is none.
    """
    if not _is_number(value) or not 0 < value < math.inf:
        raise InvalidInputError(f"{name} = {value!r} of the distiller; need a number above 0")
    return float(value)


def not_negative(name: str, value: float) -> float:
    """A number of at least 0: the weight of one of several terms, which may be left out.

    Raises:
        InvalidInputError: if it is none.
    """
    if not _is_number(value) or not 0 <= value < math.inf:
        raise InvalidInputError(f"{name} = {value!r} of the distiller; need a number of at least 0")
    return float(value)


def share(name: str, value: float) -> float:
    """A number of at least 0 and below 1.

    Raises:
        InvalidInputError: if it is none.
    """
    if not _is_number(value) or not 0 <= value < 1:
        raise InvalidInputError(
            f"{name} = {value!r} of the distiller; need a number of at least 0 and below 1"
        )
    return float(value)


def whole(name: str, value: int, least: int = 1) -> int:
    """A whole number of at least ``least``.

    Raises:
        InvalidInputError: if it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidInputError(
            f"{name} = {value!r} of the distiller; need a whole number of at least {least}"
        )
    return value


def logits_of(pair: Pair) -> tuple[Tensor, Tensor]:
    """Student's logits and, without gradient, the teacher's, ``[B, K]`` each.

    Raises:
        InvalidInputError: if one has none, or they tell different numbers of classes apart.
    """
    student, teacher = pair.student.logits, pair.teacher.logits
    if student is None or teacher is None:
        raise InvalidInputError("logits are compared, and one of the networks has no classifier")
    _same_classes(student.shape[1], teacher.shape[1])
    return student, teacher.detach()


def classes_of(sides: Sides) -> int:
    """How many classes both tell apart.

    Raises:
        InvalidInputError: if one has no classifier, or they differ.
    """
    student, teacher = sides.student.classes, sides.teacher.classes
    if not student or not teacher:
        raise InvalidInputError("logits are compared, and one of the networks has no classifier")
    _same_classes(student, teacher)
    return student


def answers_apart(pair: Pair) -> Tensor:
    """How far the student's answers are from the teacher's, a scalar; 0 where one has none.

    KL(teacher ‖ student) at T = 1, whose gradient is the soft cross-entropy's; of embeddings,
    where labels are the teacher's, 1 − cosine.
    """
    student, teacher = pair.student.logits, pair.teacher.logits
    if student is None or teacher is None or student.shape[1] != teacher.shape[1]:
        return pair.student.pooled.new_zeros(())
    if pair.labels.is_floating_point():
        return 1.0 - functional.cosine_similarity(student, teacher.detach(), dim=1).mean()
    return kl_divergence(student, teacher)


def _same_classes(student: int, teacher: int) -> None:
    if student != teacher:
        raise InvalidInputError(
            f"the student tells {student} classes apart, the teacher {teacher}; logits are"
            " compared class by class: give a teacher of the data's classes, or a distiller"
            " that compares features"
        )


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
