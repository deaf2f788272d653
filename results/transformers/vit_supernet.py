"""A supernet of Vision Transformers against the same five networks trained alone.

    python results/transformers/vit_supernet.py run [--seeds 3]
    python results/transformers/vit_supernet.py run --seeds 1 --epochs 10 --schedules delayed
    python results/transformers/vit_supernet.py table

``autoformer-tiny`` at ``width_mult=.25`` with patches of 4 on bench-S' Fashion-MNIST: 10,000
training, 1,000 validation and 4,000 test images of 16 px. The supernet is trained for 3 epochs by
``sandwich`` (smallest, largest and two random networks a step, in-place distillation) or by
``delayed`` (the largest alone first), a network alone for as many steps by itself, both by AdamW,
rate 1e-3, batches of 64, no augmentation. The test part is read once a network.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "supernet"))
import bench_s
from _common import machine, markdown_table, spread

import scholarch
from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.extremes import largest, smallest
from scholarch.searchspace.narrow import narrow
from scholarch.searchspace.space import SearchSpace
from scholarch.supernet.evaluate import Evaluator

FILE = Path(__file__).resolve().parent / "vit_supernet.jsonl"
SCHEDULES = ("sandwich", "delayed")
RECIPE: dict[str, Any] = {
    "batch_size": 64, "optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.05,
    "augment": "none", "evaluations": 0, "smoothing": 0.0, "lr_warmup": 0.1,
}  # fmt: skip


def space_of() -> SearchSpace:
    return scholarch.create_space(
        "autoformer-tiny", num_classes=10, resolution=bench_s.SIDE, patch_size=4, width_mult=0.25
    )


def networks(space: SearchSpace) -> dict[str, Architecture]:
    """Smallest, largest, and three between them by multiply-accumulates."""
    rows = space.sample_matrix(2001, np.random.default_rng(5))
    order = np.argsort(space.cost(rows)["macs"], kind="stable")
    between = {"5 %": 0.05, "median": 0.5, "95 %": 0.95}
    found = {"smallest": smallest(space)}
    for name, share in between.items():
        found[name] = space.decode(rows[order[round(share * 2000)]][None])[0]
    return found | {"largest": largest(space)}


def run(seeds: int, epochs: float, schedules: list[str]) -> None:
    data, space = bench_s.fashion_mnist(), space_of()
    archs = networks(space)
    done = [json.loads(t) for t in FILE.read_text().splitlines()] if FILE.exists() else []
    for seed in range(seeds):
        for how in (*schedules, *archs):
            if any((x["how"], x["seed"], x["epochs"]) == (how, seed, epochs) for x in done):
                continue
            began = time.process_time()
            only = archs if how in SCHEDULES else {how: archs[how]}
            where, schedule = space, how
            if how not in SCHEDULES:
                row = space.encode([archs[how]])
                left = {
                    gene.name: [int(gene.values[index])]
                    for gene, index in zip(space.genes, row[0], strict=True)
                }
                where, schedule = narrow(space, left), "largest"
            trained = scholarch.train_supernet(
                space=where, data=data, schedule=schedule, seed=seed, epochs=epochs, **RECIPE
            )
            seconds = time.process_time() - began
            judge = Evaluator(trained.network, data)
            line = {
                "how": how,
                "seed": seed,
                "epochs": epochs,
                "test": {
                    name: judge.accuracy(arch if how in SCHEDULES else largest(where), "test")
                    for name, arch in only.items()
                },
                "seconds": round(seconds, 1),
            }
            with FILE.open("a") as stream:
                stream.write(json.dumps(line) + "\n")
            print(line, flush=True)


def table(epochs: float) -> None:
    every = [json.loads(t) for t in FILE.read_text().splitlines()]
    lines = [x for x in every if x["epochs"] == epochs]
    schedules = [how for how in SCHEDULES if any(x["how"] == how for x in lines)]
    space = space_of()
    rows = []
    for name, arch in networks(space).items():
        alone = {x["seed"]: 100 * x["test"][name] for x in lines if x["how"] == name}
        row = {
            "network": name,
            "MMACs": f"{space.cost([arch])['macs'][0] / 1e6:.2f}",
            "alone": spread(list(alone.values())),
        }
        for how in schedules:
            shared = {x["seed"]: 100 * x["test"][name] for x in lines if x["how"] == how}
            row[how] = spread(list(shared.values()))
            row[f"alone − {how}"] = spread([alone[s] - shared[s] for s in alone], sign="+")
        spent = [x["seconds"] for x in lines if x["how"] == name]
        row["CPU s alone"] = f"{np.mean(spent):.0f}"
        rows.append(row)
    once = {how: [x["seconds"] for x in lines if x["how"] == how] for how in schedules}
    told = ", ".join(f"{how} {np.mean(x):.0f}" for how, x in once.items())
    seeds = len({x["seed"] for x in lines})
    print(
        markdown_table(rows), f"\n\n{epochs:g} epochs, seeds: {seeds}. CPU s of a supernet:", told
    )
    print(machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--schedules", nargs="+", choices=SCHEDULES, default=list(SCHEDULES))
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "table":
        table(given.epochs)
    else:
        run(given.seeds, given.epochs, given.schedules)


if __name__ == "__main__":
    main()
