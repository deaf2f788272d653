"""Exported students beside torch: parity for every space, int8's accuracy and latency.

One random architecture of every space, random weights, as ONNX and as ``model.py``; a student
of ``resnet-cifar`` that was trained from several seeds, in float32 and in int8.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import numpy as np
import torch
from _common import IMAGES, Options, machine, markdown_table, parse_options, write_csv

import scholarch
from scholarch.data import DataSet, load_data
from scholarch.search.shipping.int8 import CALIBRATION, Normalised, write_int8
from scholarch.search.shipping.model_file import model_source
from scholarch.search.shipping.onnx_file import onnx_bytes
from scholarch.search.shipping.parity import BATCHES, TOLERANCE, relative_errors
from scholarch.search.shipping.runtime import OnnxSession
from scholarch.search.shipping.shaped_trace import UntraceableError
from scholarch.search.shipping.timing import latencies
from scholarch.searchspace.space import SearchSpace
from scholarch.supernet.finetune import FinetuneSettings, finetune

SPACE, STUDENT = "resnet-cifar", "16-16x1-32x1-64x1"
DEEP = "16-16x9-32x9-64x9"  # ResNet-56's shape, for latency alone
SEEDS = (0, 1, 2)
#: Data → epochs of plain training.
DATA = {"digits": 6, IMAGES: 4}

Row = dict[str, object]


def parity(spaces: Sequence[str]) -> list[Row]:
    """One architecture of each space, at the space's own resolution."""
    rows: list[Row] = []
    for name in spaces:
        space = scholarch.create_space(name)
        arch = space.sample(1, seed=0)[0]
        network = space.build(arch, seed=0).eval()
        image = (space.in_channels, space.resolution, space.resolution)
        errors = relative_errors(network, OnnxSession(onnx_bytes(network, image)), image)
        try:
            model_source(network, image, about=name, classes=space.num_classes)
            source = "equal bits"
        except UntraceableError as error:
            source = str(error)
        rows.append(
            {
                "space": name,
                "pixels": space.resolution,
                "params": int(space.cost([arch])["params"][0]),
                **{f"ONNX, batch of {size}": f"{errors[size]:.1e}" for size in BATCHES},
                "within 1e-4": "yes" if max(errors.values()) <= TOLERANCE else "no",
                "model.py": source,
            }
        )
        print(rows[-1], flush=True)
    return rows


def int8(space: SearchSpace, data: DataSet, epochs: int, seed: int, folder: Path) -> Row:
    """A student trained from a seed, in both precisions."""
    arch = space.parse(STUDENT)
    settings = FinetuneSettings(epochs=epochs, lr=0.1, weight_decay=5e-4, augment="none", seed=seed)
    tuned = finetune(space.build(arch, seed=seed), data, settings)
    images = Normalised(data, data.mean, data.std)
    image = (3, data.resolution, data.resolution)
    found = write_int8(tuned.network, folder / "int8.onnx", image, images, seed=seed)
    times = latencies({"torch": tuned.network, **found.sessions}, image)
    return {
        "data": data.name,
        "seed": seed,
        **{
            f"{part} {kind}": round(100 * found.accuracy[part][kind], 2)
            for part in ("val", "test")
            for kind in ("float", "int8")
        },
        "float kB": round(found.sizes["float"] / 1e3, 1),
        "int8 kB": round(found.sizes["int8"] / 1e3, 1),
        "torch ms": round(times["torch"], 3),
        "onnxruntime ms": round(times["float"], 3),
        "onnxruntime int8 ms": round(times["int8"], 3),
    }


def summary(rows: Sequence[Row]) -> list[Row]:
    """Mean and standard deviation over seeds of what int8 changes, in points."""
    found: list[Row] = []
    for name in dict.fromkeys(str(row["data"]) for row in rows):
        own = [row for row in rows if row["data"] == name]
        line: Row = {"data": name, "seeds": len(own)}
        for part in ("val", "test"):
            plain, small = (np.array([float(str(r[f"{part} {k}"])) for r in own]) for k in KINDS)
            change = small - plain
            line[f"{part}, float"] = f"{plain.mean():.2f} ± {plain.std(ddof=1):.2f}"
            line[f"{part}, int8 − float"] = f"{change.mean():+.2f} ± {change.std(ddof=1):.2f}"
            line[f"{part}, worst seed"] = f"{change.min():+.2f}"
        found.append(line)
    return found


KINDS = ("float", "int8")


def deep(space: SearchSpace, text: str, data: DataSet, folder: Path) -> Row:
    """A deep network's sizes and latencies; its weights are random, its accuracy none."""
    network = space.build(space.parse(text), seed=0).eval()
    image = (3, data.resolution, data.resolution)
    images = Normalised(data, data.mean, data.std)
    found = write_int8(network, folder / "deep.onnx", image, images, calibration=32)
    times = latencies({"torch": network, **found.sessions}, image)
    return {
        "student": text,
        "float kB": round(found.sizes["float"] / 1e3, 1),
        "int8 kB": round(found.sizes["int8"] / 1e3, 1),
        "torch ms": round(times["torch"], 2),
        "onnxruntime ms": round(times["float"], 2),
        "onnxruntime int8 ms": round(times["int8"], 2),
    }


def _ratio(rows: Sequence[Row], above: str, below: str) -> str:
    return f"{np.median([float(str(r[above])) / float(str(r[below])) for r in rows]):.1f}"


def main() -> None:
    options = parse_options(__file__, __doc__ or "", [IMAGES])
    torch.set_num_threads(1)
    spaces = ["resnet-cifar", "nasbench-macro"] if options.quick else scholarch.list_spaces("*")
    began = time.perf_counter()
    first = parity(spaces)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, epochs in DATA.items():
            data = load_data(name if name == "digits" else options.data / name)
            if options.quick and name != "digits":
                continue
            space = scholarch.create_space(
                SPACE, num_classes=data.num_classes, resolution=data.resolution
            )
            for seed in SEEDS[:2] if options.quick else SEEDS:
                rows.append(int8(space, data, 1 if options.quick else epochs, seed, Path(folder)))
                print(rows[-1], flush=True)
        large = deep(space, STUDENT if options.quick else DEEP, data, Path(folder))
    write_csv(options.out / "onnx.csv", first)
    write_csv(options.out / "int8.csv", rows)
    text = page(options, first, rows, large, time.perf_counter() - began)
    (options.out / "table.md").write_text(text)
    print(text)


def page(
    options: Options, first: Sequence[Row], rows: Sequence[Row], large: Row, seconds: float
) -> str:
    """The tables."""
    worst = max(float(str(row[f"ONNX, batch of {size}"])) for row in first for size in BATCHES)
    lines = [
        "# Exported students beside torch",
        "",
        f"`{options.command}`; {machine()}; {seconds:.0f} s",
        "",
        "## ONNX and model.py, every space",
        "",
        "One architecture of each (seed 0), random weights (seed 0), ten classes, the space's own"
        " resolution; max|Δ| / max|y| of onnxruntime against torch on normal images. The batch of"
        " the file is open. `model.py`: the generated source's outputs against the network's.",
        "",
        markdown_table(first),
        "",
        f"Worst of all: {worst:.1e}; allowed: {TOLERANCE:.0e}.",
        "",
        "## int8, post-training",
        "",
        f"`{SPACE}` `{STUDENT}`, trained plainly from each seed (SGD, lr .1, cosine, batch 64, no"
        f" augmentation; epochs: {', '.join(f'{n} {e}' for n, e in DATA.items())}; the better of"
        " before and after by validation, so the float accuracy is a short run's and nobody's"
        f" best). Static, weights by output channel, activations by {CALIBRATION} training images;"
        " accuracy in %, mean ± standard deviation over seeds. The test part was read once a seed,"
        " for both files.",
        "",
        markdown_table(summary(rows)),
        "",
        "Every seed; sizes of the files; milliseconds of one image on one thread, timed in turn"
        " on a machine that other work shares: ratios in a row say more than the numbers.",
        "",
        markdown_table(rows),
        "",
        f"int8's file is {_ratio(rows, 'float kB', 'int8 kB')} times smaller; its time is"
        f" {_ratio(rows, 'onnxruntime int8 ms', 'onnxruntime ms')} times float's on onnxruntime"
        " (medians over rows, on this processor and for networks this narrow).",
        "",
        "A network of ResNet-56's shape, random weights, calibrated on 32 images:",
        "",
        markdown_table([large]),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
