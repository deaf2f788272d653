"""The same search with one and with two worker processes: speed, and whether the bytes agree."""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import torch
from _common import machine, markdown_table, parse_options, real_batch

import scholarch

SPACE = "mobilenetv3-cifar"
WORKERS = (1, 2)
SEED = 0


def main() -> None:
    options = parse_options(__file__, __doc__ or "", ["cifar10_5k.npz"])
    torch.set_num_threads(1)
    evaluations, rounds = (40, 1) if options.quick else (512, 3)
    batch = real_batch(options.data, 32, SEED)
    seconds: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    digests: dict[int, set[str]] = {workers: set() for workers in WORKERS}
    # In turn, so that a neighbour's load falls on both.
    for turn in range(rounds):
        for workers in WORKERS:
            began = time.perf_counter()
            result = scholarch.find_student(
                space=SPACE,
                data=batch,
                proxies=["ensemble"],
                teacher=None,
                budget={"macs": 85e6},
                evaluations=evaluations,
                seed=SEED,
                workers=workers,
            )
            seconds[workers].append(time.perf_counter() - began)
            digests[workers].add(hashlib.sha256(result.pareto_csv().encode()).hexdigest()[:12])
            print(f"round {turn}, {workers} workers: {seconds[workers][-1]:.1f} s", flush=True)
    rows = [
        {
            "workers": workers,
            "seconds, each round": ", ".join(f"{s:.1f}" for s in seconds[workers]),
            "speed-up, round by round": ", ".join(
                f"{a / b:.2f}" for a, b in zip(seconds[1], seconds[workers], strict=True)
            ),
            "sha256 of pareto.csv": ", ".join(sorted(digests[workers])),
        }
        for workers in WORKERS
    ]
    lines = [
        f"# Searches of `{SPACE}` at one and two workers",
        "",
        f"`{options.command}`; {evaluations} evaluations and a reference sample of 64, nsga2,"
        f" 32 CIFAR-10 images, seed {SEED}, {rounds} rounds in turn, starting the processes"
        f" included; {machine()}",
        "",
        markdown_table(rows),
        "",
        "Equal hashes: the front does not depend on how many processes scored it. Two workers on"
        " two cores share memory bandwidth, start in seconds and share fewer prefixes.",
    ]
    (options.out / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
