"""bench-S: every schedule at an equal cost in multiply-accumulates, on two CPU cores.

One run is one process of one thread; finished runs are kept in a table of lines, so that the
whole can be stopped and run again, and several processes can share the work::

    python results/supernet/bench_s.py run --data fashion-mnist --seeds 5
    python results/supernet/bench_s.py table

Choices (learning rate, averaging, draws) were made with ``--data cifar10`` alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import fcntl
import io
import itertools
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

from scholarch.data import load_data
from scholarch.datasets.arrays import Part
from scholarch.datasets.dataset import DataSet
from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.factory import create_space
from scholarch.supernet.evaluate import Evaluator
from scholarch.supernet.settings import TrainSettings
from scholarch.supernet.trainer import Trainer

HERE = Path(__file__).resolve().parent
SIDE = 16
TRAIN, VAL, TEST = 10_000, 1_000, 4_000
MACS = 6e11
#: Marks of the runs this process is at, see ``claimed``.
HELD: list[TextIO] = []

#: Chosen on CIFAR-10: at so few steps augmentation and large batches cost every method points.
SHARED = {"batch_size": 32, "lr": 0.1, "augment": "none"}
BINS, PER_BIN, CALIBRATION = 5, 3, 500

#: Schedule and its options, by the name in the table.
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "delayed": ("delayed", {}),
    "delayed-answers": ("delayed", {"labels": 0.0}),
    "deps-released": ("deps-released", {}),
    "sandwich": ("sandwich", {}),
    "progressive": ("progressive", {}),
    "compound": ("compound", {}),
    "bestup": ("bestup", {}),
    "worstup": ("worstup", {}),
    "alpha": ("alpha", {}),
}


def smaller(images: np.ndarray, side: int = SIDE) -> np.ndarray:
    """uint8 ``[N, H, W, C]`` → the same at ``side``, by area."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    x = torch.nn.functional.interpolate(x, (side, side), mode="area")
    return x.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def part(images: np.ndarray, labels: np.ndarray) -> Part:
    return Part(smaller(images), labels)


def fashion_mnist() -> DataSet:
    """10,000 training, 1,000 validation and 4,000 test images, 16 px."""
    data = load_data("/usr/share/datasets/fashion-mnist", seed=0)
    return dataclasses.replace(
        data,
        name="fashion-mnist",
        train=part(data.train.images[:TRAIN], data.train.labels[:TRAIN]),
        val=part(data.val.images[:VAL], data.val.labels[:VAL]),
        test=part(data.test.images[:TEST], data.test.labels[:TEST]),
    )


def cifar10() -> DataSet:
    """As many of CIFAR-10, JPEG quality 75, from its training part alone; for choosing."""
    from PIL import Image

    with np.load(Path(os.environ["SCHOLARCH_DATA"]) / "cifar10_jpeg_train.npz") as file:
        jpeg, offset, label = file["jpeg"], file["offset"], file["label"].astype(np.int64)
    order = np.random.default_rng(0).permutation(len(label))[: TRAIN + VAL + TEST]
    images = np.stack(
        [
            np.asarray(Image.open(io.BytesIO(jpeg[offset[i] : offset[i + 1]].tobytes())))
            for i in order
        ]
    )
    labels = label[order]
    parts = np.split(np.arange(len(order)), [TRAIN, TRAIN + VAL])
    train, val, test = (part(images[p], labels[p]) for p in parts)
    pixels = train.images.reshape(-1, 3) / 255.0
    mean, std = (tuple(map(float, x)) for x in (pixels.mean(0), pixels.std(0)))
    return DataSet("cifar10", 10, train, val, test, mean, std)


DATA = {"fashion-mnist": fashion_mnist, "cifar10": cifar10}


def pareto(trainer: Trainer, evaluator: Evaluator) -> list[Architecture]:
    """Of each cost bin the best of a few, by validation; the same few for every method."""
    drawer = trainer.drawer
    rows = drawer.rows(20_000, np.random.default_rng(7))
    macs = drawer.macs(rows)
    edges = np.quantile(macs, np.linspace(0.001, 0.999, BINS + 1))
    chosen = []
    for low, high in itertools.pairwise(edges):
        inside = rows[(macs >= low) & (macs < high)][:PER_BIN]
        archs = drawer.decode(inside)
        found = evaluator.accuracies(archs)
        chosen.append(archs[int(np.argmax(found))])
    return chosen


def trainer_of(
    data: DataSet, method: str, seed: int, *, macs: float = MACS, **extra: Any
) -> Trainer:
    """A trainer of a method, by the settings that all methods share."""
    name, options = METHODS[method]
    options = {**options, **extra.pop("options", {})}
    space = create_space(
        "mobilenetv3-cifar", num_classes=data.num_classes, resolution=SIDE, width_mult=0.25
    )
    given = {**SHARED, "schedule": name, "options": options, "macs": macs, "seed": seed, **extra}
    return Trainer(space, data, TrainSettings(**given))


def evaluator_of(trainer: Trainer) -> Evaluator:
    """What measures the trained network; averaged weights take the place of the last."""
    if trainer.average is not None:
        trainer.flat.values.copy_(trainer.average)
    return Evaluator(trainer.network, trainer.data, calibration=CALIBRATION)


def run(
    data: DataSet, method: str, seed: int, macs: float, extra: dict[str, Any]
) -> dict[str, Any]:
    """One run: train, choose on validation, read the test part once."""
    trainer = trainer_of(data, method, seed, macs=macs, **extra)
    began = time.process_time()
    while not trainer.done:
        trainer.step()
    seconds = time.process_time() - began
    evaluator = evaluator_of(trainer)
    front = pareto(trainer, evaluator)
    drawer = trainer.drawer
    test = {
        "smallest": evaluator.accuracy(drawer.smallest, "test"),
        "largest": evaluator.accuracy(drawer.largest, "test"),
        "front": [evaluator.accuracy(arch, "test") for arch in front],
    }
    return {
        "data": data.name,
        "method": method,
        "seed": seed,
        "macs": trainer.macs_passed,
        "steps": trainer.plan.steps,
        "seconds": round(seconds, 1),
        "settings": extra,
        "test": test,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=sorted(DATA), default="fashion-mnist")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--macs", type=float, default=MACS)
    parser.add_argument("--extra", default="{}", help="JSON: more settings")
    parser.add_argument("--label", default="", help="added to the method's name")
    parser.add_argument("--runs", type=Path, default=HERE / "bench_s.jsonl")
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = DATA[given.data]()
    for seed in range(given.first_seed, given.first_seed + given.seeds):
        for method in given.methods.split(","):
            name = method + given.label
            if claimed(given.runs, given.data, name, seed):
                continue
            line = run(data, method, seed, given.macs, json.loads(given.extra))
            line["method"] = name
            with given.runs.open("a") as file:
                file.write(json.dumps(line) + "\n")
            front = float(np.mean(line["test"]["front"]))
            print(
                f"{name:28} seed {seed}  smallest {line['test']['smallest']:.4f}  front"
                f" {front:.4f}  largest {line['test']['largest']:.4f}  {line['macs']:.3g} MACs"
                f"  {line['steps']} steps  {line['seconds']} s",
                flush=True,
            )


def claimed(runs: Path, data: str, method: str, seed: int) -> bool:
    """Whether a run is done or another process is at it."""
    if runs.exists():
        for text in runs.read_text().splitlines():
            line = json.loads(text)
            if (line["data"], line["method"], line["seed"]) == (data, method, seed):
                return True
    # Held until the process ends, however it ends: a mark that is a file alone outlives a kill.
    mark = Path(tempfile.gettempdir()) / f"bench_s-{runs.stem}-{data}-{method}-{seed}.lock"
    stream = mark.open("a")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        return True
    HELD.append(stream)
    return False


if __name__ == "__main__":
    main()
