"""How long a distillation has to be to be a label.

Reads the runs of ``results/distilled`` (students of the distilled benchmark, KD from the ResNet-56
teacher), whose learning rate decays to 0 within whatever they were given::

    python results/distilled/grow.py --students 40 --kinds kd_r56 --steps 2,6,20,62,156,312
    python results/distilled/grow.py --students 40 --kinds kd_r56 --seeds 1 --steps 312
    python results/distilled/grow.py --students 24 --kinds kd_r56 --steps 1248
    python results/label-length/run.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "distilled"), str(HERE.parent)]
import common  # noqa: E402
import grow  # noqa: E402
from _common import machine, markdown_table  # noqa: E402
from judge import tau  # noqa: E402

KIND, FULL, LONG = "kd_r56", 312, 1248
DRAWS = 2000


def interval(a: np.ndarray, b: np.ndarray) -> str:
    rng = np.random.default_rng(0)
    chosen = [rng.integers(0, len(a), len(a)) for _ in range(DRAWS)]
    low, high = np.nanquantile([tau(a[c], b[c]) for c in chosen], [0.025, 0.975])
    return f"{tau(a, b):.2f} ({low:.2f} … {high:.2f})".replace("-", "−")


def main() -> None:
    runs = {k: v for k, v in grow.read_runs().items() if k[1] == KIND}
    space = common.space_of()
    steps = sorted({key[3] for key in runs})
    rows = []
    for length in steps:
        for seed in (0, 1):
            here = {k[0]: v for k, v in runs.items() if k[2:] == (seed, length)}
            row: dict[str, object] = {"label": f"{length} steps, seed {seed}"}
            if len(here) < 10:
                continue
            for title, truth_length in ((f"τ with {FULL}", FULL), (f"τ with {LONG}", LONG)):
                final = {k[0]: v for k, v in runs.items() if k[2:] == (0, truth_length)}
                both = [a for a in here if a in final]
                itself = seed == 0 and length == truth_length
                if itself or len(both) < 10:
                    row[title] = "–"
                    continue
                ours = np.array([here[a]["val"] for a in both])
                theirs = np.array([final[a]["test"] for a in both])
                row[title] = f"{interval(ours, theirs)}, {len(both)}"
            row["accuracy"] = common.mean_sd([x["test"] for x in here.values()])
            row["CPU s"] = f"{np.mean([x['seconds'] for x in here.values()]):.2f}"
            rows.append(row)
    for name in ("params", "macs", "depth"):
        row = {"label": name}
        for title, truth_length in ((f"τ with {FULL}", FULL), (f"τ with {LONG}", LONG)):
            final = {k[0]: v for k, v in runs.items() if k[2:] == (0, truth_length)}
            if len(final) < 10:
                row[title] = "–"
                continue
            ours = space.cost([space.parse(a) for a in final])[name]
            row[title] = interval(np.asarray(ours), np.array([x["test"] for x in final.values()]))
        rows.append(row | {"accuracy": "", "CPU s": "0"})
    for title in {title for row in rows for title in row}:
        if {row.get(title) for row in rows} == {"–"}:
            for row in rows:
                row.pop(title)  # no such runs
    print(markdown_table(rows), f"\n\n{machine()}")


if __name__ == "__main__":
    main()
