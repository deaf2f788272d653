"""A small HuBERT and its students, end to end: made, saved, loaded, inherited, searched, distilled.

    python results/transformers/hubert.py run [--seeds 3]
    python results/transformers/hubert.py table

No HuBERT weights can be had here, so the teacher is of HuBERT's layout alone: 6 layers 96 wide on
convolutions of 32 channels, trained for 8 epochs on ``spoken-digits`` (eSpeak NG: 1,200 clips of
.6 s to learn from, 240 each to choose by and to test on, no voice in two parts). It is written as
``transformers`` writes a ``HubertForSequenceClassification``, and that folder is the teacher.

Students have half of its multiply-accumulates and inherit by importance. **searched**: nsga2, 60
evaluations of the inherited supernet on the validation part; **shrunk**: the largest of the space
whose width, heads and features are the teacher's times one factor; **random**: between .9 and 1 of
the budget, a new one each seed. They are refined for half an epoch (after two the
searched one makes no mistake) by ``kd`` and labels, the searched one also by labels alone
(``none``) and by LightHuBERT's two stages beside the labels, half of the time each.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import minilm
from _common import machine, markdown_table, spread

import scholarch
from scholarch.data import load_batch, load_data
from scholarch.search.budget import Budget
from scholarch.search.inherited import search_supernet
from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.extremes import largest
from scholarch.searchspace.narrow import narrow
from scholarch.supernet.distil.settings import DistilSettings
from scholarch.supernet.distil.trainer import StudentTrainer
from scholarch.supernet.evaluate import accuracy, part_batches
from scholarch.supernet.pretrained import Supernet
from scholarch.teachers.library import save_library

FILE = Path(__file__).resolve().parent / "hubert.jsonl"
#: Kept between calls, so that a run that was stopped goes on with the same teacher.
TEACHER = Path(tempfile.gettempdir()) / "scholarch-hubert-of-digits"
MADE = TEACHER / "made.json"
DATA = "spoken-digits?seconds=0.6"
OUTLINE = {"dim": 96, "depth": 6, "heads": 6, "head_dim": 16, "tenths": 40, "unit": 16}
RECIPE: dict[str, Any] = {
    "batch_size": 32, "optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.01, "augment": "none",
    "evaluations": 0, "smoothing": 0.0, "lr_warmup": 0.1,
}  # fmt: skip
TEACHER_EPOCHS, HALF, EVALUATIONS = 8.0, 0.5, 60
#: How students are refined: distiller, its options, share of the epochs, one after the other.
STAGES: dict[str, list[tuple[str, dict[str, Any], float]]] = {
    "kd": [("kd", {}, 1.0)],
    "none": [("none", {}, 1.0)],
    "lighthubert": [("lighthubert", {}, 0.5), ("lighthubert", {"mask": 0.65}, 0.5)],
}


def made_teacher(data: Any) -> None:
    """Train the teacher and write it in the library's layout, once."""
    if (TEACHER / "config.json").is_file():
        return
    began = time.process_time()
    space = scholarch.create_space(
        "hubert-from-teacher", num_classes=10, resolution=data.resolution, in_channels=2,
        outline=OUTLINE, channels=[32] * 7, normalise=True,
    )  # fmt: skip
    row = space.encode([largest(space)])[0]
    alone = narrow(space, {g.name: [g.values[i]] for g, i in zip(space.genes, row, strict=True)})
    trained = scholarch.train_supernet(
        space=alone, data=data, schedule="largest", seed=0, epochs=TEACHER_EPOCHS, **RECIPE
    )
    network: Any = trained.network.extract(largest(alone)).eval()
    what = save_library(network, TEACHER)
    again = scholarch.load_teacher(TEACHER)
    clips = load_batch(data, size=64, seed=0).images
    with torch.no_grad():
        known, found = network(clips), again.module(clips)
    about = {
        "written": what,
        "loaded_again_differs_by": float((known - found).abs().max() / known.abs().max()),
        "seconds": round(time.process_time() - began, 1),
    }
    MADE.write_text(json.dumps(about))


def tell_teacher(teacher: Any, net: Supernet, data: Any) -> None:
    """Note what the teacher is, once."""
    if any(line["what"] == "teacher" for line in lines()):
        return
    about = {
        "what": "teacher",
        "params": sum(p.numel() for p in teacher.module.parameters()),
        "macs": float(net.space.cost([largest(net.space)])["macs"][0]),
        "val": accuracy(teacher.module, part_batches(data, "val")),
        "test": accuracy(teacher.module, part_batches(data, "test")),
    }
    note(about | (json.loads(MADE.read_text()) if MADE.is_file() else {}))


def note(line: dict[str, Any]) -> None:
    with FILE.open("a") as stream:
        stream.write(json.dumps(line) + "\n")
    print(line, flush=True)


def lines() -> list[dict[str, Any]]:
    return [json.loads(t) for t in FILE.read_text().splitlines()] if FILE.exists() else []


def shrunk(net: Supernet, limit: float) -> Architecture:
    """The widest of the space with all of its layers, its heads and features in proportion."""
    depth, full = OUTLINE["depth"], OUTLINE["dim"]
    for dim in range(full - 16, 0, -16):
        heads = max(1, round(dim / full * OUTLINE["heads"]))
        text = {"embed_dim": dim, "depth": depth, "num_heads": [heads] * depth}
        arch = net.space.parse(json.dumps(text | {"mlp_ratio": [4.0] * depth}))
        if net.space.cost([arch])["macs"][0] <= limit:
            return arch
    raise RuntimeError("nothing fits")


def chosen(net: Supernet, data: Any, method: str, limit: float, seed: int) -> Architecture:
    if method == "searched":
        found = search_supernet(
            net, data, budget=Budget({"macs": limit}), evaluations=EVALUATIONS, seed=seed,
            predictor="off", test=False,
        )  # fmt: skip
        return found.best.arch
    if method == "shrunk":
        return shrunk(net, limit)
    return minilm.random_student(net, limit, seed)


def run(seeds: int, epochs: float) -> None:
    data = load_data(DATA)
    made_teacher(data)
    teacher = scholarch.load_teacher(TEACHER)
    net = scholarch.inherit_supernet(teacher=teacher, data=data)
    full = float(net.space.cost([largest(net.space)])["macs"][0])
    tell_teacher(teacher, net, data)
    test = part_batches(data, "test")
    for seed in range(seeds):
        for method in ("searched", "shrunk", "random"):
            arch, spent = None, 0.0
            for how in STAGES if method == "searched" else ("kd",):
                key = {"what": "student", "method": method, "how": how, "seed": seed}
                key["epochs"] = epochs
                if any(all(line.get(k) == v for k, v in key.items()) for line in lines()):
                    continue
                began = time.process_time()
                if arch is None:
                    arch = chosen(net, data, method, HALF * full, seed)
                    spent = time.process_time() - began
                network: Any = net.network.extract(arch)
                before = accuracy(network.eval(), test)
                began = time.process_time()
                for distiller, options, share in STAGES[how]:
                    settings = DistilSettings(
                        distiller,
                        options,
                        train=DistilSettings.recipe(**RECIPE, epochs=share * epochs, seed=seed),
                    )
                    trainer = StudentTrainer(
                        net.space, arch, network.train(), data, settings,
                        teachers=[teacher] if settings.teaches else [],
                    )  # fmt: skip
                    while not trainer.done:
                        trainer.step()
                note(
                    key
                    | {
                        "arch": arch.text,
                        "share": round(float(net.space.cost([arch])["macs"][0]) / full, 4),
                        "before": before,
                        "after": trainer.accuracy("test"),
                        "search_seconds": round(spent, 1),
                        "seconds": round(time.process_time() - began, 1),
                    }
                )


def table(epochs: float) -> None:
    every = lines()
    teacher = next(x for x in every if x["what"] == "teacher")
    rows = [
        {
            "network": "teacher",
            "refined by": "",
            "seeds": 1,
            "MACs / teacher's": "1",
            "before": "",
            "after": f"{100 * teacher['test']:.1f}",
            "CPU s to choose, to train": "",
        }
    ]
    students = [x for x in every if x["what"] == "student" and x["epochs"] == epochs]
    for method, how in dict.fromkeys((x["method"], x["how"]) for x in students):
        found = [x for x in students if (x["method"], x["how"]) == (method, how)]
        spent = [np.mean([x[name] for x in found]) for name in ("search_seconds", "seconds")]
        rows.append(
            {
                "network": method,
                "refined by": how,
                "seeds": len(found),
                "MACs / teacher's": f"{np.mean([x['share'] for x in found]):.2f}",
                "before": spread([x["before"] for x in found], scale=100),
                "after": spread([x["after"] for x in found], scale=100),
                "CPU s to choose, to train": f"{spent[0]:.0f}, {spent[1]:.0f}",
            }
        )
    print(markdown_table(rows), f"\n\n{teacher}\n\n{machine()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=0.5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    run(given.seeds, given.epochs) if given.what == "run" else table(given.epochs)


if __name__ == "__main__":
    main()
