"""A bank of training-free measurements of the FlexiBERT encoders; reads no accuracy.

    python results/ranking/flexibert.py --data FOLDER [--part N] [--out CSV]

One line for every row, build (``config``, ``trained``: see ``flexibert_nets``), kind of
input and seed, as ``PLAN`` says: half an hour on one core. ``--part`` does one entry of it, so
that they can run side by side; the parts' lines one after the other are the bank.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _common import write_csv
from flexibert_measures import linearised, measure
from flexibert_nets import Encoder, parse_layers, sizes

TABLE = "flexibert_open_half.csv.gz"
#: Build, input and seed.
PLAN = (
    ("trained", "tokens", 0),
    ("trained", "tokens", 1),
    ("config", "tokens", 0),
    ("trained", "gauss", 0),
)
#: All that is read of the table.
SHAPE = ("id", "hidden_size", "nas_config")


def shapes(data: Path) -> list[dict[str, str]]:
    """The table's rows, their shapes only."""
    with gzip.open(data / TABLE, "rt", encoding="utf-8", newline="") as file:
        return [{name: row[name] for name in SHAPE} for row in csv.DictReader(file)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("SCHOLARCH_DATA"))
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).resolve().parent / "flexibert_bank.csv"
    )
    parser.add_argument("--part", type=int, choices=range(len(PLAN)), help="default: all")
    parser.add_argument("--rows", type=int, help="only the first so many, for a trial")
    given = parser.parse_args()
    if given.data is None:
        sys.exit("flexibert: skipped; give --data or set SCHOLARCH_DATA to the real data")
    torch.set_num_threads(1)
    lines: list[dict[str, object]] = []
    start = time.perf_counter()
    plan = PLAN if given.part is None else PLAN[given.part : given.part + 1]
    for build, inputs, seed in plan:
        for row in shapes(given.data)[: given.rows]:
            hidden = int(row["hidden_size"])
            layers = parse_layers(json.loads(row["nas_config"]), build)
            found = sizes(Encoder(hidden, layers, seed))
            found |= measure(hidden, layers, seed, inputs) | linearised(hidden, layers, seed)
            line = {"id": row["id"], "build": build, "inputs": inputs, "seed": seed}
            lines.append(line | {name: f"{value:.6g}" for name, value in found.items()})
        write_csv(given.out, lines)
        spent = time.perf_counter() - start
        print(f"{build}, {inputs}, seed {seed}: {spent:.0f} s", flush=True)


if __name__ == "__main__":
    main()
