"""What the distillation studies share: data, space, recipe, teachers.

bench-S: 10,000 training, 1,000 validation and 4,000 test images of Fashion-MNIST at 16 px;
students of ``resnet-cifar`` at ``width_mult=.25`` of at most 3.1 million multiply-accumulates, a
tenth of the larger teacher's.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import nn

from scholarch.datasets.dataset import DataSet
from scholarch.proxies.teacher import Teacher
from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.space import SearchSpace
from scholarch.supernet.distil.settings import DistilSettings
from scholarch.supernet.distil.trainer import StudentTrainer
from scholarch.teacher import load_teacher

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "supernet"), str(HERE.parent)]
import bench_s  # noqa: E402

SIDE, CLASSES = bench_s.SIDE, 10
LIMIT = 3.1e6

#: Name → blocks and widths of a CIFAR ResNet of full width (He et al., CVPR 2016).
TEACHERS = {"r20": "16-16x3-32x3-64x3", "r56": "16-16x9-32x9-64x9"}
TEACHER_EPOCHS = 12

#: Of a student: two epochs, 312 steps, a cosine to 0.
EPOCHS = 2


def data_of(name: str) -> DataSet:
    """``"fashion-mnist"`` or ``"cifar10"``, at bench-S' size."""
    return bench_s.DATA[name]()


def space_of(width: float = 0.25) -> SearchSpace:
    return create_space("resnet-cifar", num_classes=CLASSES, resolution=SIDE, width_mult=width)


def settings_of(distiller: str, seed: int, **given: Any) -> DistilSettings:
    """The recipe: the benchmarks' rates, ``EPOCHS`` epochs, no augmentation.

    Distiller ``"kd"`` is CE + T² KL of weight 1 each, T = 4, chosen on CIFAR-10 (choices.md).
    """
    options, labels = given.pop("options", None), given.pop("labels", None)
    if distiller == "kd" and options is None:
        options, labels = {"weight": 1.0}, 1.0
    recipe = {"epochs": EPOCHS, "augment": "none", "evaluations": 0, "seed": seed} | given
    return DistilSettings(distiller, options or {}, labels, train=DistilSettings.recipe(**recipe))


def train(
    space: SearchSpace,
    arch: Architecture,
    data: DataSet,
    settings: DistilSettings,
    teachers: Sequence[Teacher] = (),
    *,
    folder: Path | None = None,
    test: bool = True,
) -> dict[str, Any]:
    """Train one architecture from scratch; validation and, once, test accuracy in [0, 1].

    Args:
        folder: where the teachers' answers are kept between runs.
    """
    network = space.build(arch, seed=settings.train.seed)
    trainer = StudentTrainer(space, arch, network, data, settings, teachers=teachers, folder=folder)
    began = time.process_time()
    while not trainer.done:
        trainer.step()
    seconds = time.process_time() - began
    found = {"val": trainer.accuracy("val"), "steps": trainer.plan.steps}
    if test:
        found["test"] = trainer.accuracy("test")
    return found | {"seconds": round(seconds, 2), "network": trainer.best_network()}


def teacher_file(name: str, data: str) -> Path:
    return HERE / "cache" / f"{name}-{data}.safetensors"


def teacher_of(name: str, data: DataSet) -> Teacher:
    """A teacher, trained once by :func:`make_teacher` and kept in ``cache/``."""
    from safetensors.torch import load_file

    file = teacher_file(name, data.name)
    space = space_of(1.0)
    network = space.build(space.parse(TEACHERS[name]))
    if not file.exists():
        make_teacher(name, data)
    network.load_state_dict(load_file(file))
    about = json.loads(file.with_suffix(".json").read_text())
    found = load_teacher(network.eval(), mean=data.mean, std=data.std)
    return Teacher(
        **{**{f: getattr(found, f) for f in found.__dataclass_fields__}, "name": name}
        | {"accuracy": about["test"]}
    )


def make_teacher(name: str, data: DataSet, seed: int = 0) -> None:
    """Train a teacher by the students' recipe, three times as long, with crops and flips."""
    from safetensors.torch import save_file

    space = space_of(1.0)
    arch = space.parse(TEACHERS[name])
    settings = settings_of("none", seed, epochs=TEACHER_EPOCHS, augment="light")
    found = train(space, arch, data, settings)
    network: nn.Module = found.pop("network")
    file = teacher_file(name, data.name)
    file.parent.mkdir(exist_ok=True)
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, file)
    file.with_suffix(".json").write_text(json.dumps({"name": name, "arch": arch.text} | found))


def students_of(space: SearchSpace, count: int, limit: float = LIMIT) -> list[Architecture]:
    """Uniform architectures of at most ``limit`` multiply-accumulates, the first ones the same
    however many are asked for."""
    rows = space.sample_matrix(20 * count + 200, np.random.default_rng(2026))
    rows = rows[space.cost(rows)["macs"] <= limit]
    found = list({arch.key: arch for arch in space.decode(rows)}.values())
    return found[:count]


def once(
    table: str,
    key: dict[str, Any],
    work: Callable[[], dict[str, Any]],
    *,
    length: dict[str, int] | None = None,
) -> dict[str, Any]:
    """A run's line of ``<table>.jsonl``; made where it is not there.

    Args:
        length: ``{"epochs": N}`` of runs that are not of :data:`EPOCHS`, which name none.
    """
    wanted = key | {"epochs": (length or {}).get("epochs")}
    file = HERE / f"{table}.jsonl"
    lines = [json.loads(t) for t in file.read_text().splitlines()] if file.exists() else []
    for line in lines:
        if all(line.get(name) == value for name, value in wanted.items()):
            return dict(line)
    found = {k: v for k, v in work().items() if k != "network"}
    with file.open("a") as stream:
        stream.write(json.dumps(key | found) + "\n")
    print(key, {k: v for k, v in found.items() if k in ("val", "test", "seconds")}, flush=True)
    return key | found


def mean_sd(values: Sequence[float], *, sign: bool = False) -> str:
    """Percent, mean ± standard deviation."""
    x = 100 * np.asarray(values)
    spread = x.std(ddof=1) if len(x) > 1 else 0.0
    return f"{x.mean():{'+' if sign else ''}.1f} ± {spread:.1f}".replace("-", "−")


def interval(differences: Sequence[float]) -> str:
    """Percent, mean and 95 % t interval of paired differences."""
    x = 100 * np.asarray(differences)
    if len(x) < 2:
        return f"{x.mean():+.1f}".replace("-", "−")
    half = stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x))
    mean = x.mean()
    return f"{mean:+.1f} ({mean - half:+.1f} … {mean + half:+.1f})".replace("-", "−")


def one_thread() -> None:
    torch.set_num_threads(1)


def cache() -> Path:
    folder = HERE / "cache"
    folder.mkdir(exist_ok=True)
    return folder
