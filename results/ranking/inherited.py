"""Students that inherit the trained teacher's weights, and how well their agreement ranks them.

    python results/ranking/inherited.py --data FOLDER [--seeds N] [--images N]

S0's 64 students have ResNet-56's widths and fewer blocks, so one whose projections start as the
teacher's shortcuts (every other pixel, new channels zero) is the teacher with blocks left out;
its stem, batch norms and classifier are the teacher's. Nothing is trained. Truth: accuracies
distilled on CIFAR-100 from another teacher. Writes ``inherited.csv``, prints its table.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _common import (
    Column,
    machine,
    markdown_table,
    read_csv,
    real_batch,
    s0_space,
    s0_students,
    write_csv,
)
from inherited_statistics import described
from inherited_students import PLACES, Seen, agreement, students

from scholarch.benchmarks.controls import control_row, random_teacher
from scholarch.benchmarks.intervals import resamples
from scholarch.benchmarks.measure import TRAINED
from scholarch.benchmarks.setting import teacher_of
from scholarch.benchmarks.summary import averaged
from scholarch.proxies.batch import Batch
from scholarch.proxies.controls import constant, labels_only, shuffled_images
from scholarch.proxies.taps import Taps
from scholarch.proxies.teacher import Teacher, batch_statistics
from scholarch.searchspace.convnets.resnet_cifar_net import CifarResNet

TABLE = "diswot_s0_resnet_cifar100.csv"
DRAWS = 1000
#: What the student is compared with → what the columns are: whose weights it inherits, and
#: with what it is compared. The first is the score, the others its controls.
FAMILIES = {
    "teacher": {
        "trained": ("trained", "trained"),
        "shuffled": ("trained", "shuffled"),
        "labels": ("trained", "labels"),
        "constant": ("trained", "constant"),
        "random": ("random", "random"),
        "random weights": ("random", "trained"),
    },
    "labels": {
        "trained": ("trained", "labels"),
        "shuffled": ("trained", "labels shuffled"),
        "constant": ("trained", "labels constant"),
        "random weights": ("random", "labels"),
    },
}
#: Places, batch norm, score, source of weights, target.
Key = tuple[str, str, str, str, str]


@torch.no_grad()
def measure(teacher: Teacher, batch: Batch, seed: int) -> dict[Key, Column]:
    """Scores ``[64]`` by place, batch norm, score, source of weights and target."""
    noise = random_teacher(teacher, seed)
    images = teacher.prepare(batch)
    trained = teacher.observe(batch)
    labels = labels_only(trained, batch.labels, batch.num_classes)
    taps: Mapping[str, Taps] = {
        "trained": trained,
        "shuffled": shuffled_images(trained, seed),
        "constant": constant(trained),
        "random": noise.observe(batch),
        "labels": labels,
        "labels shuffled": shuffled_images(labels, seed),
        "labels constant": constant(labels),
    }
    targets = {name: Seen.of(found) for name, found in taps.items()}
    for norm in (m for m in noise.module.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.momentum = None  # running statistics of this batch, as a trained net has its own
        norm.reset_running_stats()
    noise.module.train()(images)
    noise.module.eval()
    lines: dict[Key, list[float]] = {}
    for source, guide in (("trained", teacher), ("random", noise)):
        network = cast(CifarResNet, guide.module)
        for places, own in itertools.product(PLACES, (False, True)):
            with batch_statistics(network, own):
                for student in map(Seen.of, students(network, images, places)):
                    for name, target in targets.items():
                        for score, value in agreement(student, target).items():
                            key = (places, "batch" if own else "teacher", score, source, name)
                            lines.setdefault(key, []).append(value)
    return {key: np.array(values) for key, values in lines.items()}


def whole(numbers: dict[str, str]) -> dict[str, str]:
    """A size's numbers; given itself nothing is left of it."""
    return {name: text for name, text in numbers.items() if name in ("τ", "pairs")}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("SCHOLARCH_DATA"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).resolve().parent / "inherited.csv"
    )
    given = parser.parse_args()
    if given.data is None:
        sys.exit("inherited: skipped; give --data or set SCHOLARCH_DATA to the real data")
    torch.set_num_threads(1)
    start = time.perf_counter()
    teacher = teacher_of(given.data, None, needed=True, ours=True)
    if teacher is None:
        sys.exit(f"inherited: skipped; {given.data} has no ResNet-56")
    found = []
    for seed in range(given.seeds):
        found.append(measure(teacher, real_batch(given.data, given.images, seed), seed))
        print(f"seed {seed}: {time.perf_counter() - start:.0f} s", flush=True)
    accuracies = {row["arch"]: float(row["kd_acc"]) for row in read_csv(given.data / TABLE)}
    space = s0_space(100)
    archs = s0_students(space)
    truth = np.array([accuracies[str(arch)] for arch in archs])
    sizes = space.cost(space.encode(archs))
    draws = resamples([arch.key for arch in archs], DRAWS, 0)
    base = [
        {"score": name} | whole(described(sizes[name], truth, sizes, draws))
        for name in ("params", "macs", "depth")
    ]
    controls = [name for name in FAMILIES["teacher"] if name != TRAINED]
    lines = []
    settings = dict.fromkeys(key[:3] for key in found[0])
    for (family, variants), setting in itertools.product(FAMILIES.items(), settings):
        columns = {
            name: [one[(*setting, *variant)] for one in found] for name, variant in variants.items()
        }
        means = {name: averaged(column) for name, column in columns.items()}
        row = control_row(setting[2], columns, means, truth, draws)
        line = {"score": setting[2], "target": family, "blocks": setting[0], "BN": setting[1]}
        line |= described(means[TRAINED], truth, sizes, draws)
        for name in controls:
            line[f"τ {name}"] = f"{row.tau[name]:.3f}" if name in row.tau else ""
        verdict = f"holds under {', '.join(row.holds)}" if row.holds else "drops under every one"
        line |= {"sd of a seed": f"{row.spread[TRAINED]:.3f}", "controls": verdict}
        lines.append(line)
    write_csv(given.out, lines)
    print(markdown_table(base), "", markdown_table(lines), "", machine(), sep="\n")


if __name__ == "__main__":
    main()
