"""Grow a benchmark of distilled students: one command, appendable, resumable.

Every run is one line of ``runs.jsonl``; several processes may share the work. The table
``results/distilled-benchmark.csv`` is written from them, a line a student::

    python results/distilled/grow.py --students 104
    python results/distilled/grow.py --students 200        # goes on from there
    python results/distilled/grow.py table
"""

from __future__ import annotations

import argparse
import csv
import json
from typing import Any

import common
from common import HERE

RUNS = HERE / "runs.jsonl"
TABLE = HERE.parent / "distilled-benchmark.csv"
DATA = "fashion-mnist"

#: Column → distiller, teacher.
KINDS: dict[str, tuple[str, str | None]] = {
    "vanilla": ("none", None),
    "kd_r20": ("kd", "r20"),
    "kd_r56": ("kd", "r56"),
}


def key_of(run: dict[str, Any]) -> tuple[str, str, int, int]:
    return run["arch"], run["kind"], run["seed"], run["steps"]


def read_runs() -> dict[tuple[str, str, int, int], dict[str, Any]]:
    if not RUNS.exists():
        return {}
    runs = [json.loads(text) for text in RUNS.read_text().splitlines()]
    return {key_of(run): run for run in runs}


def claim(key: tuple[str, str, int, int]) -> bool:
    """Whether this run is ours: neither done nor begun by another process."""
    if key in read_runs():
        return False
    mark = common.cache() / ("-".join(map(str, key)).replace("/", "_") + ".lock")
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def grow(students: int, kinds: list[str], seeds: list[int], steps: list[int], first: int) -> None:
    """Train what is missing, student by student."""
    common.one_thread()
    data, space = common.data_of(DATA), common.space_of()
    per_epoch = len(data.train.labels) // 64
    for arch in common.students_of(space, students)[first:]:
        for seed in seeds:
            for length in steps:
                for kind in kinds:
                    if claim((arch.text, kind, seed, length)):
                        epochs = length / per_epoch
                        keep(run(data, space, arch, kind, seed, epochs, length))


def run(
    data: Any, space: Any, arch: Any, kind: str, seed: int, epochs: float, length: int
) -> dict[str, Any]:
    distiller, name = KINDS[kind]
    teachers = [] if name is None else [common.teacher_of(name, data)]
    folder = common.cache() / f"answers-{name}"
    folder.mkdir(exist_ok=True)
    settings = common.settings_of(distiller, seed, epochs=epochs)
    found = common.train(space, arch, data, settings, teachers, folder=folder)
    found.pop("network")
    if found["steps"] != length:
        raise RuntimeError(f"{found['steps']} steps, not {length}")
    return {"arch": arch.text, "kind": kind, "seed": seed, **found}


def keep(line: dict[str, Any]) -> None:
    with RUNS.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(f"{line['kind']:8} {line['arch']:28} seed {line['seed']} {line['steps']:5} steps"
          f"  val {line['val']:.4f}  {line['seconds']:.1f} s", flush=True)  # fmt: skip


def table() -> None:
    """Write the table: students of which every kind is there, seed 0, the recipe's length."""
    space = common.space_of()
    full = common.EPOCHS * (common.bench_s.TRAIN // 64)
    runs = read_runs()
    archs = dict.fromkeys(key[0] for key in runs)
    lines = []
    for text in archs:
        found = {kind: runs.get((text, kind, 0, full)) for kind in KINDS}
        if None in found.values():
            continue
        arch = space.parse(text)
        costs = space.cost([arch])
        line: dict[str, Any] = {"arch": text, "key": arch.key}
        line |= {name: int(costs[name][0]) for name in ("params", "macs", "depth")}
        line |= {kind: f"{100 * one['test']:.2f}" for kind, one in found.items() if one}
        line |= {f"{kind}_val": f"{100 * one['val']:.2f}" for kind, one in found.items() if one}
        lines.append(line)
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    print(f"{TABLE.name}: {len(lines)} students")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=("grow", "table", "teachers"), default="grow")
    parser.add_argument("--students", type=int, default=104)
    parser.add_argument("--first", type=int, default=0, help="leave out so many")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--steps", default="312", help="two epochs; others for label-length")
    given = parser.parse_args()
    if given.what == "teachers":
        common.one_thread()
        for name in common.TEACHERS:
            print(name, common.teacher_of(name, common.data_of(DATA)).accuracy)
        return
    if given.what == "grow":
        numbers = [list(map(int, text.split(","))) for text in (given.seeds, given.steps)]
        grow(given.students, given.kinds.split(","), numbers[0], numbers[1], given.first)
    table()


if __name__ == "__main__":
    main()
