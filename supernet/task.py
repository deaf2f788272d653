"""What a data set asks of a network: to name classes, or to answer as a teacher does.

Labels say which: classes int64 ``[N]``, or targets float32 ``[N, D]``, a teacher's answers to
inputs that nobody labelled. Of targets directions count alone, since similarities of sentences
and of clips are cosines.
"""

from __future__ import annotations

import abc
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from ..searchspace.errors import InvalidInputError
from .losses import DIVERGENCES, Divergence, at_least_float32, cross_entropy
from .score import ACCURACY, AGREEMENT

__all__ = [
    "Classes",
    "Meter",
    "Targets",
    "Task",
    "check_teacher",
    "cosine_divergence",
    "has_targets",
    "label_loss",
    "meter_of",
    "task_of",
]

#: Answers of which pairs are compared at most, the first ones: 8 million pairs.
_COMPARED = 4096

_ROWS = 512


class Meter(Protocol):
    """Measures a network's answers, batch by batch; higher is better."""

    def add(self, outputs: Tensor, labels: Tensor) -> None:
        """Take in answers ``[B, K]`` and their labels."""

    def value(self) -> float:
        """The score of all that was taken in."""


class Task(abc.ABC):
    """What is minimised, and what is told of it.

    Attributes:
        score: name of what validation maximises.
    """

    score: ClassVar[str]

    @abc.abstractmethod
    def loss(self, outputs: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """How far answers ``[B, K]`` are from the labels, a scalar, the mean over the batch."""

    @abc.abstractmethod
    def divergence(self, name: str) -> Divergence:
        """How far a network's answers are from another's, as a schedule names it."""

    @abc.abstractmethod
    def meter(self) -> Meter:
        """A new one."""


class Classes(Task):
    """Classes: cross-entropy, a divergence of soft labels, and accuracy."""

    score = ACCURACY

    def loss(self, outputs: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy, smoothed."""
        return cross_entropy(outputs, labels, smoothing)

    def divergence(self, name: str) -> Divergence:
        """One of :data:`~scholarch.supernet.losses.DIVERGENCES`."""
        return DIVERGENCES[name]

    def meter(self) -> Meter:
        """Of the share that is named rightly, in [0, 1]."""
        return _Accuracy()


class Targets(Task):
    """Targets: 1 − cosine to the targets and to another's answers, and agreement of similarities.

    Agreement is Pearson's correlation between the cosine similarities of all pairs of answers
    and those of the same pairs of targets, in [-1, 1]; of at most 4,096 answers, the first.
    Answers that are all alike, or no numbers, agree with nothing: 0.
    """

    score = AGREEMENT

    def loss(self, outputs: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:  # noqa: ARG002
        """1 − cosine, in [0, 2]; there is nothing to smooth."""
        return cosine_divergence(outputs, labels)

    def divergence(self, name: str) -> Divergence:  # noqa: ARG002
        """1 − cosine, whatever the schedule names: answers are no logits."""
        return cosine_divergence

    def meter(self) -> Meter:
        """Of the agreement."""
        return _Agreement()


CLASSES, TARGETS = Classes(), Targets()


def has_targets(labels: npt.NDArray[Any] | Tensor) -> bool:
    """Whether labels are targets in place of classes."""
    return labels.ndim == 2


def task_of(labels: npt.NDArray[Any] | Tensor, name: str = "tensors") -> Task:
    """The task of labels.

    Args:
        labels: int64 ``[N]`` or float32 ``[N, D]``.
        name: of the data set, for the message.

    Raises:
        InvalidInputError: if there are none: D is 0.
    """
    if not has_targets(labels):
        return CLASSES
    if not labels.shape[1]:
        raise InvalidInputError(
            f"data {name!r} has no labels: give a teacher, whose answers are then learned, or data"
            " with classes"
        )
    return TARGETS


def label_loss(outputs: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """What the labels' task minimises; arguments as :meth:`Task.loss` has them."""
    return task_of(labels).loss(outputs, labels, smoothing)


def meter_of(labels: npt.NDArray[Any] | Tensor) -> Meter:
    """A meter of the labels' task."""
    return task_of(labels).meter()


def cosine_divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0, /) -> Tensor:  # noqa: ARG001
    """``1 − cos(student, teacher)``, the mean over the batch; no gradient to the teacher.

    Args:
        student: ``[B, D]``.
        teacher: ``[B, D]``.
        temperature: without meaning here: directions have none.
    """
    wanted = at_least_float32(teacher.detach())
    return 1.0 - functional.cosine_similarity(at_least_float32(student), wanted, dim=1).mean()


def check_teacher(
    name: str, classes: int | None, data_name: str, wanted: int, *, targets: bool
) -> None:
    """Refuse a teacher of other classes than the data's.

    Where labels are targets, a teacher without a classifier is as good; how long its answers are
    is seen when it gives some.

    Raises:
        InvalidInputError: if it is such a one.
    """
    if classes == wanted or (targets and classes is None):
        return
    what = "outputs" if targets else "classes"
    if classes is None:
        raise InvalidInputError(
            f"teacher {name!r} tells no classes apart, data {data_name!r} have {wanted}; take a"
            " distiller of features, e.g. rkd, minilm or lighthubert, or none for labels alone"
        )
    hint = "" if targets else "; give a teacher that was trained on these classes"
    raise InvalidInputError(
        f"teacher {name!r} has {classes} {what}, data {data_name!r} has {wanted}{hint}"
    )


# ---------------------------------------------------------------------- meters


class _Accuracy:
    def __init__(self) -> None:
        self._right = self._total = 0

    def add(self, outputs: Tensor, labels: Tensor) -> None:
        self._right += int((outputs.argmax(dim=1) == labels).sum())
        self._total += len(labels)

    def value(self) -> float:
        return self._right / self._total


class _Agreement:
    def __init__(self) -> None:
        self._answers: list[Tensor] = []
        self._targets: list[Tensor] = []
        self._count = 0

    def add(self, outputs: Tensor, labels: Tensor) -> None:
        if (left := _COMPARED - self._count) > 0:
            self._answers.append(outputs[:left].detach().float().cpu())
            self._targets.append(labels[:left].detach().float().cpu())
            self._count += len(self._answers[-1])

    def value(self) -> float:
        rows = [functional.normalize(torch.cat(x), dim=1) for x in (self._answers, self._targets)]
        if not all(bool(x.isfinite().all()) for x in rows):
            return 0.0
        return _pairs_correlation(*rows)


def _pairs_correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's correlation of ``a aᵀ`` and ``b bᵀ`` above their diagonals, block by block."""
    n = sum_a = sum_b = sum_aa = sum_bb = sum_ab = 0.0
    for start in range(0, len(a), _ROWS):
        block = slice(start, start + _ROWS)
        x, y = (side[block] @ side[start:].T for side in (a, b))
        above = torch.ones_like(x, dtype=torch.bool).triu(1)
        u, v = x[above].double(), y[above].double()
        n += len(u)
        sum_a, sum_b = sum_a + float(u.sum()), sum_b + float(v.sum())
        sum_aa, sum_bb = sum_aa + float(u @ u), sum_bb + float(v @ v)
        sum_ab += float(u @ v)
    if n < 2:
        return 0.0
    mean_a, mean_b = sum_a / n, sum_b / n
    var_a, var_b = sum_aa / n - mean_a**2, sum_bb / n - mean_b**2
    # Below what float32 leaves of equal numbers they are all alike.
    if min(var_a, var_b) <= 1e-12:
        return 0.0
    return float(np.clip((sum_ab / n - mean_a * mean_b) / np.sqrt(var_a * var_b), -1.0, 1.0))
