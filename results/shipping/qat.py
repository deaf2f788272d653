"""int8 in the loop (``scholarch distil --int8``) against int8 after training.

One student, distilled twice from the same seed, teacher and data: in float, and with weights and
inputs rounded as the export will; both exported by the same command to int8::

    python results/shipping/qat.py run --data digits
    python results/shipping/qat.py run --data fashion-mnist
    python results/shipping/qat.py table

The second is bench-S of :mod:`distilled.common`, whose teacher has to be trained before.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "distilled"), str(HERE.parent)]
import common  # noqa: E402
import numpy as np  # noqa: E402
from _common import machine, markdown_table  # noqa: E402

import scholarch  # noqa: E402
from scholarch.search.student import Student  # noqa: E402

WIDTH = 0.25
#: Data → student, epochs.
DATA = {"digits": ("4-4x1-8x1-16x1", 12), "fashion-mnist": ("8-4x2-8x2-16x2", 4)}
KINDS = {"after": False, "in the loop": True}
FILE = HERE / "qat.jsonl"


def setting(name: str) -> tuple[Any, Any, Any]:
    """Data, teacher and space."""
    if name == "digits":
        data = scholarch.load_data(name)
        teacher = scholarch.load_teacher("resnet14-digits")
        space = scholarch.create_space(
            "resnet-cifar", num_classes=10, resolution=data.resolution, width_mult=WIDTH
        )
        return data, teacher, space
    data = common.data_of(name)
    return data, common.teacher_of("r20", data), common.space_of(WIDTH)


def run(name: str, seeds: int) -> None:
    common.one_thread()
    data, teacher, space = setting(name)
    text, epochs = DATA[name]
    arch = space.parse(text)
    costs = {cost: float(column[0]) for cost, column in space.cost([arch]).items()}
    lines = [json.loads(t) for t in FILE.read_text().splitlines()] if FILE.exists() else []
    done = {(x["data"], x["seed"], x["kind"]) for x in lines}
    for seed in range(seeds):
        for kind, int8 in KINDS.items():
            if (name, seed, kind) in done:
                continue
            began = time.process_time()
            found = scholarch.distil_student(
                Student(arch, space, costs, float("nan"), seed=seed),
                teacher=teacher, data=data, epochs=epochs, seed=seed, int8=int8,
                augment="none", evaluations=4, batch_size=64,
            )  # fmt: skip
            seconds = time.process_time() - began
            with tempfile.TemporaryDirectory() as out:
                told = scholarch.export_student(
                    found.student, Path(out) / "a.onnx", kind="onnx-int8", data=data, seed=seed
                ).to_json()
            line = {
                "data": name, "arch": text, "epochs": epochs, "seed": seed, "kind": kind,
                **{f"{p} {k}": told["accuracy"][p][k] for p in ("val", "test")
                   for k in ("float", "int8")},
                **{f"{k} ms": round(v, 3) for k, v in told["latency_ms"].items()},
                "bytes": told["bytes"], "seconds": round(seconds, 1),
            }  # fmt: skip
            with FILE.open("a") as stream:
                stream.write(json.dumps(line) + "\n")
            print(line, flush=True)


def table() -> None:
    lines = [json.loads(t) for t in FILE.read_text().splitlines()]
    rows = []
    for name in dict.fromkeys(x["data"] for x in lines):
        by = {(x["kind"], x["seed"]): x for x in lines if x["data"] == name}
        seeds = sorted(s for kind, s in by if kind == "in the loop" and ("after", s) in by)
        for kind in KINDS:
            mine = [by[kind, s] for s in seeds]
            loss = [x["test int8"] - x["test float"] for x in mine]
            gain = [x["test int8"] - by["after", x["seed"]]["test int8"] for x in mine]
            fast, slow = (np.median([x[f"{k} ms"] for x in mine])
                          for k in ("onnxruntime", "onnxruntime int8"))  # fmt: skip
            rows.append(
                {
                    "data": name,
                    "int8": kind,
                    "seeds": len(seeds),
                    "test, float": common.mean_sd([x["test float"] for x in mine]),
                    "test, int8": common.mean_sd([x["test int8"] for x in mine]),
                    "int8 − float": common.interval(loss),
                    "int8 − int8 after": "" if kind == "after" else common.interval(gain),
                    "ms, float": f"{fast:.2f}",
                    "ms, int8": f"{slow:.2f}",
                    "kB": f"{mine[0]['bytes'] / 1e3:.0f}",
                    "CPU s": f"{np.mean([x['seconds'] for x in mine]):.0f}",
                }
            )
    print(markdown_table(rows), f"\n\n{machine()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--data", choices=tuple(DATA), default="digits")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    if given.what == "run":
        run(given.data, given.seeds)
    else:
        table()


if __name__ == "__main__":
    main()
