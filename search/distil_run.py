"""A distillation in its folder, stage by stage: choose a distiller, train, compare, hand over."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..proxies.teacher import Teacher
from ..searchspace.architecture import Architecture
from ..supernet.distil.choose import (
    CANDIDATES,
    RUNGS,
    Tried,
    budget_of,
    choose_distiller,
)
from ..supernet.distil.run import STUDENT, StudentRun, load_best
from ..supernet.distil.settings import NO_DISTILLER, DistilSettings
from ..supernet.distil.trainer import StudentTrainer
from ..supernet.folder import admit, read_train, write_train
from ..supernet.score import ACCURACY
from ..supernet.session import Progress
from ..supernet.task import task_of
from .conducted import ConductedRun
from .distil_task import Task, new_record
from .distilled import BASELINE, CHOOSE, DISTILLATION, answers_of, judged, teachers_answers

__all__ = ["DistilProgress", "Distillation"]

_TRY = "try"


@dataclass(frozen=True)
class DistilProgress:
    """How far a distillation is.

    Attributes:
        stage: ``"rung 1 of 3"``, ``"student"`` or ``"hand-made"``.
        what: the distiller.
        done: steps of the stage that are done.
        total: steps of the stage.
        loss: of the last one.
        best: validation accuracy so far, in [0, 1], or agreement, in [-1, 1]; NaN before the
            first.
        score: which of the two.
    """

    stage: str
    what: str
    done: int
    total: int
    loss: float
    best: float
    score: str = ACCURACY


class Distillation:
    """Conducts a task in a folder that is held; every stage goes on where it was stopped.

    Args:
        task: what.
        folder: where.
        record: its ``distil.json`` so far.
        kept: whether the folder stays: then a signal ends a stage with a checkpoint.
        progress: called after every step, on the first rank.

    Attributes:
        told: the content of ``distil.json``.
    """

    def __init__(
        self,
        task: Task,
        folder: Path,
        record: Mapping[str, Any],
        *,
        kept: bool,
        progress: Callable[[DistilProgress], None] | None,
    ) -> None:
        self.task, self.folder, self._kept, self._progress = task, folder, kept, progress
        self.told: dict[str, Any] = dict(record)

    def run(self, baseline: Architecture | None) -> None:
        """Do what is not done yet.

        Args:
            baseline: the hand-made network that is to be trained beside the student.

        Raises:
            DivergedError: if a loss or a weight is no number; the last checkpoint stays.
            KeyboardInterrupt: by Ctrl-C or SIGTERM; likewise.
            StoreError: if the disk is full; likewise.
        """
        task, told = self.task, self.told
        due = baseline is not None and not told.get("baseline")
        if told.get("finished") and not due:
            return
        if not told.get("finished"):
            self._write()
            task.world.barrier()
            settings = self._settled()
            self._train("student", task.student.arch, settings, self.folder, told)
        settings = self._settled()
        if baseline is not None and due:
            folder = self.folder / BASELINE
            asked = task.asked(baseline, task.network(baseline)[1])
            asked["settings"]["distiller"] = settings.distiller
            record = admit(folder, asked, resume=True, kind=DISTILLATION)
            record = record or new_record(task, asked, str(told["command"]))
            folder.mkdir(parents=True, exist_ok=True)
            if task.world.leads:
                write_train(folder, record, DISTILLATION)
            self._train("hand-made", baseline, settings, folder, record)
        if task.world.leads:
            self._judge(baseline if due else None)
            self._write(finished=True)
        task.world.barrier()
        if not task.world.leads:
            self.told = read_train(self.folder, DISTILLATION)

    def _write(self, **more: Any) -> None:
        self.told |= more
        if self.task.world.leads:
            write_train(self.folder, self.told, DISTILLATION)

    # ------------------------------------------------------------------ training

    def _train(
        self,
        stage: str,
        arch: Architecture,
        settings: DistilSettings,
        folder: Path,
        record: dict[str, Any],
        *,
        told: Callable[[Progress], None] | None = None,
    ) -> StudentRun:
        """Train one network to its end in a folder."""
        task = self.task
        trainer = StudentTrainer(
            task.student.space,
            arch,
            task.network(arch)[0],
            task.data,
            settings,
            teachers=tuple(task.teachers.values()) if settings.teaches else (),
            folder=self.folder,  # one file of answers for all
            world=task.world,
        )
        runs: list[StudentRun] = []

        def make(progress: Callable[[Progress], None]) -> StudentRun:
            runs.append(StudentRun(trainer, folder, progress=progress))
            return runs[0]

        record["distiller"], record["steps"] = settings.distiller, trainer.plan.steps
        title = f"{stage} {arch.text}" if len(arch.text) < 40 else stage
        conducted = ConductedRun(
            make,
            folder,
            record,
            kind=DISTILLATION,
            told=told or partial(self._tell, stage, settings.distiller),
            title=f"{title} on {task.data.name}, distiller {settings.distiller}",
            drawn=self._kept and stage != _TRY,
        )
        # The student's record is finished when all is compared.
        conducted.go(kept=self._kept, finish=record is not self.told)
        return runs[0]

    def _tell(self, stage: str, what: str, step: Progress) -> None:
        if self._progress is not None:
            at = (step.step, step.steps, step.loss, step.best, step.score)
            self._progress(DistilProgress(stage, what, *at))

    # ------------------------------------------------------------------ choosing

    def _settled(self) -> DistilSettings:
        """Settings with the distiller that was asked for or picked."""
        settings = self.task.settings
        if not self.task.automatic:
            return settings
        if "choice" not in self.told:
            self._choose()
        picked = self.told["choice"]["distiller"]
        labels = None if picked == NO_DISTILLER else settings.labels
        return replace(settings, distiller=picked, options={}, labels=labels)

    def _choose(self) -> None:
        settings, images = self.task.settings, len(self.task.data.val.labels)
        self.told["choosing"] = {
            "candidates": list(CANDIDATES),
            "rungs": list(RUNGS),
            "runs": budget_of(),
        }
        self._write()
        choice = choose_distiller(self._attempt, settings, images)
        self._write(choice=choice.to_json())
        self.task.world.barrier()
        if self.task.world.leads:
            shutil.rmtree(self.folder / CHOOSE, ignore_errors=True)

    def _attempt(self, settings: DistilSettings, rung: int) -> Tried:
        name = settings.distiller
        arch = self.task.student.arch
        folder = self.folder / CHOOSE / f"{rung}-{name}"
        record: dict[str, Any] = {"distiller": name, "rung": rung}
        folder.mkdir(parents=True, exist_ok=True)
        told = partial(self._tell, f"rung {rung} of {len(RUNGS)}: {name}", name)
        run = self._train(_TRY, arch, settings, folder, record, told=told)
        trainer = run.trainer
        reached = float(run.history[-1]["mean"])
        return Tried(
            name, rung, reached, trainer.next_step, trainer.macs_passed, round(run.seconds, 2)
        )

    # ------------------------------------------------------------------ comparing

    def _judge(self, baseline: Architecture | None) -> None:
        """Measure what was not measured yet; the test part is read once, for all together."""
        task, told = self.task, self.told
        device = torch.device(task.settings.train.device)
        waiting: dict[str, tuple[Architecture, Path]] = {}
        if not told.get("student"):
            waiting["student"] = (task.student.arch, self.folder)
        if baseline is not None:
            waiting["baseline"] = (baseline, self.folder / BASELINE)
        answers = {}
        for name, (arch, folder) in waiting.items():
            network = task.student.space.build(arch, seed=0)
            load_best(network, folder / STUDENT, arch)
            answers[name] = answers_of(network.eval(), task.data, device)
        # No student or teacher is called like the other.
        measured = told.get("measured")
        guides = teachers_answers(task.teachers, task.data, device) if measured is None else {}
        everyone = answers | {f"teacher {name}": answer for name, answer in guides.items()}
        test = judged(everyone, task.data, "test", device)
        val = judged(everyone, task.data, "val", device)
        for name, (arch, _) in waiting.items():
            costs = task.student.space.cost([arch], resolution=task.data.resolution)
            told[name] = {
                "arch": arch.text,
                "params": float(costs["params"][0]),
                "macs": float(costs["macs"][0]),
                "val": val.get(name),
                "test": test.get(name),
            }
        if measured is None:
            told["measured"] = {
                name: {
                    **_teacher_costs(task.teachers, name, task.data.resolution),
                    "val": val.get(f"teacher {name}"),
                    "test": test.get(f"teacher {name}"),
                }
                for name in guides
            }
        told["notes"] = _notes(task, told)
        told["score"] = task_of(task.data.train.labels).score
        told["parts"] = {part: len(getattr(task.data, part).labels) for part in ("val", "test")}


def _notes(task: Task, told: Mapping[str, Any]) -> list[str]:
    """What a reader has to know."""
    notes = []
    if told.get("baseline") and task.init == "trained":
        notes.append(
            "The hand-made network started from scratch: the student alone had trained weights."
        )
    if task.teachers and told["distiller"] == NO_DISTILLER:
        notes.append("Nothing was learned from the teacher; it is measured for comparison.")
    notes += [
        f"Teacher {name!r} has random weights."
        for name, teacher in task.teachers.items()
        if not teacher.trained
    ]
    return notes


def _teacher_costs(
    teachers: Mapping[str, Teacher], name: str, resolution: int
) -> dict[str, float | None]:
    """Of one teacher, or of all together."""
    chosen = [teachers[name]] if name in teachers else list(teachers.values())
    macs = [one.macs_at(resolution) for one in chosen]
    return {
        "params": float(sum(one.params for one in chosen)),
        "macs": None if None in macs else float(sum(one or 0 for one in macs)),
    }
