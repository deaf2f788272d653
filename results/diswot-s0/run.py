"""How every score ranks DisWOT's 64 students by their distilled accuracy, with controls.

Scores are taken on real CIFAR-10 images; accuracies, vanilla and distilled, are those published
for CIFAR-100. Nothing is tuned on this table: it reports.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from _common import (
    IMAGES,
    Column,
    Options,
    pair_accuracy,
    parse_options,
    read_csv,
    real_batch,
    s0_space,
    s0_students,
    write_csv,
)
from figure import draw
from page import write_page
from released import write_released
from rows import TRAINED, Row, as_csv, verdict

from scholarch.proxies.batch import Batch
from scholarch.proxies.controls import constant, permuted_channels, shuffled_images
from scholarch.proxies.ensemble import ENSEMBLES
from scholarch.proxies.ranks import log_rank_sum
from scholarch.proxies.registry import get_proxy, list_proxies
from scholarch.proxies.scoring import Scorer
from scholarch.proxies.taps import Taps
from scholarch.teacher import load_teacher

ACCURACIES = "diswot_s0_resnet_cifar100.csv"
WEIGHTS = "teachers/resnet56-4bfd9763.th"
TEACHER = "resnet56-cifar10"


@dataclass(frozen=True)
class Truth:
    """Columns of the published table, in the students' order."""

    distilled: Column
    vanilla: Column
    params: Column


def read_truth(options: Options, names: list[str]) -> Truth:
    rows = {row["arch"]: row for row in read_csv(options.data / ACCURACIES)}
    columns = (
        np.array([float(rows[name][key]) for name in names])
        for key in ("kd_acc", "vanilla_acc", "params_derived")
    )
    return Truth(*columns)


def controlled(taps: Taps, batch: Batch, seed: int) -> dict[str, Taps]:
    """The teacher's taps under each of :data:`CONTROLS`."""
    random = load_teacher(TEACHER, untrained=True, seed=seed)
    return {
        "permuted channels": permuted_channels(taps, seed),
        "shuffled images": shuffled_images(taps, seed),
        "constant": constant(taps),
        "random": random.observe(batch),
    }


def all_scores(
    options: Options, truth: Truth, seeds: range, size: int
) -> dict[tuple[str, str], list[Column]]:
    """(score, teacher) → one column of 64 scores a seed."""
    space = s0_space()
    archs = s0_students(space)
    teacher = load_teacher(TEACHER, weights=options.data / WEIGHTS)
    names = list_proxies()
    guided = [name for name in names if "teacher" in get_proxy(name).needs]
    columns: dict[tuple[str, str], list[Column]] = {}

    def keep(name: str, of: str, column: Column) -> None:
        columns.setdefault((name, of), []).append(column)

    for seed in seeds:
        began = time.perf_counter()
        batch = real_batch(options.data, size, seed)
        taps = teacher.observe(batch)
        table = Scorer(space, names, batch=batch, teacher=taps, seed=seed).table(archs)
        for (i, name), reason in table.failures.items():
            print(f"seed {seed}, {archs[i]}, {name}: {reason}")
        for name in names:
            keep(name, TRAINED if name in guided else "", table[name])
        for ensemble in (ENSEMBLES[name] for name in ENSEMBLES):
            if set(ensemble.parts) <= set(names):
                parts = {part: table[part] for part in ensemble.parts}
                # All 64 are the reference sample: ranks are ranks among them.
                keep(ensemble.name, "", log_rank_sum(parts, parts, ensemble.weight_of))
        for control, less in controlled(taps, batch, seed).items():
            scorer = Scorer(space, guided, batch=batch, teacher=less, seed=seed)
            for name, column in scorer.table(archs).items():
                keep(name, control, column)
        keep("random", "", np.random.default_rng(seed).normal(size=len(archs)))
        print(f"seed {seed}: {time.perf_counter() - began:.0f} s", flush=True)
    columns["vanilla accuracy", ""] = [truth.vanilla]
    return columns


def kind_of(name: str, teacher: str, columns: list[Column]) -> str:
    if name in ("random", "vanilla accuracy"):
        return "reference"
    if teacher:
        return "takes a teacher"
    # What no seed changes is counted, not measured.
    return "size" if len(columns) == 1 else "teacher-free"


def as_row(name: str, teacher: str, columns: list[Column], truth: Truth) -> Row:
    if all(np.array_equal(column, columns[0]) for column in columns):
        columns = columns[:1]
    averaged = np.mean(columns, axis=0)

    def statistics(column: Column) -> tuple[float, float, float]:
        ok = np.isfinite(column)
        kd = truth.distilled[ok]
        return (
            float(stats.kendalltau(column[ok], kd).statistic),
            float(stats.spearmanr(column[ok], kd).statistic),
            pair_accuracy(column[ok], kd, truth.params[ok])[0],
        )

    per_seed = np.array([statistics(column) for column in columns])
    missing = int(sum(np.isnan(column).sum() for column in columns))
    return Row(
        name, kind_of(name, teacher, columns), teacher, *per_seed.T, *statistics(averaged), missing
    )


def main() -> None:
    options = parse_options(__file__, __doc__.split("\n")[0], [IMAGES, ACCURACIES, WEIGHTS])
    torch.set_num_threads(1)
    seeds, size = (range(2), 16) if options.quick else (range(6), 64)
    names = [str(arch) for arch in s0_students(s0_space())]
    truth = read_truth(options, names)
    columns = all_scores(options, truth, seeds, size)
    rows = [as_row(name, of, found, truth) for (name, of), found in columns.items()]
    guided: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row.teacher:
            guided.setdefault(row.name, {})[row.teacher] = row
    verdicts = {name: verdict(found) for name, found in guided.items()}
    rows.sort(key=lambda row: (row.kind, row.teacher not in ("", TRAINED), -row.tau_mean))
    write_csv(options.out / "table.csv", [as_csv(row) for row in rows])
    pairs = pair_accuracy(truth.params, truth.distilled, truth.params)[1]
    text = write_page(options, rows, guided, verdicts, seeds=seeds, size=size, pairs=pairs)
    draw(rows, options.out / "tau.png", seeds=len(seeds))
    print(text)
    write_released(options, truth.distilled, seeds, size)
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
