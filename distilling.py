"""Distillation as one function: a searched student in, a trained one out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .data import DataSet, labelled, load_data
from .proxies.batch import Batch
from .proxies.devices import find_device
from .proxies.teacher import Teacher
from .search.conducted import join_world
from .search.distil_command import distil_line
from .search.distil_pages import write_reports
from .search.distil_run import Distillation, DistilProgress
from .search.distil_task import AUTO, INITS, Task, for_targets, named_teachers, new_record
from .search.distilled import (
    DISTILLATION,
    Distilled,
    distilled_student,
    hand_made_student,
    read_record,
)
from .search.hand_made import hand_made
from .search.origin import Origin, read_origin
from .search.student import Student
from .searchspace.errors import InvalidInputError
from .searchspace.files import held
from .supernet.distil.choose import REFERENCE
from .supernet.distil.distiller import answers_only
from .supernet.distil.guides import Guides
from .supernet.distil.settings import DistilSettings
from .supernet.folder import admit
from .supernet.loader import batches, part_fingerprint
from .supernet.session import check_patience
from .supernet.task import has_targets
from .supernet.world import World
from .teacher import load_teacher
from .teachers.bundled import BUNDLED

__all__ = ["Distilled", "distil_student"]

TeacherSpec = Teacher | nn.Module | str | Path


def distil_student(
    student: Student | str | Path,
    *,
    teacher: TeacherSpec | list[TeacherSpec] | tuple[TeacherSpec, ...] | None = None,
    data: Any = None,
    out: str | Path | None = None,
    distiller: str = "kd",
    options: Mapping[str, Any] | None = None,
    labels: float | None = None,
    init: str = "scratch",
    epochs: float | None = None,
    seed: int = 0,
    resume: bool = False,
    baseline: bool = False,
    average: float = 0.0,
    int8: bool = False,
    world: World | None = None,
    command: str | None = None,
    progress: Callable[[DistilProgress], None] | None = None,
    **settings: Any,
) -> Distilled:
    """Train a student by its teacher's answers.

    Args:
        student: a student, the folder of a search (refined and calibrated ones too), or a folder
            that :meth:`Student.save_pretrained` wrote.
        teacher: one, or several whose probabilities are averaged; default the run's own.
        data: as :func:`~scholarch.load_data` takes it; default the run's own. Of the test part
            accuracies are measured once, at the end, and nothing else is done with it.
        out: folder of the distillation, which can be stopped and gone on with; default ``distil``
            in the run's folder, and of a student in memory nothing is kept.
        distiller: see :func:`~scholarch.supernet.distil.factory.list_distillers`; ``"none"`` learns
            from labels alone; ``"auto"`` tries several on a short budget and picks one. Of data
            without classes ``"kd"``, the default, gives way to ``"cosine"``.
        options: of the distiller; defaults are its paper's.
        labels: weight of the cross-entropy with the labels; default the distiller's.
        init: first weights: ``"scratch"``, ``"trained"``, those that the student has from a
            supernet, or ``"teacher"``, selected from the first teacher's.
        epochs: passes over the training part; default 60.
        seed: of everything random; on a CPU equal seeds and threads give equal weights.
        resume: go on with an unfinished run in ``out``; where none is, one begins.
        baseline: train the hand-made network of the student's size by the same recipe, too.
        average: decay of averaged weights that are evaluated and handed over; 0: none.
        int8: train with weights and inputs rounded as an int8 export will; the network that is
            handed over is float.
        world: ranks; default what ``torchrun`` says in the environment, else one process.
        command: the shell line that repeats the run, for ``distil.json``.
        progress: called after every step, on the first rank.
        **settings: see :class:`~scholarch.supernet.settings.TrainSettings`: ``macs`` in place of
            ``epochs``, ``batch_size``, ``lr``, ``augment``, ``evaluations``, ``patience``,
            ``device``, ``precision``, ``compile`` and more.

    Returns:
        The student as it was best on the validation part. ``out`` holds it as ``student``, with
        ``distil.json``, ``history.csv``, ``curves.svg``, checkpoints and a report.

    Raises:
        UnknownNameError: for an unknown name; near ones are offered.
        InvalidInputError: if student, teacher, data and settings do not fit together, what a run
            was searched with cannot be had again, or ``out`` holds another run or an unfinished
            one without ``resume``.
        DivergedError: if the loss is no number; the last checkpoint stays.
        StoreError: if ``out`` cannot be written.
        KeyboardInterrupt: by Ctrl-C or SIGTERM, after the step at hand; a checkpoint is kept.

    Example:
        >>> import scholarch
        >>> result = scholarch.find_student(
        ...     space="resnet-cifar-s0", data="digits", budget={"params": 1e5}, evaluations=2,
        ...     batch_size=8, proxies=["macs"],
        ... )
        >>> found = scholarch.distil_student(
        ...     result.best, teacher="resnet14-digits", data="digits", epochs=0.05, evaluations=1
        ... )
        >>> sorted(found.student.trained.accuracy)
        ['test', 'val']
    """
    given = {"epochs": epochs, "seed": seed, **settings}
    chosen = _settings(distiller, options, labels, average, int8, given)
    if init not in INITS:
        raise InvalidInputError(f"--init {init!r}; one of {', '.join(INITS)}")
    find_device(chosen.train.device)
    if isinstance(student, Student):
        origin, pupil = None, student
    else:
        origin = read_origin(student)
        pupil = origin.student
    dataset = _data(data, origin)
    teachers = named_teachers(_teachers(teacher, origin, dataset), distiller, dataset)
    dataset = labelled(dataset, list(teachers.values()))
    if has_targets(dataset.train.labels):
        distiller, chosen = for_targets(distiller, chosen, dataset)
    _check(pupil, dataset)
    for guide in teachers.values():
        # Before hours are spent: one that does not fit the data says so at two images.
        wordless = guide.num_classes is None and not has_targets(dataset.train.labels)
        asked_for = distiller == AUTO or not chosen.teaches or answers_only(distiller)
        look = Guides([guide], dataset, torch.device("cpu"), logits=asked_for)
        two = next(batches(dataset.train, 2))
        (look.taps if wordless else look.logits)(*two)
    check_patience(chosen.train, dataset)
    if distiller == AUTO and not len(dataset.val.labels):
        raise InvalidInputError(
            f"--distiller auto chooses on validation images, and data {dataset.name!r} have none;"
            " name one, e.g. --distiller kd"
        )
    hand = hand_made(pupil.space, pupil.arch) if baseline else None
    if out is None and origin is not None:
        out = origin.folder / "distil"
    with ExitStack() as stack:
        if world is None:
            world = join_world(chosen.train.device, stack)
        if out is None and world.distributed:
            raise InvalidInputError(f"{world.size} processes need a folder to share; give out")
        folder = Path(out or stack.enter_context(tempfile.TemporaryDirectory())).expanduser()
        task = Task(pupil, dataset, teachers, chosen, distiller == AUTO, init, world)
        asked = task.asked(pupil.arch, task.network(pupil.arch)[1])
        before = admit(folder, asked, resume=resume, kind=DISTILLATION)
        if world.leads:
            stack.enter_context(held(folder))
            before = admit(folder, asked, resume=resume, kind=DISTILLATION)  # nobody in between
        world.barrier()
        line = command or distil_line(student, teachers, dataset.name, asked, baseline, out)
        record = before or new_record(task, asked, line)
        run = Distillation(task, folder, record, kept=out is not None, progress=progress)
        run.run(hand)
        told, history = read_record(folder)
        found = distilled_student(pupil, dataset, folder, told, told["student"])
        rival = hand_made_student(pupil, dataset, folder, told) if told.get("baseline") else None
        if world.leads and out is not None:
            if not (before.get("finished") and (folder / "student" / "config.json").is_file()):
                found.save_pretrained(folder / "student")
            write_reports(folder, None if origin is None else origin.folder)
        world.barrier()
    kept = None if out is None else folder
    return Distilled(found, history, told.get("measured") or {}, rival, told, kept)


# ---------------------------------------------------------------------- what is given


def _settings(
    distiller: str,
    options: Mapping[str, Any] | None,
    labels: float | None,
    average: float,
    int8: bool,
    settings: Mapping[str, Any],
) -> DistilSettings:
    if distiller == AUTO and options:
        raise InvalidInputError(
            f"--distiller auto with options {dict(options)}, which are one distiller's; name it"
        )
    return DistilSettings(
        distiller=REFERENCE if distiller == AUTO else distiller,
        options=dict(options or {}),
        labels=labels,
        average=average,
        int8=int8,
        train=DistilSettings.recipe(**settings),
    )


def _data(data: Any, origin: Origin | None) -> DataSet:
    """The data set that is given, or the run's own, which has to be what it was."""
    if isinstance(data, Batch):
        raise InvalidInputError("a batch is too little to learn from; give the data set")
    if data is not None:
        return load_data(data)
    if origin is None or origin.settings is None:
        raise InvalidInputError(
            "a student by itself does not know what to learn; give --data and --teacher"
        )
    try:
        dataset = load_data(origin.data)
        here = _fingerprint(dataset, origin)
    except InvalidInputError as error:
        raise InvalidInputError(
            f"data {origin.data!r}, with which {origin.folder} was searched, cannot be had again"
            f" ({error}); give --data"
        ) from error
    if here != (there := origin.settings.data["fingerprint"]):
        raise InvalidInputError(
            f"data {origin.data!r} are others than those with which {origin.folder} was searched"
            f" (fingerprint {there} there, {here} here); put those back, or give --data"
        )
    return dataset


def _fingerprint(data: DataSet, origin: Origin) -> str:
    """As the run's settings have it."""
    settings = origin.settings
    if settings is None or settings.supernet is not None:
        return part_fingerprint(data.train) + part_fingerprint(data.val)
    return data.batch(settings.data["size"], settings.seed).fingerprint


def _teachers(
    teacher: TeacherSpec | list[TeacherSpec] | tuple[TeacherSpec, ...] | None,
    origin: Origin | None,
    data: DataSet,
) -> list[Teacher]:
    """The teachers that are given, or the run's own, who has to be who it was."""
    if isinstance(teacher, list | tuple):
        return [load_teacher(one, classes=data) for one in teacher]
    if teacher is not None:
        return [load_teacher(teacher, classes=data)]
    there = None if origin is None or origin.settings is None else origin.settings.teacher
    if origin is None or there is None:
        # A search on a supernet has no teacher.
        return [load_teacher(BUNDLED)] if data.name == "digits" else []
    given = dict(origin.teacher)
    try:
        guide = load_teacher(
            given["teacher"],
            weights=given["weights"],
            untrained=given["untrained"],
            classes=data,
        )
    except InvalidInputError as error:
        raise InvalidInputError(
            f"teacher {there['name']!r} of the search in {origin.folder} cannot be had again"
            f" ({error}); give --teacher"
        ) from error
    if not guide.trained:
        raise InvalidInputError(
            f"teacher {guide.name!r} of the search in {origin.folder} has random weights, and"
            " nothing to teach; give --teacher"
        )
    if not given["tap"] and guide.fingerprint != there["fingerprint"]:
        raise InvalidInputError(
            f"teacher {guide.name!r} is another than in the search in {origin.folder} (fingerprint"
            f" {there['fingerprint']} there, {guide.fingerprint} here); put that one back, or give"
            " --teacher"
        )
    return [guide]


def _check(student: Student, data: DataSet) -> None:
    """Refuse a student whose network does not take such images, or names other classes."""
    space = student.space
    outputs = "outputs" if has_targets(data.train.labels) else "classes"
    for what, has, given in (
        (outputs, space.num_classes, data.num_classes),
        ("channels", space.in_channels, len(data.mean)),
    ):
        if has != given:
            raise InvalidInputError(
                f"student {student.arch.text!r} has {has} {what}, data {data.name!r} has {given};"
                " search with these data"
            )
