"""Architectures trained alone, inherited weights and training-free scores side by side.

``train`` trains each from scratch, as long (in images) and with the settings of bench-S's
``delayed`` run; ``inherit`` trains that supernet and reads the same architectures from it;
``table`` puts gaps and rank correlations together::

    python results/supernet/standalone.py train --seeds 3
    python results/supernet/standalone.py inherit --seeds 3
    python results/supernet/standalone.py table
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from scholarch.datasets.dataset import DataSet
from scholarch.scoring import score
from scholarch.searchspace.architecture import Architecture
from scholarch.supernet.evaluate import accuracy
from scholarch.supernet.loader import Loader, batches, normalise
from scholarch.supernet.losses import cross_entropy
from scholarch.supernet.trainer import Trainer

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import bench_s  # noqa: E402
from _common import machine, markdown_table, spread  # noqa: E402

RUNS = HERE / "standalone.jsonl"
NETWORKS = 22
FIVE = 5


def architectures(trainer: Trainer) -> list[Architecture]:
    """The smallest, the largest, three between, then random ones spread over the cost."""
    drawer = trainer.drawer
    rows = drawer.rows(2000, np.random.default_rng(11))
    macs = drawer.macs(rows)
    ends = drawer.macs(drawer.space.encode([drawer.smallest, drawer.largest]))

    def near(targets: np.ndarray) -> list[Architecture]:
        return drawer.decode(rows[[int(np.abs(macs - t).argmin()) for t in targets]])

    between = near(np.quantile(macs, [0.05, 0.5, 0.95]))
    rest = near(np.linspace(*(0.9 * macs.min() + 0.1 * ends[0], macs.max()), 64))
    found = [drawer.smallest, *between, drawer.largest]
    found += [arch for arch in dict.fromkeys(rest) if arch not in found]
    step = max(1, (len(found) - FIVE) // (NETWORKS - FIVE))
    return found[:FIVE] + found[FIVE::step][: NETWORKS - FIVE]


def alone(trainer: Trainer, arch: Architecture, seed: int) -> float:
    """Test accuracy of an architecture trained from scratch for the trainer's steps."""
    data, settings = trainer.data, trainer.settings
    network = trainer.space.build(arch, seed=seed).train().to(memory_format=torch.channels_last)
    loader = Loader(data.train, batch_size=settings.batch_size, seed=seed)
    decayed = [p for p in network.parameters() if p.dim() > 1]
    rest = [p for p in network.parameters() if p.dim() <= 1]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": rest}],
        lr=float(settings.lr or 0.0),
        momentum=settings.momentum,
        nesterov=True,
    )
    for step in range(trainer.plan.steps):
        images, labels = loader.batch(step)
        for group in optimizer.param_groups:
            group["lr"] = trainer.plan.at(step).lr
        optimizer.zero_grad()
        loss = cross_entropy(network(trainer.normalised(images)), labels, settings.smoothing)
        loss.backward()
        optimizer.step()
    test = [
        (normalise(images, data.mean, data.std), labels)
        for images, labels in batches(data.test, 200)
    ]
    return accuracy(network.eval(), test)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("train", "inherit", "table"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--macs", type=float, default=bench_s.MACS, help="of the supernet's run")
    parser.add_argument("--networks", type=int, default=NETWORKS, help="of seed 0; 5 at least")
    parser.add_argument("--data", choices=sorted(bench_s.DATA), default="fashion-mnist")
    parser.add_argument("--runs", type=Path, default=RUNS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "table":
        print(table([json.loads(text) for text in given.runs.read_text().splitlines()]))
        return
    data = bench_s.DATA[given.data]()
    for seed in range(given.seeds):
        trainer = bench_s.trainer_of(data, "delayed", seed, macs=given.macs)
        archs = architectures(trainer)
        if given.what == "inherit":
            if done(given.runs, "inherited", seed, archs[0].text):
                continue
            began = time.process_time()
            while not trainer.done:
                trainer.step()
            evaluator = bench_s.evaluator_of(trainer)
            trained = time.process_time() - began
            for arch in archs:
                began = time.process_time()
                val = evaluator.accuracy(arch)
                seconds = time.process_time() - began
                test = evaluator.accuracy(arch, "test")
                keep(
                    given.runs,
                    "inherited",
                    seed,
                    arch,
                    test,
                    val=val,
                    seconds=seconds,
                    trained=trained,
                )
            if seed == 0:
                scores(given.runs, trainer, archs, data)
            continue
        for arch in archs[: given.networks if seed == 0 else FIVE]:
            if done(given.runs, "alone", seed, arch.text):
                continue
            began = time.process_time()
            test = alone(trainer, arch, seed)
            keep(given.runs, "alone", seed, arch, test, seconds=time.process_time() - began)


def scores(runs: Path, trainer: Trainer, archs: list[Architecture], data: DataSet) -> None:
    """Training-free scores and sizes of the same architectures."""
    began = time.process_time()
    batch = data.batch(64, seed=0)
    found = score(trainer.space, archs, batch=batch)
    seconds = (time.process_time() - began) / len(archs)
    costs = trainer.space.cost(archs)
    for i, arch in enumerate(archs):
        keep(runs, "ensemble", 0, arch, float(found["ensemble"][i]), seconds=seconds)
        for name in ("params", "macs", "depth"):
            keep(runs, name, 0, arch, float(costs[name][i]), seconds=0.0)
        keep(runs, "random", 0, arch, float(np.random.default_rng(i).random()), seconds=0.0)


def keep(runs: Path, what: str, seed: int, arch: Architecture, value: float, **more: float) -> None:
    with runs.open("a") as file:
        line = {"what": what, "seed": seed, "arch": arch.text, "value": value, **more}
        file.write(json.dumps(line) + "\n")


def done(runs: Path, what: str, seed: int, arch: str) -> bool:
    if not runs.exists():
        return False
    lines = (json.loads(text) for text in runs.read_text().splitlines())
    return any((x["what"], x["seed"], x["arch"]) == (what, seed, arch) for x in lines)


def table(lines: list[dict[str, Any]]) -> str:
    """Gaps of five architectures, then rank correlations of all."""
    by: dict[tuple[str, int], dict[str, dict[str, Any]]] = {}
    for line in lines:
        by.setdefault((line["what"], line["seed"]), {})[line["arch"]] = line
    seeds = sorted(s for w, s in by if w == "alone" and ("inherited", s) in by)
    truth = by["alone", 0]
    names = list(truth)
    gaps = []
    for i, arch in enumerate(names[:FIVE]):
        a = 100 * np.array([by["alone", s][arch]["value"] for s in seeds])
        b = 100 * np.array([by["inherited", s][arch]["value"] for s in seeds])
        gaps.append(
            {
                "network": ("smallest", "5 %", "median", "95 %", "largest")[i],
                "MMACs": f"{by['macs', 0][arch]['value'] / 1e6:.2f}",
                "alone": spread(a),
                "inherited": spread(b),
                "alone − inherited": spread(a - b, sign="+"),
            }
        )
    alone_ = np.array([truth[n]["value"] for n in names])
    ranks = []
    for what in ("inherited", "ensemble", "params", "macs", "depth", "random"):
        rows = by[what, 0]
        key = "val" if what == "inherited" else "value"
        values = np.array([rows[n][key] for n in names])
        tau, rho = stats.kendalltau(values, alone_)[0], stats.spearmanr(values, alone_)[0]
        boot = bootstrap(values, alone_)
        seconds = float(np.mean([rows[n]["seconds"] for n in names]))
        extra = f" + {rows[names[0]]['trained']:.0f} once" if what == "inherited" else ""
        ranks.append(
            {
                "rank by": what + (", validation" if what == "inherited" else ""),
                "Kendall τ": f"{tau:.2f}",
                "95 %": f"{boot[0]:.2f} … {boot[1]:.2f}",
                "Spearman ρ": f"{rho:.2f}",
                "CPU s a network": f"{seconds:.2f}{extra}",
            }
        )
    cost = float(np.mean([truth[n]["seconds"] for n in names]))
    return (
        f"{markdown_table(gaps)}\n\n{len(seeds)} seeds.\n\n{markdown_table(ranks)}\n\n"
        f"{len(names)} networks, seed 0; training one alone took {cost:.0f} CPU s.\n\n{machine()}\n"
    )


def bootstrap(values: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """95 % interval of τ over networks, 2,000 draws."""
    rng = np.random.default_rng(0)
    taus = []
    for _ in range(2000):
        chosen = rng.integers(0, len(truth), len(truth))
        taus.append(stats.kendalltau(values[chosen], truth[chosen])[0])
    low, high = np.nanquantile(taus, [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
