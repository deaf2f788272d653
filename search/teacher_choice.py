"""Which of several teachers: what can be known of each without a student, and with a few.

The largest teacher is not always the best (Mirzadeh et al., AAAI 2020; Busbridge et al., ICML
2025, the law of capacity gap), and no training-free score is known that knows its teacher
(results/ranking/controls.md). Without distillations teachers are therefore ordered by their own
validation accuracy, and that is said; the similarities that claim to know the teacher are shown
beside the same similarities under teachers that know less. With distillations the same students
are taught by each, and the paired differences decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats

from ..proxies.batch import Batch
from ..proxies.devices import one_thread
from ..proxies.ensemble import TEACHER_SIMILARITIES
from ..proxies.probe import TeacherSide
from ..proxies.registry import get_proxy
from ..proxies.scoring import Scorer
from ..proxies.taps import Taps
from ..proxies.teacher import FORWARD_ERRORS, Teacher, batch_statistics, first_line
from ..searchspace.architecture import Architecture
from ..searchspace.errors import InvalidInputError
from ..searchspace.space import SearchSpace

__all__ = [
    "FIRST",
    "PairedDifference",
    "SimilarityRow",
    "TeacherFacts",
    "by_accuracy",
    "by_labels",
    "examine",
    "similarities",
]

Floats = npt.NDArray[np.float64]

#: Under which the teacher as it is stands among its controls.
FIRST = "trained"

#: τ from which a similarity orders students as it does with a teacher that knows less.
_SAME_ORDER = 0.8

LEVEL = 0.95


@dataclass(frozen=True)
class TeacherFacts:
    """What is known of a teacher without any student.

    Attributes:
        name: of the teacher.
        params: trainable parameters.
        macs: of one image; ``None`` where they cannot be counted.
        fits: whether its classes are as many as the data's.
        trained: whether its weights are.
        accuracy: on validation images, in [0, 1]; NaN where its classes do not fit.
        entropy: mean of its soft labels, in nats, at temperature 1; ln K says nothing at all.
        confidence: mean of its largest probability.
        images: validation images seen.
    """

    name: str
    params: int
    macs: int | None
    fits: bool
    trained: bool
    accuracy: float
    entropy: float
    confidence: float
    images: int

    def to_json(self) -> dict[str, Any]:
        """Plain data; what is unknown is ``None``."""
        return {k: None if _unknown(v) else v for k, v in asdict(self).items()}


@dataclass(frozen=True)
class SimilarityRow:
    """A teacher–student similarity, with the teacher and with what is left of it.

    Attributes:
        score: its name.
        teacher: whose.
        mean: control → mean over the students; ``"trained"`` is the teacher itself.
        tau: control → Kendall's τ between its order of the students and the teacher's.
    """

    score: str
    teacher: str
    mean: Mapping[str, float]
    tau: Mapping[str, float]

    @property
    def holds(self) -> tuple[str, ...]:
        """Controls under which the students' order is the same: what the teacher did not add."""
        return tuple(name for name, tau in self.tau.items() if tau >= _SAME_ORDER)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "score": self.score,
            "teacher": self.teacher,
            "mean": {k: None if _unknown(v) else v for k, v in self.mean.items()},
            "tau": {k: None if _unknown(v) else v for k, v in self.tau.items()},
            "holds": list(self.holds),
        }


@dataclass(frozen=True)
class PairedDifference:
    """The same students of two teachers.

    Attributes:
        better: teacher of the higher mean.
        other: the other one.
        pairs: students that both taught without failing.
        mean: accuracy with ``better`` less with ``other``, mean over pairs, in [0, 1].
        low: of the 95 % interval of that mean (Student's t).
        high: likewise.
    """

    better: str
    other: str
    pairs: int
    mean: float
    low: float
    high: float

    @property
    def distinguishable(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0.0

    def __str__(self) -> str:
        verdict = "better" if self.distinguishable else "not distinguishable"
        return (
            f"students of {self.better!r} against those of {self.other!r}:"
            f" {100 * self.mean:+.2f} points"
            f" (95 % {100 * self.low:+.2f} … {100 * self.high:+.2f}, {self.pairs} pairs), {verdict}"
        ).replace("-", "\N{MINUS SIGN}")

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "distinguishable": self.distinguishable}


def examine(teacher: Teacher, batches: Sequence[Batch]) -> TeacherFacts:
    """Measure a teacher on validation images.

    Args:
        teacher: any.
        batches: validation images; none: only its size is known.

    Raises:
        InvalidInputError: if the network does not run on such images.
    """
    right = entropy = confidence = 0.0
    images = 0
    fits = bool(batches) and teacher.num_classes == batches[0].num_classes
    with one_thread(), torch.no_grad(), batch_statistics(teacher.module, not teacher.trained):
        for batch in batches if teacher.num_classes is not None else ():
            try:
                logits = teacher.module(teacher.prepare(batch)).float()
            except FORWARD_ERRORS as error:
                raise InvalidInputError(
                    f"teacher {teacher.name!r} does not run on images of {batch.name!r}:"
                    f" {first_line(error)}; leave it out"
                ) from error
            logs = logits.log_softmax(dim=1)
            entropy += float(-(logs.exp() * logs).sum())
            confidence += float(logs.exp().max(dim=1).values.sum())
            right += float((logits.argmax(dim=1) == batch.labels).sum()) if fits else 0.0
            images += len(batch)
    seen = images or math.nan
    return TeacherFacts(
        name=teacher.name,
        params=teacher.params,
        macs=teacher.macs,
        fits=fits,
        trained=teacher.trained,
        accuracy=right / seen if fits else math.nan,
        entropy=entropy / seen,
        confidence=confidence / seen,
        images=images,
    )


def by_accuracy(facts: Sequence[TeacherFacts]) -> tuple[list[int], str]:
    """Places of teachers, the first choice first, and what that order rests on.

    By validation accuracy, of equals the smaller; teachers without one come last, in the order
    in which they were given.
    """
    order = sorted(
        range(len(facts)),
        key=lambda i: (
            not facts[i].trained,
            -facts[i].accuracy if math.isfinite(facts[i].accuracy) else math.inf,
            facts[i].params if math.isfinite(facts[i].accuracy) else 0,
            i,
        ),
    )
    chosen = facts[order[0]]
    if math.isfinite(chosen.accuracy):
        return order, (
            f"{chosen.name!r} was chosen for its own validation accuracy, {chosen.accuracy:.1%},"
            " and for nothing else: no score without training is known to tell which teacher"
            " teaches better. --calibrate N distils the same N students from each."
        )
    return order, (
        f"{chosen.name!r} was taken because it was named first: no teacher's classes fit the data,"
        " and no score without training is known to tell which teaches better."
    )


def by_labels(
    accuracies: Mapping[str, Floats],
) -> tuple[list[str], list[PairedDifference]]:
    """Names of teachers, the one of the best students first, and it against each other.

    Args:
        accuracies: teacher → accuracy of the same students in the same order, ``[N]``; NaN =
            failed. Only students that none failed with count.

    Raises:
        InvalidInputError: if fewer than 2 students are left.
    """
    table = np.stack(list(accuracies.values()))
    table = table[:, np.isfinite(table).all(axis=0)]
    if table.shape[1] < 2:
        raise InvalidInputError(
            f"{table.shape[1]} students were distilled from every teacher; need at least 2 to"
            " compare teachers: ask for more, or leave the failing teacher out"
        )
    names = list(accuracies)
    means = table.mean(axis=1)
    order = sorted(range(len(names)), key=lambda i: (-means[i], i))
    first = order[0]
    found = []
    for i in order[1:]:
        gaps = table[first] - table[i]
        half = stats.t.ppf((1 + LEVEL) / 2, len(gaps) - 1) * gaps.std(ddof=1) / len(gaps) ** 0.5
        mean = float(gaps.mean())
        found.append(
            PairedDifference(
                names[first], names[i], len(gaps), mean, mean - float(half), mean + float(half)
            )
        )
    return [names[i] for i in order], found


def similarities(
    space: SearchSpace,
    archs: Sequence[Architecture],
    teacher: str,
    guides: Mapping[str, Callable[[], Taps]],
    batch: Batch,
    seed: int,
) -> list[SimilarityRow]:
    """The scores that claim to know the teacher, under the teacher and under its controls.

    Args:
        space: of the students.
        archs: students.
        teacher: its name.
        guides: ``"trained"`` and names of controls → what that teacher says of the batch.
        batch: real images.
        seed: of the students' weights.
    """
    columns: dict[str, dict[str, Floats]] = {}
    for control, taps in guides.items():
        side = TeacherSide(taps(), batch.labels)
        names = [
            name
            for name in TEACHER_SIMILARITIES
            if (check := get_proxy(name).check) is None or not check(side, space.num_classes)
        ]
        if names:
            scorer = Scorer(space, names, batch=batch, teacher=taps(), seed=seed)
            table = scorer.table(archs)
            for name in names:
                columns.setdefault(name, {})[control] = table[name]
    return [
        SimilarityRow(
            name,
            teacher,
            {control: float(np.mean(column)) for control, column in found.items()},
            {
                control: float(stats.kendalltau(found[FIRST], column).statistic)
                for control, column in found.items()
                if control != FIRST
            },
        )
        for name, found in columns.items()
        if FIRST in found
    ]


def _unknown(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
