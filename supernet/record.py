"""What a training run tells of itself, for whoever repeats it or goes on with it."""

from __future__ import annotations

import hashlib
import shlex
import time
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from ..proxies.teacher import Teacher
from ..searchspace.provenance import host, versions
from ..searchspace.space import SearchSpace
from .loader import LabelledImages
from .settings import TrainSettings
from .trainer import Trainer

__all__ = ["describe_data", "describe_run", "shell_line"]


def describe_data(data: LabelledImages) -> dict[str, Any]:
    """Name, sizes and a fingerprint of the parts that training sees."""
    digest = hashlib.sha256()
    for part in (data.train, data.val):
        digest.update(part.images.tobytes())
        if part.labels.ndim == 1:  # targets are the teacher's, who is told by himself
            digest.update(part.labels.tobytes())
    # Of images nothing is said, so that runs of before go on.
    kind = {} if data.modality == "image" else {"modality": data.modality}
    return {
        "name": data.name,
        **kind,
        "fingerprint": digest.hexdigest()[:16],
        "classes": data.num_classes,
        "resolution": data.resolution,
        "train": len(data.train.labels),
        "val": len(data.val.labels),
    }


def describe_run(
    asked: Mapping[str, Any],
    before: Mapping[str, Any],
    trainer: Trainer,
    teacher: Teacher | None,
    command: str,
) -> dict[str, Any]:
    """``train.json``: all that repeats the run.

    Args:
        asked: what has to be equal for a run to go on.
        before: what was told of the run that goes on; empty for a new one.
        trainer: of the run.
        teacher: external, if any.
        command: the shell line.
    """
    return {
        **asked,
        "schedule": trainer.schedule.to_json(),
        "steps": trainer.plan.steps,
        "about_teacher": "" if teacher is None else teacher.about,
        "command": command,
        "host": host(),
        "versions": versions("torch", "numpy"),
        "threads": torch.get_num_threads(),
        "started": before.get("started") or time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "seconds": before.get("seconds", 0.0),
        "finished": before.get("finished", False),
    }


def shell_line(
    space: SearchSpace,
    data: str,
    settings: TrainSettings,
    teacher: Teacher | None,
    out: str | Path | None,
) -> str:
    """The shell line of a run that was started from Python, as far as there is one."""
    words = ["scholarch", "train", "--space", space.name, "--data", data]
    words += ["--schedule", settings.schedule, "--seed", str(settings.seed)]
    fixed = {"name", "num_classes", "resolution", "in_channels"}
    options = {k: v for k, v in space.spec().items() if k not in fixed}
    for option, given in (("--option", options), ("--schedule-option", settings.options)):
        for name, value in given.items():
            words += [option, f"{name}={value}"]
    if teacher is not None:
        words += ["--teacher", teacher.name]
    plain = TrainSettings(batch_size=settings.batch_size)
    apart = {"schedule", "options", "external", "seed"}
    for field in fields(TrainSettings):
        value = getattr(settings, field.name)
        if field.name not in apart and value != getattr(plain, field.name) and value is not None:
            words += ["--setting", f"{field.name}={value}"]
    if settings.batch_size != TrainSettings().batch_size:
        words += ["--setting", f"batch_size={settings.batch_size}"]
    return shlex.join([*words, "--out", str(out) if out is not None else "RUN"])
