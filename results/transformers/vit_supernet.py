"""A supernet of Vision Transformers against the same five networks trained alone.

    python results/transformers/vit_supernet.py run [--seeds 1]
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
from _common import machine, markdown_table

import scholarch
from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.extremes import largest, smallest
from scholarch.searchspace.narrow import narrow
from scholarch.searchspace.space import SearchSpace
from scholarch.supernet.evaluate import Evaluator

FILE = Path(__file__).resolve().parent / "vit_supernet.jsonl"
SCHEDULES = ("sandwich", "delayed")
RECIPE: dict[str, Any] = {
    "epochs": 3.0, "batch_size": 64, "optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.05,
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


def run(seeds: int) -> None:
    data, space = bench_s.fashion_mnist(), space_of()
    archs = networks(space)
    done = [json.loads(t) for t in FILE.read_text().splitlines()] if FILE.exists() else []
    for seed in range(seeds):
        for how in (*SCHEDULES, *archs):
            if any((x["how"], x["seed"]) == (how, seed) for x in done):
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
                space=where, data=data, schedule=schedule, seed=seed, **RECIPE
            )
            seconds = time.process_time() - began
            judge = Evaluator(trained.network, data)
            line = {
                "how": how,
                "seed": seed,
                "test": {
                    name: judge.accuracy(arch if how in SCHEDULES else largest(where), "test")
                    for name, arch in only.items()
                },
                "seconds": round(seconds, 1),
            }
            with FILE.open("a") as stream:
                stream.write(json.dumps(line) + "\n")
            print(line, flush=True)


def table() -> None:
    lines = [json.loads(t) for t in FILE.read_text().splitlines()]
    space = space_of()
    rows = []
    for name, arch in networks(space).items():
        seeds = sorted({x["seed"] for x in lines if x["how"] == name})
        alone = [next(x for x in lines if (x["how"], x["seed"]) == (name, s)) for s in seeds]
        a = 100 * np.array([x["test"][name] for x in alone])
        row = {
            "network": name,
            "MMACs": f"{space.cost([arch])['macs'][0] / 1e6:.2f}",
            "alone": ", ".join(f"{x:.1f}" for x in a),
        }
        for how in SCHEDULES:
            found = [x for x in lines if x["how"] == how and x["seed"] in seeds]
            b = 100 * np.array([x["test"][name] for x in found])
            row[how] = ", ".join(f"{x:.1f}" for x in b)
            row[f"alone − {how}"] = f"{(a[: len(b)] - b).mean():+.1f}" if len(b) else ""
        row["CPU s alone"] = f"{np.mean([x['seconds'] for x in alone]):.0f}"
        rows.append(row)
    once = {how: [x["seconds"] for x in lines if x["how"] == how] for how in SCHEDULES}
    spent = ", ".join(f"{how} {np.mean(x):.0f}" for how, x in once.items() if x)
    print(markdown_table(rows), f"\n\nCPU s of a supernet: {spent}. {machine()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(1)
    run(given.seeds) if given.what == "run" else table()


if __name__ == "__main__":
    main()
