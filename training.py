"""Supernet training as one function: names in, a trained supernet out."""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from torch import nn

from .data import labelled, load_data
from .deriving import space_of_data
from .proxies.devices import find_device
from .proxies.teacher import Teacher
from .search.conducted import ConductedRun, join_world
from .search.weights import weights_fingerprint
from .searchspace.errors import InvalidInputError, UnknownNameError
from .searchspace.files import held
from .searchspace.space import SearchSpace
from .supernet.folder import admit, write_train
from .supernet.pretrained import Supernet, load_supernet
from .supernet.record import describe_data, describe_run, shell_line
from .supernet.session import Progress, TrainingRun, check_patience
from .supernet.settings import TrainSettings
from .supernet.trained import Landmark, TrainedSupernet
from .supernet.trainer import Trainer
from .supernet.world import World
from .teacher import load_teacher

__all__ = ["train_supernet"]


def train_supernet(
    *,
    space: SearchSpace | str | None = None,
    start: Supernet | str | Path | None = None,
    data: Any,
    schedule: str = "delayed",
    out: str | Path | None = None,
    teacher: Teacher | nn.Module | str | Path | None = None,
    seed: int = 0,
    resume: bool = False,
    space_options: Mapping[str, Any] | None = None,
    world: World | None = None,
    command: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    **settings: Any,
) -> TrainedSupernet:
    """Train all networks of a space at once, in one set of shared weights.

    Args:
        space: a space or its registered name, made for the data's classes and resolution; default
            that of ``start``, or the one made from a Transformer teacher.
        start: a supernet whose weights training begins with: what ``load_supernet`` reads or
            ``inherit_supernet`` makes. It brings its space.
        data: a name such as ``"digits"`` or ``"fashion-mnist"``, a ``.npz`` file, an image
            folder, tensors or a data set. The test part is never read.
        schedule: registered name, see :func:`~scholarch.supernet.factory.list_schedules`.
        out: folder of the run, which can be stopped and gone on with; default in memory.
        teacher: an external teacher, whose answers all networks learn; default the largest
            network is the teacher of the others, as the schedule says. Of data without labels,
            text or sound, its answers are the labels.
        seed: of everything random; on a CPU equal seeds and threads give equal weights.
        resume: go on with an unfinished run in ``out``; where none is, one begins.
        space_options: what the space's factory takes beside classes and resolution, e.g.
            ``{"width_mult": 0.5}``.
        world: ranks; default what ``torchrun`` says in the environment, else one process.
        command: the shell line that repeats the run, for ``train.json``.
        progress: called after every step, on the first rank.
        **settings: see :class:`~scholarch.supernet.settings.TrainSettings`: ``epochs`` or
            ``macs``, ``batch_size``, ``lr``, ``augment``, ``options`` of the schedule,
            ``evaluations``, ``patience``, ``device``, ``precision``, ``compile`` and more.

    Returns:
        The network as it was best on the validation part, in eval mode, and the history.
        ``out`` holds it as ``supernet.safetensors``, which ``load_supernet(out)`` reads.

    Raises:
        UnknownNameError: for an unknown name; near ones are offered.
        InvalidInputError: if space, data, teacher and settings do not fit together, or
            ``out`` holds another run or an unfinished one without ``resume``.
        DivergedError: if the loss is no number; the last checkpoint stays.
        StoreError: if ``out`` cannot be written.
        KeyboardInterrupt: by Ctrl-C or SIGTERM, after the step at hand; a checkpoint is kept.

    Example:
        >>> import scholarch
        >>> net = scholarch.train_supernet(
        ...     space="resnet-cifar", space_options={"width_mult": 0.25}, data="digits",
        ...     schedule="sandwich", macs=2e9, batch_size=8, evaluations=1, calibration=64,
        ... )
        >>> [one.name for one in net.landmarks]
        ['smallest', 'between1', 'between2', 'largest']
        >>> student = net.network.extract(net.landmarks[0].arch)
    """
    chosen = _settings(schedule, seed, teacher is not None, settings)
    find_device(chosen.device)
    dataset = load_data(data)
    guide = None if teacher is None else load_teacher(teacher, classes=dataset)
    dataset = labelled(dataset, [] if guide is None else [guide])
    begun = start if start is None or isinstance(start, Supernet) else load_supernet(start)
    if begun is not None:
        if space is not None or space_options:
            raise InvalidInputError(
                "--start and --space exclude each other: a supernet brings its space"
            )
        space = begun.space
    elif not isinstance(space, SearchSpace):
        given = {"num_classes": dataset.num_classes, "resolution": dataset.resolution}
        given["in_channels"] = len(dataset.mean)
        space = space_of_data(space, given, guide, space_options)
    elif space_options:
        raise InvalidInputError(
            f"space_options = {dict(space_options)} with a space that is made already; give its"
            " name, or make it with them"
        )
    check_patience(chosen, dataset)
    command = command or shell_line(space, str(data), chosen, guide, out)
    with ExitStack() as stack:
        if world is None:
            world = join_world(chosen.device, stack)
        if out is None and world.distributed:
            raise InvalidInputError(f"{world.size} processes need a folder to share; give out")
        folder = Path(out or stack.enter_context(tempfile.TemporaryDirectory())).expanduser()
        asked: dict[str, Any] = {
            "space": space.spec(),
            "data": describe_data(dataset),
            "teacher": None
            if guide is None
            else {"name": guide.name, "fingerprint": guide.fingerprint},
            "world": world.size,
            "settings": chosen.to_json(),
        }
        if begun is not None:
            asked["start"] = weights_fingerprint(begun.network)
        before = admit(folder, asked, resume=resume)
        network = None if begun is None else copy.deepcopy(begun.network)
        trainer = Trainer(space, dataset, chosen, teacher=guide, world=world, network=network)
        if world.leads:
            stack.enter_context(held(folder))
            before = admit(folder, asked, resume=resume)  # nobody began it in between
            about = before
            if not before.get("finished"):
                about = describe_run(asked, before, trainer, guide, command)
                write_train(folder, about)
        else:
            about = dict(before)
        world.barrier()
        run = ConductedRun(
            lambda told: TrainingRun(trainer, folder, progress=told), folder, about, told=progress
        )
        run.go(kept=out is not None)
        world.barrier()
        trained = _result(run.run, folder)
    return replace(trained, path=None) if out is None else trained


# ---------------------------------------------------------------------- helpers


def _settings(
    schedule: str, seed: int, external: bool, settings: Mapping[str, Any]
) -> TrainSettings:
    known = {f.name for f in fields(TrainSettings)} - {"schedule", "seed", "external"}
    for name in settings:
        if name not in known:
            raise UnknownNameError("training setting", name, known)
    return TrainSettings(schedule=schedule, seed=seed, external=external, **settings)


def _result(run: TrainingRun, folder: Path) -> TrainedSupernet:
    """What was trained, read back from the folder."""
    trainer, supernet = run.trainer, load_supernet(folder)
    best: Mapping[str, Any] = max(
        (line for line in run.history if "mean" in line),
        key=lambda line: float(line["mean"]),
        default={},
    )
    archs = list(run.landmarks.values())
    costs = trainer.space.cost(trainer.space.encode(archs), resolution=trainer.data.resolution)
    landmarks = tuple(
        Landmark(
            name,
            arch,
            float(costs["params"][i]),
            float(costs["macs"][i]),
            float(best.get(name, math.nan)),
        )
        for i, (name, arch) in enumerate(run.landmarks.items())
    )
    return TrainedSupernet(
        **{field.name: getattr(supernet, field.name) for field in fields(supernet)},
        history=run.history,
        landmarks=landmarks,
        best_mean=float(best.get("mean", math.nan)),
        steps=trainer.next_step,
        macs_passed=trainer.macs_passed,
        seconds=run.seconds,
        score=trainer.task.score,
    )
