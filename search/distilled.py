"""What a distillation ends with: the student, and its accuracy beside its teacher's."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..proxies.teacher import Teacher
from ..searchspace.errors import InvalidInputError
from ..supernet.checkpoint import read_checkpoint
from ..supernet.distil.guides import Guides
from ..supernet.distil.run import STUDENT, load_best
from ..supernet.distil.settings import NO_DISTILLER
from ..supernet.evaluate import BATCH, part_of
from ..supernet.folder import Kind, read_train
from ..supernet.loader import LabelledImages, batches, normalise
from ..supernet.score import ACCURACY
from ..supernet.session import LAST
from ..supernet.task import has_targets, meter_of
from .student import Student, TrainedWeights

__all__ = [
    "BASELINE",
    "CHOOSE",
    "DISTILLATION",
    "Distilled",
    "answers_of",
    "distilled_student",
    "hand_made_student",
    "judged",
    "read_record",
    "teachers_answers",
]

CHOOSE = "choose"
"""Where distillers are tried, in a distillation's folder; gone once one is chosen."""

BASELINE = "baseline"
"""Where the hand-made network is trained, likewise."""

DISTILLATION = Kind(
    "distillation",
    "distil.json",
    STUDENT,
    ("space", "arch", "data", "teachers", "start", "world", "settings"),
    (LAST, CHOOSE),
)

Answers = Callable[[Tensor, Tensor], Tensor]

_TOLD = (
    "distiller",
    "choice",
    "student",
    "baseline",
    "measured",
    "parts",
    "steps_done",
    "macs_passed",
    "seconds",
    "notes",
)


@dataclass(frozen=True, eq=False)
class Distilled:
    """A distilled student, and how it came about.

    Attributes:
        student: with its weights; ``student.trained.accuracy`` has ``val`` and ``test``, where the
            data have such parts.
        history: one line an evaluation: step, MACs passed, loss, validation accuracy in [0, 1].
        teachers: name → ``params``, ``macs``, ``val`` and ``test`` of every teacher, and of their
            mean answer where there are several; empty without one.
        baseline: the hand-made network of the same size, by the same recipe; ``None`` where it was
            not asked for.
        told: all numbers, as ``distil.json`` has them.
        out: the folder; ``None`` in memory.
    """

    student: Student
    history: Sequence[Mapping[str, Any]]
    teachers: Mapping[str, Mapping[str, Any]]
    baseline: Student | None
    told: Mapping[str, Any]
    out: Path | None

    @property
    def distiller(self) -> str:
        """By which it learned; the chosen one where that was ``auto``."""
        return str(self.told["distiller"])

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        told = {name: self.told.get(name) for name in _TOLD}
        return {**told, "out": None if self.out is None else str(self.out)}


def judged(
    networks: Mapping[str, Answers], data: LabelledImages, part: str, device: torch.device
) -> dict[str, float]:
    """Accuracy of each on a part, or agreement with targets; the part is read once for all.

    Args:
        networks: name → images in [0, 1], ``[B, C, H, W]``, and labels to logits ``[B, K]``.
        data: images.
        part: ``"val"`` or ``"test"``; an empty one gives nothing.
        device: where.
    """
    if not networks or not len(getattr(data, part).labels):
        return {}
    meters = {name: meter_of(data.train.labels) for name in networks}
    for images, labels in batches(part_of(data, part), BATCH, device=device):
        for name, answer in networks.items():
            meters[name].add(answer(images, labels), labels)
    return {name: meter.value() for name, meter in meters.items()}


def answers_of(network: nn.Module, data: LabelledImages, device: torch.device) -> Answers:
    """What a student in eval mode answers to images in [0, 1]."""
    placed = network.to(device)

    def answer(images: Tensor, _labels: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = placed(normalise(images, data.mean, data.std))
        return logits

    return answer


def teachers_answers(
    named: Mapping[str, Teacher], data: LabelledImages, device: torch.device
) -> dict[str, Answers]:
    """What each teacher answers, and all together where there are several.

    A teacher of features alone has nothing to say of classes.
    """
    if not has_targets(data.train.labels):
        named = {name: one for name, one in named.items() if one.num_classes is not None}
    found: dict[str, Answers] = {
        name: Guides([teacher], data, device).logits for name, teacher in named.items()
    }
    if len(named) > 1:
        found[" + ".join(named)] = Guides(list(named.values()), data, device).logits
    return found


def distilled_student(
    student: Student,
    data: LabelledImages,
    folder: Path,
    told: Mapping[str, Any],
    reached: Mapping[str, Any],
) -> Student:
    """A student with the weights of a finished run.

    Args:
        student: its architecture, costs and scores.
        data: of the run.
        folder: where its best weights are.
        told: the distillation's record.
        reached: accuracies on ``val`` and ``test``, ``None`` where there are no such images.

    Raises:
        InvalidInputError: if the weights are missing or damaged.
    """
    network = student.space.build(student.arch, seed=student.seed)
    load_best(network, folder / STUDENT, student.arch)
    network.eval()
    accuracy = {name: reached[name] for name in ("val", "test") if reached.get(name) is not None}
    teachers = None if told["distiller"] == NO_DISTILLER else ", ".join(told["teachers"])
    about = {
        "by": _by(told, teachers),
        "teacher": teachers,
        "data": data.name,
        "input": {"mean": list(data.mean), "std": list(data.std)},
        "distiller": told["distiller"],
        "start": told["start"]["init"],
        "settings": told["settings"],
        **({"score": told["score"]} if told.get("score", ACCURACY) != ACCURACY else {}),
        "accuracy of the teacher": {
            name: {part: one[part] for part in ("val", "test")}
            for name, one in (told.get("measured") or {}).items()
        },
    }
    weights = TrainedWeights(lambda: copy.deepcopy(network), accuracy, about)
    return replace(student, trained=weights)


def hand_made_student(
    student: Student, data: LabelledImages, folder: Path, told: Mapping[str, Any]
) -> Student:
    """The hand-made network as it was trained beside a student; arguments as above."""
    space, reached = student.space, told["baseline"]
    arch = space.parse(reached["arch"])
    costs = {name: float(column[0]) for name, column in space.cost([arch]).items()}
    plain = Student(arch, space, costs, math.nan, seed=student.seed)
    return distilled_student(plain, data, folder / BASELINE, told, reached)


def read_record(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """``distil.json`` of a finished distillation, and its history in full precision.

    Raises:
        InvalidInputError: if a file is missing or damaged, or the run is not finished.
    """
    told = read_train(folder, DISTILLATION)
    if not told.get("finished"):
        raise InvalidInputError(
            f"the distillation in {folder} is not finished; run the same command with --resume"
        )
    return told, list(read_checkpoint(folder / LAST)[1]["state"]["history"])


def _by(told: Mapping[str, Any], teachers: str | None) -> str:
    """How the weights came about, in a line."""
    epochs = told["settings"].get("epochs")
    length = f"{told['steps_done']:,} steps" if epochs is None else f"{epochs:g} epochs"
    start = {"scratch": "from scratch", "trained": "from the weights it had"}.get(
        told["start"]["init"], "from weights selected from the teacher's"
    )
    how = "by labels alone" if teachers is None else f"by {told['distiller']} from {teachers}"
    chosen = "; best by validation" if told["parts"]["val"] else ""
    read = ", test read once" if told["parts"]["test"] else ""
    return f"trained {start} {how}, {length}{chosen}{read}"
