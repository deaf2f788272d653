"""Ours and the plain ways (:mod:`plain`) on the same students: equal values, and seconds."""

from __future__ import annotations

import copy
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import plain
import torch
from torch import Tensor

from scholarch.proxies.batch import Batch
from scholarch.proxies.scoring import Scorer
from scholarch.proxies.teacher import Teacher
from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.convnets.resnet_cifar_net import CifarResNet
from scholarch.searchspace.space import SearchSpace
from scholarch.teacher import load_teacher

T = TypeVar("T")

TEACHERS = ("resnet56-cifar10", "resnet110-cifar10")
PROXIES = ("diswot-released-semantic", "diswot-relation", "diswot-released")
SEED = 0
#: Cores that others may keep busy on a machine that counts as quiet.
QUIET = 0.25

Samples = dict[tuple[str, str], list[tuple[float, float]]]


def make_teacher(name: str, batch: Batch) -> Teacher:
    """A random teacher, as released, on the students' own normalisation."""
    return load_teacher(name, untrained=True, mean=batch.mean, std=batch.std, seed=SEED)


def plain_teacher(teacher: Teacher) -> CifarResNet:
    """A copy in training mode, contiguous, as the released code's would be."""
    module = copy.deepcopy(teacher.module).train().requires_grad_(True)
    return module.to(memory_format=torch.contiguous_format)


def plain_way(way: str, name: str, batch: Batch) -> plain.Released:
    """One of the plain ways, with all that it does once."""
    module = plain_teacher(make_teacher(name, batch))
    return plain.WAYS[way](module, batch.normalised, batch.labels)


def score_cold(space: SearchSpace, archs: list[Architecture], name: str, batch: Batch) -> None:
    """Everything from nothing: the teacher, its taps, the nested network, 64 scores."""
    taps = make_teacher(name, batch).observe(batch)
    Scorer(space, ["diswot-released"], batch=batch, teacher=taps, seed=SEED).score(archs)


def score_plain(way: plain.Released, arch: Architecture, seed: int) -> plain.Scores:
    return way.score(plain.fresh_student(tuple(int(d) for d in str(arch)), 10, seed))


def clocked(function: Callable[[], T]) -> tuple[T, tuple[float, float]]:
    """The result, and wall-clock and processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return result, (time.perf_counter() - wall, time.process_time() - cpu)


# ---------------------------------------------------------------------- parity


#: Memory layout and precision of the plain way.
VARIANTS = {
    "float32, channels-last as ours": (torch.channels_last, torch.float32),
    "float32, contiguous": (torch.contiguous_format, torch.float32),
    "float64": (torch.contiguous_format, torch.float64),
}


def parity(
    space: SearchSpace, archs: list[Architecture], batch: Batch, variants: list[str]
) -> dict[str, list[float]]:
    """Largest relative differences between scores of the same nested weights.

    Returns:
        "A against B" → one number for each of :data:`PROXIES`.
    """
    network = space.supernet(seed=SEED, init="normal").train()
    values: dict[str, list[list[float]]] = {}
    for name in TEACHERS:
        taps = make_teacher(name, batch).observe(batch)
        table = Scorer(space, PROXIES, batch=batch, teacher=taps, seed=SEED).table(archs)
        values.setdefault("ours", []).extend(np.stack([table[p] for p in PROXIES], 1).tolist())
    for variant in variants:
        layout, dtype = VARIANTS[variant]
        images = batch.normalised.to(dtype).contiguous(memory_format=layout)

        def seen(
            module: CifarResNet, images: Tensor = images, layout: torch.memory_format = layout
        ) -> plain.Reference:
            module.to(images.dtype).to(memory_format=layout)
            return plain.observe(module, images, batch.labels)

        students = [seen(network.extract(arch)) for arch in archs]
        for name in TEACHERS:
            teacher = seen(plain_teacher(make_teacher(name, batch)))
            scores = [plain.compare(student, teacher) for student in students]
            rows = [[s.semantic, s.relation, s.total] for s in scores]
            values.setdefault(f"plain, {variant}", []).extend(rows)
    pairs = [("ours", f"plain, {variant}") for variant in variants]
    if len(variants) == len(VARIANTS):
        pairs += [("plain, float32, contiguous", "plain, float64")]
    found = {}
    for a, b in pairs:
        difference = np.abs(np.array(values[a]) / np.array(values[b]) - 1.0)
        found[f"{a} against {b}"] = difference.max(axis=0).tolist()
    return found


# ---------------------------------------------------------------------- timing


@dataclass
class Timings:
    """Wall-clock and processor seconds by (way, teacher).

    Attributes:
        others: by window, how many cores other processes kept busy; NaN where not known.
        once: what a plain way does once, by round: loading the teacher, its pass where cached.
        each: by window, the mean over its candidates; of ours one cold run over all 64,
            halfway through the window, divided by 64.
    """

    others: list[float] = field(default_factory=list)
    once: Samples = field(default_factory=lambda: defaultdict(list))
    each: Samples = field(default_factory=lambda: defaultdict(list))


def busy_seconds() -> float:
    """Seconds of work that all processors have done; NaN where the system does not tell."""
    path = Path("/proc/stat")
    if not path.exists():
        return math.nan
    # user, nice, system, idle, iowait, irq, softirq, ...
    ticks = [int(word) for word in path.read_text().split("\n", 1)[0].split()[1:8]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def wait_for_quiet(patience: float) -> None:
    """Wait until other processes leave the machine alone, ``patience`` seconds at most."""
    until = time.perf_counter() + patience
    while time.perf_counter() < until:
        before = busy_seconds()
        time.sleep(2.0)
        if not (busy_seconds() - before) / 2.0 > QUIET:
            return


def windows_of(archs: list[Architecture], macs: np.ndarray, count: int) -> list[list[Architecture]]:
    """Candidates dealt into windows whose mean sizes are nearly equal."""
    windows: list[list[Architecture]] = [[] for _ in range(count)]
    for rank, i in enumerate(np.argsort(macs, kind="stable")):
        lap, place = divmod(rank, count)
        windows[place if lap % 2 == 0 else count - 1 - place].append(archs[i])
    return windows


def measure(
    space: SearchSpace,
    archs: list[Architecture],
    windows: list[list[Architecture]],
    batch: Batch,
    rounds: int,
    patience: float,
) -> Timings:
    """Time every way, interleaved.

    Args:
        space: of the candidates.
        archs: what ours scores in one cold run.
        windows: what the plain ways score; ours runs halfway through each.
        batch: the images.
        rounds: how often.
        patience: seconds to wait at most, before each window, for a quiet machine.
    """
    timings = Timings()
    for name in TEACHERS:  # nothing lazy is left to be charged to either side
        score_cold(space, archs[:4], name, batch)
        plain_way("cached", name, batch).score(plain.fresh_student((1, 1, 1), 10, 0))
    for round_ in range(rounds):
        began = time.perf_counter()
        ways: dict[tuple[str, str], plain.Released] = {}
        for way, name in ((way, name) for name in TEACHERS for way in plain.WAYS):
            ways[way, name], seconds = clocked(partial(plain_way, way, name, batch))
            timings.once[way, name].append(seconds)
        for window in windows:
            wait_for_quiet(patience)
            start, busy, own = time.perf_counter(), busy_seconds(), time.process_time()
            found: Samples = defaultdict(list)
            for i, arch in enumerate(window):
                for key, way in ways.items():
                    found[key].append(clocked(partial(score_plain, way, arch, i))[1])
                if i == len(window) // 2 - 1:
                    for name in TEACHERS:
                        _, (wall, cpu) = clocked(partial(score_cold, space, archs, name, batch))
                        found["ours", name].append((wall / len(archs), cpu / len(archs)))
            work = (busy_seconds() - busy) - (time.process_time() - own)
            timings.others.append(max(work, 0.0) / (time.perf_counter() - start))
            for key, samples in found.items():
                timings.each[key].append(tuple(np.mean(samples, axis=0).tolist()))
        print(f"round {round_ + 1} of {rounds}: {time.perf_counter() - began:.0f} s", flush=True)
    return timings
