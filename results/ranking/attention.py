"""Does ``kd-at`` know its teacher, or only where in an image something is: two more controls.

    python results/ranking/attention.py --data FOLDER [--space NAME] [--limit N] [--seed N]

``kd-at`` passed the controls on some cells. Here other cells and images, and beside the usual
controls a teacher whose attention is the image's own energy, one whose attention is its edges,
and another trained network (ResNet-20). Prints the table of ``controls.md``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _common import Column, machine, markdown_table
from inherited_statistics import described

import scholarch
from scholarch.benchmarks.controls import CONTROLS, control_row, teachers_of
from scholarch.benchmarks.intervals import resamples
from scholarch.benchmarks.measure import TRAINED
from scholarch.benchmarks.registry import get_benchmark
from scholarch.benchmarks.setting import images_of, select, spaces_of, teacher_of
from scholarch.benchmarks.summary import averaged
from scholarch.proxies.kd_maps import kd_at
from scholarch.proxies.kd_matching import KD_NEEDS
from scholarch.proxies.probe import Probe, TeacherSide
from scholarch.proxies.registry import register_proxy
from scholarch.proxies.scoring import Scorer
from scholarch.proxies.taps import Taps

SIZE, SEEDS, DRAWS = 16, 3, 1000
#: Trained as well: no control, but another teacher.
ANOTHER = "ResNet-20"
TEACHERS = (TRAINED, *CONTROLS, "energy", "edges", ANOTHER)
OTHER = "teachers/resnet20-12fca82f.th"


def energy(images: Tensor) -> Tensor:
    """Σ over channels of the squared distance from the image's mean, ``[B, 1, H, W]``."""
    return (images - images.mean(dim=(2, 3), keepdim=True)).square().sum(dim=1, keepdim=True)


def edges(images: Tensor) -> Tensor:
    """Squared differences to the right and lower neighbour, ``[B, 1, H, W]``."""
    padded = functional.pad(images, (0, 1, 0, 1), mode="replicate")
    across = padded[:, :, :-1, 1:] - images
    down = padded[:, :, 1:, :-1] - images
    return (across.square() + down.square()).sum(dim=1, keepdim=True)


def attending(taps: Taps, attention: Tensor) -> Taps:
    """The teacher's measurements with this attention in the place of every stage's."""
    stages = tuple(
        functional.adaptive_avg_pool2d(attention, (s.shape[2], s.shape[3])).sqrt()
        for s in taps.stages
    )
    return replace(taps, stages=stages)


def register(teacher: str, sides: Mapping[str, TeacherSide]) -> str:
    """``kd-at`` with ``sides[teacher]``, so that one forward serves all; gives its name."""
    name = f"kd-at of {teacher}"

    @register_proxy(name, source="a control", needs=KD_NEEDS, direction=-1)
    def compared(probe: Probe) -> float:
        return kd_at(replace(probe, teacher=sides[teacher]))

    return name


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("SCHOLARCH_DATA"))
    parser.add_argument("--space", default="nasbench201")
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--seed", type=int, default=100, help="the first; the table's had 0")
    given = parser.parse_args()
    if given.data is None:
        sys.exit("attention: skipped; give --data or set SCHOLARCH_DATA to the real data")
    torch.set_num_threads(1)
    definition = get_benchmark(given.space)
    seeds = range(given.seed, given.seed + SEEDS)
    batches = images_of(given.data, None, SIZE, seeds)
    scored, quoted = spaces_of(definition, batches[0], None, None)
    chosen = select(
        definition.read(given.data),
        definition.truth,
        scored,
        quoted,
        unique=True,
        limit=given.limit,
        seed=given.seed,
    )
    guide = teacher_of(given.data, None, needed=True, ours=True)
    if guide is None:
        sys.exit(f"attention: skipped; {given.data} has no ResNet-56")
    other = scholarch.load_teacher("resnet20-cifar10", weights=given.data / OTHER)
    sides: dict[str, TeacherSide] = {}
    names = {name: register(name, sides) for name in TEACHERS}
    columns: dict[str, list[Column]] = {name: [] for name in names}
    for seed, batch in zip(seeds, batches, strict=True):
        guides = teachers_of(guide, batch, seed, controls=True)
        taps = {name: one.taps() for name, one in guides.items()} | {ANOTHER: other.observe(batch)}
        images = guide.prepare(batch)
        for name, attention in (("energy", energy(images)), ("edges", edges(images))):
            taps[name] = attending(taps[TRAINED], attention)
        sides |= {name: TeacherSide(seen, batch.labels) for name, seen in taps.items()}
        scorer = Scorer(scored, list(names.values()), batch=batch, teacher=taps[TRAINED], seed=seed)
        table = scorer.table(list(chosen.archs))
        for name, column in columns.items():
            column.append(table[names[name]])
    draws = resamples(chosen.clusters, DRAWS, given.seed)
    means = {name: averaged(column) for name, column in columns.items()}
    judged = {name: column for name, column in columns.items() if name != ANOTHER}
    row = control_row("kd-at", judged, means, chosen.truth, draws)
    lines = []
    for name in columns:
        margin = "{:+.3f}..{:+.3f}".format(*row.margin[name]) if name in row.margin else ""
        line = {"teacher": name} | described(means[name], chosen.truth, chosen.costs, draws)
        lines.append(line | {"trained − this, 95 %": margin})
    sizes = {name: chosen.costs[name] for name in ("params", "macs")}
    for name, column in sizes.items():
        numbers = described(column, chosen.truth, chosen.costs, draws)
        shown = {key: numbers[key] if key in ("τ", "pairs") else "" for key in numbers}
        lines.append({"teacher": f"none: {name}"} | shown | {"trained − this, 95 %": ""})
    print(markdown_table(lines), "", row.verdict, machine(), sep="\n")


if __name__ == "__main__":
    main()
