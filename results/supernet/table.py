"""The table of bench-S from its lines: mean and spread over seeds, paired differences.

python results/supernet/table.py
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from _common import machine, markdown_table, spread  # noqa: E402

OURS = "delayed"


def difference(ours: dict[int, float], other: dict[int, float]) -> str:
    """Ours minus the other, paired by seed, with a 95 % t interval, in points."""
    seeds = sorted(set(ours) & set(other))
    d = 100.0 * np.array([ours[s] - other[s] for s in seeds])
    if len(d) < 2:
        return "–"
    half = float(stats.t.ppf(0.975, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d)))
    return f"{d.mean():+.1f} ({d.mean() - half:+.1f} … {d.mean() + half:+.1f})"


def rows(lines: list[dict[str, Any]]) -> list[dict[str, object]]:
    """One row a method."""
    found: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for line in lines:
        found[line["method"]][line["seed"]] = line
    front = {
        method: {seed: float(np.mean(line["test"]["front"])) for seed, line in by_seed.items()}
        for method, by_seed in found.items()
    }
    order = sorted(found, key=lambda m: -float(np.mean(list(front[m].values()))))
    return [
        {
            "method": method,
            "seeds": len(found[method]),
            "smallest": spread([x["test"]["smallest"] for x in found[method].values()], scale=100),
            "front, mean": spread(list(front[method].values()), scale=100),
            "largest": spread([x["test"]["largest"] for x in found[method].values()], scale=100),
            f"{OURS} − it, front": "" if method == OURS else difference(front[OURS], front[method]),
            "GMACs passed": f"{np.mean([x['macs'] for x in found[method].values()]) / 1e9:.0f}",
            "steps": f"{np.mean([x['steps'] for x in found[method].values()]):.0f}",
            "CPU s": f"{np.mean([x['seconds'] for x in found[method].values()]):.0f}",
        }
        for method in order
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=HERE / "bench_s.jsonl")
    parser.add_argument("--data", default="fashion-mnist")
    given = parser.parse_args()
    lines = [json.loads(text) for text in given.runs.read_text().splitlines()]
    lines = [line for line in lines if line["data"] == given.data]
    print(markdown_table(rows(lines)))
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
