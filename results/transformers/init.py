"""Where a Transformer student starts: inherited in four orders, or from scratch.

    python results/transformers/init.py text [--seeds 3]
    python results/transformers/init.py longer
    python results/transformers/init.py images [--seeds 3]
    python results/transformers/init.py table

**text**: students of MiniLM-L6 on the data of ``minilm.py``; one random shape at a half and one at
a quarter of the teacher's multiply-accumulates a seed, the same for all starts: ``importance``,
``even``, ``prefix`` and ``stages`` of ``inherit_supernet(how=…)``, and ``scratch``, the space's own
initialisation. Agreement with the teacher on 1,500 test sentences before and after 100 steps of 32
(1 − cosine to the teacher's embeddings, AdamW 5e-4, the same batches). **longer**: 300 steps at a
half, one seed. **images**: students at a half of a small ViT that is trained here on bench-S'
Fashion-MNIST; test accuracy before and after one epoch of logits KD.
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
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "supernet"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import bench_s
import minilm
from _common import machine, markdown_table, spread

import scholarch
from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.extremes import largest
from scholarch.searchspace.narrow import narrow
from scholarch.supernet.distil.arrange import ORDERS
from scholarch.supernet.distil.settings import DistilSettings
from scholarch.supernet.distil.trainer import StudentTrainer
from scholarch.supernet.evaluate import accuracy, part_batches
from scholarch.supernet.pretrained import Supernet

FILE = Path(__file__).resolve().parent / "init.jsonl"
STARTS = (*ORDERS, "scratch")
#: Of the ViT teacher, what ``vit_supernet.py`` trains its networks with.
VIT = {"patch_size": 4, "width_mult": 0.25}
VIT_EPOCHS, VIT_SEED = 6.0, 0
RECIPE: dict[str, Any] = {
    "batch_size": 64, "optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.05,
    "augment": "none", "evaluations": 0, "smoothing": 0.0, "lr_warmup": 0.1,
}  # fmt: skip


def lines() -> list[dict[str, Any]]:
    return [json.loads(t) for t in FILE.read_text().splitlines()] if FILE.exists() else []


def student(net: Supernet, arch: Architecture, start: str, seed: int) -> Any:
    """The network of a shape before it is trained."""
    if start == "scratch":
        return net.space.build(arch, seed=seed)
    return net.network.extract(arch)


def measure(
    kind: str, supernets: dict[str, Supernet], data: Any, todo: list[dict[str, Any]], settings: Any
) -> None:
    """Append a line for each run of ``todo`` that is not there yet."""
    done = lines()
    plain = supernets["importance"]
    full = float(plain.space.cost([largest(plain.space)])["macs"][0])
    test = part_batches(data, "test")
    for key in todo:
        key = {"data": kind} | key
        if any(all(line[k] == v for k, v in key.items()) for line in done):
            continue
        chosen = minilm.random_student(plain, key["fraction"] * full, key["seed"])
        net = supernets.get(key["start"], plain)
        arch = net.space.parse(chosen.text)
        network = student(net, arch, key["start"], key["seed"])
        before = accuracy(network.eval(), test)
        began = time.process_time()
        chosen_settings, teachers = settings(key)
        trainer = StudentTrainer(
            net.space, arch, network.train(), data, chosen_settings, teachers=teachers
        )
        while not trainer.done:
            trainer.step()
        line = key | {
            "arch": arch.text,
            "share": round(float(net.space.cost([arch])["macs"][0]) / full, 4),
            "before": before,
            "after": trainer.accuracy("test"),
            "seconds": round(time.process_time() - began, 1),
        }
        with FILE.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        print(line, flush=True)


def text(seeds: int, fractions: list[float], *, longer: bool) -> None:
    teacher = scholarch.load_teacher("minilm-l6")
    data = minilm.data_of(teacher)
    supernets = {how: scholarch.inherit_supernet(teacher=teacher, data=data, how=how)
                 for how in ORDERS}  # fmt: skip
    todo: list[dict[str, Any]] = [
        {"fraction": fraction, "seed": seed, "start": start, "steps": 100}
        for fraction in sorted(minilm.FRACTIONS)
        for seed in range(seeds)
        for start in STARTS
        if fraction in fractions
    ]
    if longer:
        todo = [
            {"fraction": 0.5, "seed": 0, "start": start, "steps": 300}
            for start in ("importance", "even", "scratch")
        ]

    def settings(key: dict[str, Any]) -> tuple[DistilSettings, tuple[()]]:
        epochs = key["steps"] * minilm.BATCH / minilm.SIZES["train"]
        train = DistilSettings.recipe(
            epochs=epochs, batch_size=minilm.BATCH, optimizer="adamw", lr=minilm.LR,
            weight_decay=0.01, evaluations=0, augment="none", seed=key["seed"],
        )  # fmt: skip
        return DistilSettings("none", train=train), ()  # labels are the teacher's embeddings

    measure("sentences", supernets, data, todo, settings)


def vit_teacher(data: Any) -> Any:
    """The largest network of ``vit-from-teacher``, 12 layers 48 wide, trained alone."""
    space = scholarch.create_space(
        "vit-from-teacher", num_classes=10, resolution=bench_s.SIDE, **VIT
    )
    best = largest(space)
    row = space.encode([best])[0]
    alone = narrow(space, {g.name: [g.values[i]] for g, i in zip(space.genes, row, strict=True)})
    trained = scholarch.train_supernet(
        space=alone, data=data, schedule="largest", seed=VIT_SEED, epochs=VIT_EPOCHS, **RECIPE
    )
    network = trained.network.extract(largest(alone)).eval()
    teacher = scholarch.load_teacher(network, mean=data.mean, std=data.std, resize=0)
    return teacher, accuracy(network, part_batches(data, "test"))


def images(seeds: int) -> None:
    data = bench_s.fashion_mnist()
    teacher, found = vit_teacher(data)
    print(f"teacher: {100 * found:.2f} % of the test images", flush=True)
    supernets = {how: scholarch.inherit_supernet(teacher=teacher, data=data, how=how)
                 for how in ORDERS}  # fmt: skip
    todo = [
        {"fraction": 0.5, "seed": seed, "start": start, "steps": 157, "teacher": found}
        for seed in range(seeds)
        for start in STARTS
    ]

    def settings(key: dict[str, Any]) -> tuple[DistilSettings, list[Any]]:
        train = DistilSettings.recipe(**RECIPE, epochs=1.0, seed=key["seed"])
        return DistilSettings("kd", train=train), [teacher]

    measure("fashion-mnist", supernets, data, todo, settings)


def table() -> None:
    every = lines()
    rows = []
    kinds = dict.fromkeys((x["data"], x["fraction"], x["steps"]) for x in every)
    for kind, fraction, steps in sorted(kinds, key=lambda k: (k[0] != "sentences", k[2], -k[1])):
        group = (kind, fraction, steps)
        here = [x for x in every if (x["data"], x["fraction"], x["steps"]) == group]
        ours = {x["seed"]: x for x in here if x["start"] == "importance"}
        for start in STARTS:
            found = {x["seed"]: x for x in here if x["start"] == start}
            if not found:
                continue
            rows.append(
                {
                    "data": kind,
                    "MACs": f"{np.mean([x['share'] for x in found.values()]):.2f}",
                    "steps": steps,
                    "start": start,
                    "seeds": len(found),
                    "before": spread([x["before"] for x in found.values()], digits=3),
                    "after": spread([x["after"] for x in found.values()], digits=3),
                    "it − importance, before": paired(found, ours, "before"),
                    "after ": paired(found, ours, "after"),
                    "CPU s": f"{np.mean([x['seconds'] for x in found.values()]):.0f}",
                }
            )
    print(markdown_table(rows), f"\n\n{machine()}")


def paired(found: dict[int, Any], ours: dict[int, Any], name: str) -> str:
    """The mean difference by seed and its 95 % t interval."""
    gain = np.array([found[s][name] - ours[s][name] for s in sorted(found) if s in ours])
    if not gain.any():
        return ""
    if len(gain) < 2:
        return f"{gain.mean():+.3f}"
    half = stats.t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / np.sqrt(len(gain))
    return f"{gain.mean():+.3f} ({gain.mean() - half:+.3f} … {gain.mean() + half:+.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("text", "longer", "images", "table"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--fractions", type=float, nargs="+", default=list(minilm.FRACTIONS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "table":
        table()
    elif given.what == "images":
        images(given.seeds)
    else:
        text(given.seeds, given.fractions, longer=given.what == "longer")


if __name__ == "__main__":
    main()
