"""Does any score know its teacher: every score that takes one, under every control.

    python results/ranking/controls.py --data FOLDER [--space NAME ...] [--work DIR]

Writes ``controls.csv``, one row a score and space, and prints the table of ``controls.md``. The
teacher is the folder's CIFAR-10 ResNet-56. ``--work`` keeps raw values, so that a stopped run
goes on where it was.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _common import machine, markdown_table, write_csv

import scholarch
from scholarch.benchmarks.controls import CONTROLS, ControlRow
from scholarch.benchmarks.measure import TRAINED
from scholarch.benchmarks.result import BenchmarkResult

SCORES = ("kd-*", "diswot*")
#: Of each space what :func:`scholarch.benchmark` is called with.
SPACES: Mapping[str, Mapping[str, object]] = {
    "resnet-cifar-s0": {"seeds": 3, "size": 32},
    "nasbench201": {"seeds": 3, "size": 16, "unique": True, "half": "all", "limit": 150},
    "vitbench-autoformer": {"seeds": 2, "size": 16, "limit": 40},
    "vitbench-pit": {"seeds": 2, "size": 16, "limit": 40},
}


def cells(space: str, row: ControlRow) -> dict[str, object]:
    """One line of the table."""
    taus = {f"τ {teacher}": f"{row.tau[teacher]:.3f}" for teacher in (TRAINED, *CONTROLS)}
    spread = {"sd of a seed": f"{row.spread[TRAINED]:.3f}"}
    ends = [f"{row.margin[name][0]:+.3f}..{row.margin[name][1]:+.3f}" for name in CONTROLS]
    margins = {f"margin over {name}": text for name, text in zip(CONTROLS, ends, strict=True)}
    defined = math.isfinite(row.tau[TRAINED])
    verdict = {"verdict": row.verdict if defined else "undefined: failed on every candidate"}
    return {"score": row.name, "space": space} | taus | spread | margins | verdict


def sizes(space: str, result: BenchmarkResult) -> str:
    """The sizes' τ, against which any score stands."""
    found = (f"{name} {result[name].numbers['tau']:.3f}" for name in ("params", "macs", "depth"))
    return f"{space}, {len(result.archs)} candidates: {', '.join(found)}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("SCHOLARCH_DATA"))
    parser.add_argument("--space", action="append", choices=SPACES, help="default: all")
    parser.add_argument("--work", type=Path, help="folder for raw values; default none")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).resolve().parent / "controls.csv"
    )
    given = parser.parse_args()
    if given.data is None:
        sys.exit("controls: skipped; give --data or set SCHOLARCH_DATA to the real data")
    torch.set_num_threads(1)
    scores = [name for pattern in SCORES for name in scholarch.list_proxies(pattern)]
    lines: list[dict[str, object]] = []
    notes = []
    for space in given.space or SPACES:
        start = time.perf_counter()
        out = None if given.work is None else given.work / space
        result = scholarch.benchmark(
            space, data=given.data, proxies=scores, controls=True, out=out, **SPACES[space]
        )
        lines += [cells(space, row) for row in result.controls]
        write_csv(given.out, lines)  # after each space: a stopped run keeps what it has
        notes.append(f"{sizes(space, result)} ({time.perf_counter() - start:.0f} s)")
        failed: Counter[str] = Counter()
        for (name, _), count in result.failures.items():
            failed[name] += count
        values = len(result.archs) * len(result.settings["seeds"])
        notes += [f"{space}: {name}: {n} of {values} values failed" for name, n in failed.items()]
        aware = [row.name for row in result.controls if row.aware]
        notes.append(f"{space}: {len(aware)} of {len(result.controls)} pass: {aware}")
        print(notes[-1], flush=True)
    short = [{key: line[key] for key in line if not key.startswith("margin")} for line in lines]
    print(markdown_table(short), *notes, machine(), sep="\n")


if __name__ == "__main__":
    main()
