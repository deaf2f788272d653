"""Distinct heads of the FlexiBERT encoders, the library's measurement; reads no accuracy.

    python results/ranking/flexibert_heads.py --data FOLDER [--seeds N] [--out CSV]

The effective number of different attention maps, summed over layers, of every row as it was
trained (build ``trained``, see ``flexibert_nets``) on 8 sequences: what ``distinct-heads`` looks
at. A minute a seed on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _common import write_csv
from flexibert import shapes
from flexibert_measures import embed
from flexibert_nets import Encoder, parse_layers

from scholarch.proxies.distinct_heads import MOST_INPUTS, effective_heads

OUT = Path(__file__).resolve().parent / "flexibert_heads.csv"


def distinct_heads(hidden: int, config: str, seed: int) -> float:
    """Of one encoder; ``config`` is its row's ``nas_config``."""
    layers = parse_layers(json.loads(config), "trained")
    with torch.no_grad():
        trace = Encoder(hidden, layers, seed)(embed(hidden, seed, "tokens", 0)[:MOST_INPUTS])
    return sum(map(effective_heads, trace.probabilities))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("SCHOLARCH_DATA"))
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    if given.data is None:
        sys.exit("flexibert_heads: skipped; give --data or set SCHOLARCH_DATA to the real data")
    torch.set_num_threads(1)
    lines: list[dict[str, object]] = []
    start = time.perf_counter()
    for seed in range(given.seeds):
        for row in shapes(given.data):
            found = distinct_heads(int(row["hidden_size"]), row["nas_config"], seed)
            lines.append({"id": row["id"], "seed": seed, "distinct-heads": f"{found:.6g}"})
        write_csv(given.out, lines)
        print(f"seed {seed}: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
