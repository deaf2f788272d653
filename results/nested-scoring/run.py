"""Scoring on nested weights against a fresh network a candidate: speed, and what it does to ranks.

A thousand architectures of ``mobilenetv3-cifar``, two seeds each way, one thread. Fresh: the
network is built, initialised N(0, 1) from its own seed and run, as every public scorer does;
nested: slices of one set of weights, common prefixes once. The rank correlation between the
two is read beside that between two seeds of the same way.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.stats import kendalltau
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _common import Column, machine, parse_options, real_batch

from scholarch.proxies.batch import Batch
from scholarch.proxies.expr import spectrum_entropy
from scholarch.proxies.ranks import log_rank_sum
from scholarch.proxies.scoring import Scorer
from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.convnets.mbconv import MBConv
from scholarch.searchspace.elastic import initialise
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.space import SearchSpace

SPACE = "mobilenetv3-cifar"
IMAGES = 16
SEEDS = (0, 1)


def nested(space: SearchSpace, archs: list[Architecture], batch: Batch, seed: int) -> Column:
    return Scorer(space, ["expr"], batch=batch, seed=seed).table(archs)["expr"]


def _measure(entropies: list[float], _block: MBConv, _args: object, out: Tensor) -> None:
    entropies.append(spectrum_entropy(out))


def fresh(space: SearchSpace, archs: list[Architecture], batch: Batch, seed: int) -> Column:
    """The same score, one network a candidate; candidate i gets weights of its own."""
    images = batch.normalised.contiguous(memory_format=torch.channels_last)
    scores = []
    for i, arch in enumerate(archs):
        network = space.build(arch)
        initialise(network, seed=1_000_003 * (seed + 1) + i, init="normal")
        network = network.train().to(memory_format=torch.channels_last)
        entropies: list[float] = []
        for module in network.modules():
            if isinstance(module, MBConv):
                module.register_forward_hook(partial(_measure, entropies))
        with torch.no_grad():
            network(images)
        scores.append(sum(entropies))
    return np.array(scores)


def main() -> None:
    options = parse_options(__file__, __doc__ or "", ["cifar10_5k.npz"])
    torch.set_num_threads(1)
    count = 60 if options.quick else 1000
    space = create_space(SPACE, num_classes=10)
    archs = space.sample(count, 0)
    batch = real_batch(options.data, IMAGES, 0)
    scores: dict[tuple[str, int], Column] = {}
    seconds: dict[str, list[float]] = {"nested": [], "fresh": []}
    # In turn, so that a neighbour's load falls on both.
    for seed in SEEDS:
        for name, way in (("nested", nested), ("fresh", fresh)):
            began = time.perf_counter()
            scores[name, seed] = way(space, archs, batch, seed)
            seconds[name].append(time.perf_counter() - began)
            print(f"{name} seed {seed}: {seconds[name][-1]:.1f} s", flush=True)
    macs = space.cost(archs)["macs"]

    def ensemble(column: Column) -> Column:
        columns = {"macs": macs, "expr": column}
        return log_rank_sum(columns, columns)

    pairs = {
        "nested, two seeds": (("nested", 0), ("nested", 1)),
        "fresh, two seeds": (("fresh", 0), ("fresh", 1)),
        "nested against fresh, seed 0": (("nested", 0), ("fresh", 0)),
        "nested against fresh, seed 1": (("nested", 1), ("fresh", 1)),
    }
    lines = [
        f"# Nested weights against fresh modules, {count} candidates of `{SPACE}`",
        "",
        f"`{options.command}`; {IMAGES} CIFAR-10 images, seeds {SEEDS}, one thread; {machine()}",
        "",
        "| way | candidates a second (each seed) | ratio |",
        "|---|--:|--:|",
    ]
    ratio = [f / n for n, f in zip(seconds["nested"], seconds["fresh"], strict=True)]
    for name in ("fresh", "nested"):
        rates = ", ".join(f"{count / s:.1f}" for s in seconds[name])
        how = ", ".join(f"{r:.2f}" for r in ratio) if name == "nested" else "1"
        lines.append(f"| {name} | {rates} | {how} |")
    lines += ["", "| Kendall τ | expr | ensemble (macs + expr) | macs |", "|---|--:|--:|--:|"]
    for label, (a, b) in pairs.items():
        tau = kendalltau(scores[a], scores[b])[0]
        both = kendalltau(ensemble(scores[a]), ensemble(scores[b]))[0]
        lines.append(f"| {label} | {tau:.3f} | {both:.3f} | 1 |")
    size = kendalltau(scores["nested", 0], macs)[0]
    lines.append(f"| macs against nested, seed 0 | {size:.3f} | | |")
    random = np.random.default_rng(0).random(count)
    lines.append(
        f"| random against nested | {kendalltau(scores['nested', 0], random)[0]:.3f} | | |"
    )
    (options.out / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
