"""Search without training, distil a few candidates, search on with what they taught."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .choosing import TeacherChoice, by_students
from .data import labelled
from .datasets.arrays import Part
from .datasets.dataset import DataSet
from .distilling import distil_student
from .proxies.teacher import Teacher
from .search.calibration.calibrated import CalibratedRank, search_calibrated
from .search.calibration.cost import label_cost
from .search.calibration.folder import admit, write_calibration
from .search.calibration.labels import Label, LabelBook, Labeller, label_all
from .search.calibration.picks import quantile_picks
from .search.calibration.recipe import LABEL_BATCH, LABEL_EPOCHS, MIN_LABELS
from .search.calibration.report import REPORT, calibrated_html
from .search.calibration.request import SearchRequest
from .search.calibration.told import changed, label_rows, rank_told
from .search.outcome import Candidate
from .search.result import SearchResult
from .search.run import Progress
from .search.student import Student
from .searchspace.architecture import Architecture
from .searchspace.errors import InvalidInputError, ScholarchError
from .searchspace.files import held, make_folder, write_atomic
from .searchspace.space import SearchSpace

__all__ = ["Calibration", "find_calibrated", "make_labeller"]

LABELS = "labels.csv"

#: Letters of a teacher's name that a bar of progress has room for.
_LONG = 24


def make_labeller(
    space: SearchSpace, teacher: Teacher, data: DataSet, *, epochs: int, device: str
) -> Labeller:
    """What distils one student from the teacher, and gives its accuracy on the validation part.

    Args:
        space: of the students.
        teacher: real.
        data: with a validation part; the test part is not read.
        epochs: of each distillation.
        device: where.
    """
    # A label is read on the validation part; without a test part none can be read.
    blind = replace(data, test=Part(data.test.images[:0], data.test.labels[:0]))

    def label(arch: Architecture, seed: int) -> float:
        costs = {name: float(column[0]) for name, column in space.cost([arch]).items()}
        found = distil_student(
            Student(arch, space, costs, math.nan, seed=seed),
            teacher=teacher,
            data=blind,
            epochs=epochs,
            seed=seed,
            evaluations=1,
            batch_size=min(LABEL_BATCH, len(data.train.labels)),
            device=device,
        )
        return float(found.student.trained.accuracy["val"]) if found.student.trained else math.nan

    return label


@dataclass(frozen=True)
class Calibration:
    """How labels are made.

    Attributes:
        count: students that are distilled from each teacher.
        epochs: of each; ``None``: :data:`~scholarch.search.calibration.recipe.LABEL_EPOCHS`.
        labeller: teacher → what distils one student and gives its validation accuracy;
            ``None``: :func:`make_labeller`.
        announce: told what the labels will cost, before the first.

    Raises:
        InvalidInputError: if a number is out of its range.
    """

    count: int
    epochs: int | None = None
    labeller: Callable[[Teacher], Labeller] | None = None
    announce: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        if (
            isinstance(self.count, bool)
            or not isinstance(self.count, int)
            or (self.count < MIN_LABELS)
        ):
            raise InvalidInputError(
                f"calibrate = {self.count!r}; need a whole number of at least {MIN_LABELS}"
                " distillations"
            )
        if self.epochs is not None and (
            isinstance(self.epochs, bool) or not isinstance(self.epochs, int) or self.epochs < 1
        ):
            raise InvalidInputError(
                f"calibrate epochs = {self.epochs!r}; need a whole number of at least 1"
            )


def find_calibrated(
    request: SearchRequest,
    calibration: Calibration,
    data: DataSet | None,
    choice: TeacherChoice | None,
    teacher: Teacher | None,
    out: Path | None,
) -> SearchResult:
    """A search whose rank is corrected by a few real distillations, and which goes on with it.

    1. The search without training, whole, in ``out/first``.
    2. ``count`` of its candidates, one from each quantile of its score, are distilled from the
       teacher, the same ones from each of several; ``out/labels.csv`` grows by a line each.
    3. :class:`~scholarch.search.calibration.process.RankProcess` corrects the rank.
    4. The search goes on with the corrected rank in ``out/second``, whose result this is.

    ``out/calibration.json`` holds all numbers, ``out/report.html`` shows what changed,
    ``out/student`` is the pick. Every stage goes on where it was stopped.

    Args:
        request: of both searches.
        calibration: how labels are made.
        data: with a validation part.
        choice: of several teachers.
        teacher: of the search without training.
        out: the folder.

    Raises:
        InvalidInputError: if there is no trained teacher, no validation part or no folder, the
            folder holds something else, or there are too few candidates.
        ScholarchError: if fewer than 3 labels are left without those that failed.
    """
    data, teacher, out = _checked(data, teacher, choice, out)
    epochs = LABEL_EPOCHS if calibration.epochs is None else calibration.epochs
    teachers = (teacher,) if choice is None else choice.teachers
    asked = {
        "calibrate": calibration.count,
        "epochs": epochs,
        "evaluations": request.evaluations,
        "seed": request.seed,
        "teachers": [{"name": t.name, "fingerprint": t.fingerprint} for t in teachers],
    }
    admit(out, asked)
    make_folder(out)
    with held(out):
        told: dict[str, Any] = {"settings": asked, "finished": False}
        if not admit(out, asked):
            write_calibration(out, told)
        first = request.run(teacher, out / "first")
        if first.pick is None:
            first.best  # noqa: B018  (raises, with the reasons)
        picks = _picked(first, calibration.count, request.seed)
        book = LabelBook(out / LABELS)
        told["cost"] = _stated(request, calibration, picks, teachers, book, data, epochs)
        found = {
            one.name: _labels(request, calibration, picks, one, book, data, epochs)
            for one in teachers
        }
        chosen = teacher
        compared: dict[str, Any] = {}
        if choice is not None:
            chosen, compared = by_students(request, choice, found, first)
        labels = found[chosen.name]
        fine = [label for label in labels if label.fine]
        if len(fine) < MIN_LABELS:
            reasons = "; ".join(dict.fromkeys(one.failure for one in labels if not one.fine))
            raise ScholarchError(
                f"{len(fine)} of {len(labels)} distillations from {chosen.name!r} gave a label, too"
                f" few to calibrate by ({reasons}); mend that and remove their lines from"
                f" {out / LABELS}"
            )
        rank = CalibratedRank(first, labels)
        told |= {
            "command": request.command,
            "teacher": chosen.name,
            "labels": label_rows(rank, picks, labels),
            **rank_told(rank),
            **({"teachers": compared} if compared else {}),
        }

        def finish(result: SearchResult) -> None:
            told.update(changed(first, result, rank))
            told["seconds"] = round(
                first.info["seconds"] + sum(one.seconds for one in book) + result.info["seconds"],
                1,
            )
            told["finished"] = True
            result.info["calibration"] = told
            if compared:
                result.info["teachers"] = compared

        second = search_calibrated(request, first, rank, chosen, teacher, out / "second", finish)
        second.best.save_pretrained(out / "student")
        write_calibration(out, told)
        write_atomic(out / REPORT, calibrated_html(first, second, told))
    return second


def _checked(
    data: DataSet | None, teacher: Teacher | None, choice: TeacherChoice | None, out: Path | None
) -> tuple[DataSet, Teacher, Path]:
    """The same, if labels can be made of them; raises with what is missing."""
    if teacher is None:
        raise InvalidInputError(
            "calibrate without a teacher; give --teacher, from which candidates are distilled"
        )
    teachers = (teacher,) if choice is None else choice.teachers
    if random := [one.name for one in teachers if not one.trained]:
        raise InvalidInputError(
            f"calibrate with the untrained teacher {random[0]!r}, which teaches nothing; give its"
            " weights"
        )
    if data is None:
        raise InvalidInputError(
            "calibrate: a batch has no validation part to measure on; give the data set"
        )
    data = labelled(data, [teacher])
    if not len(data.val.labels):
        raise InvalidInputError(
            f"calibrate: data {data.name!r} has no validation images to measure on; give a"
            " validation part, or data from which one can be split off"
        )
    if out is None:
        raise InvalidInputError(
            "calibrate keeps its labels in a folder, so that none is made twice; give out"
        )
    return data, teacher, out.expanduser()


# ---------------------------------------------------------------------- labels


def _picked(first: SearchResult, count: int, seed: int) -> list[Candidate]:
    """One of each quantile of what the first search evaluated, the worst first."""
    scores = np.array([candidate.score for candidate in first.candidates], dtype=np.float64)
    return [first.candidates[i] for i in quantile_picks(scores, count, seed)]


def _stated(
    request: SearchRequest,
    calibration: Calibration,
    picks: Sequence[Candidate],
    teachers: Sequence[Teacher],
    book: LabelBook,
    data: DataSet,
    epochs: int,
) -> dict[str, Any]:
    """What the labels will cost, told before the first of them."""
    archs = [candidate.arch for candidate in picks]
    left = [
        (arch, one.name)
        for one in teachers
        for arch in archs
        if book.get(one.name, arch.key, request.seed) is None
    ]
    images = len(data.train.labels)
    cost = label_cost(
        request.space,
        archs,
        teachers,
        data.batch(min(LABEL_BATCH, images), request.seed),
        images,
        epochs=epochs,
        batch_size=min(LABEL_BATCH, images),
        left=left,
        device=request.device,
    )
    if calibration.announce is not None:
        calibration.announce(str(cost))
    return cost.to_json()


def _labels(
    request: SearchRequest,
    calibration: Calibration,
    picks: Sequence[Candidate],
    teacher: Teacher,
    book: LabelBook,
    data: DataSet,
    epochs: int,
) -> list[Label]:
    """The label of every pick, those from the book first of all."""

    def make() -> Labeller:
        if calibration.labeller is not None:
            return calibration.labeller(teacher)
        space, device = request.space, request.device
        return make_labeller(space, teacher, data, epochs=epochs, device=device)

    def tell(found: Sequence[Label]) -> None:
        if request.progress is not None:
            best = max((x for x in found if x.fine), key=lambda x: x.accuracy, default=None)
            reached = (math.nan, "") if best is None else (best.accuracy, best.arch)
            phase = "distil" if len(teacher.name) > _LONG else f"distil {teacher.name}"
            request.progress(Progress(phase, len(found), len(picks), *reached))

    archs = [candidate.arch for candidate in picks]
    return label_all(book, teacher.name, archs, request.seed, make, tell)
