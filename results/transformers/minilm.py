"""MiniLM-L6's students at a half and a quarter of its cost: searched, shrunk, random.

    python results/transformers/minilm.py run [--seeds 3]
    python results/transformers/minilm.py table

Teacher all-MiniLM-L6-v2; sentences of WordNet's examples (Debian package wordnet-base), at most 24
tokens, no sentence in two parts: 8,000 to learn from, 120 to choose on, 1,500 for testing. All
students inherit the teacher's most important channels, heads, features and layers, then learn
its embeddings (1 − cosine) by the same recipe. What is told is Pearson's correlation of the cosine
similarities of all pairs of test sentences with the teacher's.

**Searched**: ``find_student`` on the supernet that ``inherit_supernet`` makes, nsga2, 300
evaluations by agreement on the 120 validation sentences, nothing trained. **Shrunk**: the
teacher with widths, heads and features all times one factor, the largest that fits. **Random**: an
architecture of the space uniform between .9 and 1 of the budget, a new one each seed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _common import machine, markdown_table

import scholarch
from scholarch.data import labelled
from scholarch.datasets.arrays import Part
from scholarch.datasets.dataset import DataSet
from scholarch.search.budget import Budget
from scholarch.search.inherited import search_supernet
from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.extremes import largest
from scholarch.searchspace.transformers.style import EncoderShape, LayerShape
from scholarch.supernet.distil.settings import DistilSettings
from scholarch.supernet.distil.trainer import StudentTrainer
from scholarch.supernet.evaluate import accuracy, part_batches
from scholarch.supernet.pretrained import Supernet

FILE = Path(__file__).resolve().parent / "minilm.jsonl"
LENGTH = 24
SIZES = {"train": 8000, "val": 120, "test": 1500}
FRACTIONS = (0.5, 0.25)
EVALUATIONS = 300
STEPS, BATCH, LR = 200, 32, 5e-4


def data_of(teacher: Any) -> DataSet:
    """The first sentences of each part, with the teacher's embeddings for labels."""
    # All of them, since answers are kept, and others may have asked for them before.
    whole = labelled(scholarch.load_data(f"sentences?length={LENGTH}"), [teacher])
    parts = {
        name: Part(getattr(whole, name).images[:n], getattr(whole, name).labels[:n])
        for name, n in SIZES.items()
    }
    return dataclasses.replace(whole, **parts)


def shrunk(net: Supernet, limit: float) -> tuple[Architecture, EncoderShape]:
    """The teacher's shape times the largest factor that fits."""
    space, big = net.space, largest(net.space)
    full = space.shape_of(big)  # type: ignore[attr-defined]
    for dim in range(full.dim, 0, -1):
        factor = dim / full.dim
        heads = max(1, round(factor * full.layers[0].heads))
        shape = EncoderShape(
            dim, tuple(LayerShape(heads, 4 * dim, i) for i in range(len(full.layers)))
        )
        if macs_of(net, shape) <= limit:
            return big, shape
    raise RuntimeError("nothing fits")


def macs_of(net: Supernet, shape: EncoderShape) -> float:
    """Multiply-accumulates of a shape that need not be in the space, at the data's length."""
    head_dim, tokens = net.network.style.head_dim, net.space.resolution  # type: ignore[union-attr]
    total = shape.dim * float(net.space.num_classes)
    for heads, ffn, _ in shape.layers:
        width = heads * head_dim
        total += (
            tokens * (4.0 * shape.dim * width + 2.0 * shape.dim * ffn) + 2.0 * tokens**2 * width
        )
    return total


def random_student(net: Supernet, limit: float, seed: int) -> Architecture:
    rows = net.space.sample_matrix(20_000, np.random.default_rng((seed, 11)))
    macs = net.space.cost(rows)["macs"]
    fits = np.flatnonzero((macs <= limit) & (macs >= 0.9 * limit))
    return net.space.decode(rows[fits[:1]])[0]


def cut(net: Supernet, arch: Architecture, shape: EncoderShape | None) -> Any:
    """A student with the weights that it inherits; ``shape`` where the space has not got it."""
    network: Any = net.network
    return network.extract(arch) if shape is None else network.extract_shape(shape)


def trained(net: Supernet, arch: Architecture, network: Any, data: DataSet, seed: int) -> Any:
    """A student after its distillation."""
    settings = DistilSettings(
        "none",  # but labels, which are the teacher's embeddings
        train=DistilSettings.recipe(
            epochs=STEPS * BATCH / SIZES["train"], batch_size=BATCH, optimizer="adamw", lr=LR,
            weight_decay=0.01, evaluations=0, augment="none", seed=seed,
        ),
    )  # fmt: skip
    trainer = StudentTrainer(net.space, arch, network, data, settings)
    while not trainer.done:
        trainer.step()
    return trainer


def run(seeds: int) -> None:
    teacher = scholarch.load_teacher("minilm-l6")
    data = data_of(teacher)
    net = scholarch.inherit_supernet(teacher=teacher, data=data)
    full = float(net.space.cost([largest(net.space)])["macs"][0])
    done = [json.loads(t) for t in FILE.read_text().splitlines()] if FILE.exists() else []
    for seed in range(seeds):
        for fraction in FRACTIONS:
            limit = fraction * full
            for method in ("searched", "shrunk", "random"):
                key = {"fraction": fraction, "method": method, "seed": seed}
                if any(all(line[k] == v for k, v in key.items()) for line in done):
                    continue
                began, shape = time.process_time(), None
                if method == "searched":
                    found = search_supernet(
                        net, data, budget=Budget({"macs": limit}), evaluations=EVALUATIONS,
                        seed=seed, predictor="off", test=False,
                    )  # fmt: skip
                    arch = found.best.arch
                elif method == "shrunk":
                    arch, shape = shrunk(net, limit)
                else:
                    arch = random_student(net, limit, seed)
                chosen = time.process_time() - began
                network = cut(net, arch, shape)
                test = part_batches(data, "test")
                before = accuracy(network.eval(), test)
                began = time.process_time()
                trainer = trained(net, arch, network.train(), data, seed)
                line = key | {
                    "arch": arch.text if shape is None else f"shrunk to {shape.dim}",
                    "macs": macs_of(net, shape)
                    if shape
                    else float(net.space.cost([arch])["macs"][0]),
                    "teacher_macs": full,
                    "params": sum(p.numel() for p in network.parameters()),
                    "inherited": before,
                    "val": trainer.accuracy("val"),
                    "test": trainer.accuracy("test"),
                    "search_seconds": round(chosen, 1),
                    "seconds": round(time.process_time() - began, 1),
                }
                with FILE.open("a") as stream:
                    stream.write(json.dumps(line) + "\n")
                print(line, flush=True)


def table() -> None:
    lines = [json.loads(t) for t in FILE.read_text().splitlines()]
    rows = []
    for fraction in FRACTIONS:
        by = {(x["method"], x["seed"]): x for x in lines if x["fraction"] == fraction}
        seeds = sorted(s for m, s in by if m == "random" and ("shrunk", s) in by)
        ours = [by["searched", s] for s in seeds]
        for method in ("searched", "shrunk", "random"):
            found = [by[method, s] for s in seeds]
            gain = np.array([a["test"] - b["test"] for a, b in zip(ours, found, strict=True)])
            half = stats.t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / np.sqrt(len(gain))
            low, high = gain.mean() - half, gain.mean() + half
            paired = f"{gain.mean():+.4f} ({low:+.4f} … {high:+.4f})"
            spent = [np.mean([x[name] for x in found]) for name in ("search_seconds", "seconds")]
            share = np.mean([x["macs"] / x["teacher_macs"] for x in found])
            rows.append(
                {
                    "budget": f"{fraction:g}",
                    "student": method,
                    "seeds": len(seeds),
                    "MACs / teacher's": f"{share:.3f}",
                    "inherited": _mean(found, "inherited"),
                    "distilled": _mean(found, "test"),
                    "searched − it": "" if method == "searched" else paired,
                    "CPU s to choose, to train": f"{spent[0]:.0f}, {spent[1]:.0f}",
                }
            )
    print(markdown_table(rows), f"\n\n{machine()}")


def _mean(found: list[dict[str, Any]], name: str) -> str:
    values = [x[name] for x in found]
    return f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    run(given.seeds) if given.what == "run" else table()


if __name__ == "__main__":
    main()
