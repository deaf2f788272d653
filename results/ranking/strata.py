"""How scores rank the FlexiBERT encoders at equal size: τ inside strata beside the plain one.

    python results/ranking/strata.py --data FOLDER --half choice|report

Rows in the order of ``id``: those at even positions are the half that formulas were chosen on,
the others the half they are reported on, once. Strata: fifths by params; rows of equal depth; of
equal depth and width. Kendall's τ-b over the pairs that share a stratum, with 95 % bootstrap
intervals over rows. Sums are of log rank fractions among the rows that are ranked. Measurements
are read from ``flexibert_bank.csv`` and ``flexibert_heads.csv``, build ``trained``, and averaged
over seeds.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _common import markdown_table, read_csv
from flexibert_nets import FIRST_WIDTH, parse_layers

from scholarch.benchmarks.intervals import interval, kendall_draws, resamples
from scholarch.benchmarks.metrics import pooled_kendall, strata
from scholarch.proxies.ranks import ReferenceRank

Column = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

HERE = Path(__file__).resolve().parent
TABLE = "flexibert_open_half.csv.gz"
TASKS = ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst", "sts")
#: Of these the rest tells within a stratum; of the others fine-tuning's chance does.
STEADY = ("mnli", "qnli", "qqp")
#: Layers at which kinds of layers are told apart: of two layers fine-tuning's chance is too great.
DEEP = 4
KINDS = ("WMA", "DFT", "DCT", "DSC")
DRAWS = 1000
CHANCES = 200
#: Weights of the parts' log ranks; one part: the measurement itself.
FORMULAS: dict[str, dict[str, float]] = {
    "ensemble: expr + ½ long-capacity": {"expr": 1.0, "long-capacity": 0.5},
    "ensemble + ½ distinct-heads": {"expr": 1.0, "distinct-heads": 0.5, "long-capacity": 0.5},
    "ensemble + ½ heads": {"expr": 1.0, "heads": 0.5, "long-capacity": 0.5},
    "expr + ½ distinct-heads": {"expr": 1.0, "distinct-heads": 0.5},
    "expr": {"expr": 1.0},
    "macs + expr": {"macs": 1.0, "expr": 1.0},
    "az-nas": {"expr": 1.0, "az-progressivity": 1.0, "az-trainability": 1.0, "macs": 1.0},
    "depth": {"depth": 1.0},
    "params": {"params": 1.0},
    "macs": {"macs": 1.0},
    "long-capacity": {"long-capacity": 1.0},
    "heads": {"heads": 1.0},
    "distinct-heads": {"distinct-heads": 1.0},
    "head confidence": {"head-confidence": 1.0},
    "snip": {"snip-mlm": 1.0},
    "dss": {"dss-log": 1.0},
    "synflow": {"synflow-log": 1.0},
    "jacov": {"jacov": 1.0},
    "naswot": {"naswot": 1.0},
}


def rows_of(data: Path, half: str) -> list[dict[str, str]]:
    """The table's completed rows at even (``choice``) or odd (``report``) positions."""
    with gzip.open(data / TABLE, "rt", encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["id"]))
    start = {"choice": 0, "report": 1}[half]
    return [row for row in rows[start::2] if row["completed"] == "True"]


def measurements(ids: Sequence[str], folder: Path = HERE) -> dict[str, Column]:
    """Means over seeds of every measurement, ``[N]`` each, in the order of ``ids``."""
    bank = read_csv(folder / "flexibert_bank.csv")
    first = [line for line in bank if (line["build"], line["inputs"]) == ("trained", "tokens")]
    found = _means(first, ids) | _means(read_csv(folder / "flexibert_heads.csv"), ids)
    return found | {"long-capacity": found["params"] * found["depth"] ** 2}


def _means(lines: Sequence[Mapping[str, str]], ids: Sequence[str]) -> dict[str, Column]:
    names = [name for name in lines[0] if name not in ("id", "build", "inputs", "seed")]
    by_id: dict[str, list[list[float]]] = {name: [] for name in ids}
    for line in lines:
        if line["id"] in by_id:
            by_id[line["id"]].append([float(line[name]) for name in names])
    table = np.array([np.mean(by_id[name], axis=0) for name in ids])
    return dict(zip(names, table.T, strict=True))


def combined(columns: Mapping[str, Column], weights: Mapping[str, float]) -> Column:
    """Σ weight · log rank fraction among the rows, ``[N]``."""
    parts = [w * ReferenceRank(columns[name]).log(columns[name]) for name, w in weights.items()]
    return np.asarray(np.sum(parts, axis=0), dtype=np.float64)


def partitions(columns: Mapping[str, Column]) -> dict[str, Index]:
    """Head of a column → stratum of every row."""
    shape = columns["depth"] * 1000 + columns["hidden"]
    return {
        "τ": np.zeros(len(shape), dtype=np.int64),
        "in fifths of params": strata(columns["params"]),
        "at one depth": columns["depth"].astype(np.int64),
        "at one depth and width": shape.astype(np.int64),
    }


def _cells(
    scores: Column, truth: Column, parts: Mapping[str, Index], draws: Index
) -> dict[str, str]:
    cells = {}
    for head, part in parts.items():
        tau = pooled_kendall(scores, truth, part)
        low, high = interval(kendall_draws(scores, truth, draws, part))
        cells[head] = f"{tau:.3f} ({low:.2f} … {high:.2f})" if np.isfinite(tau) else "–"
    return cells


def _chance(truth: Column, parts: Mapping[str, Index]) -> dict[str, str]:
    rng = np.random.default_rng(0)
    drawn = [rng.random(len(truth)) for _ in range(CHANCES)]
    cells = {}
    for head, part in parts.items():
        low, high = interval(np.array([pooled_kendall(x, truth, part) for x in drawn]))
        cells[head] = f".0 ({low:.2f} … {high:.2f})"
    return cells


def table(
    columns: Mapping[str, Column], truth: Column, formulas: Mapping[str, Mapping[str, float]]
) -> str:
    """All formulas, the best plain τ first, then chance."""
    parts = partitions(columns)
    draws = resamples([str(i) for i in range(len(truth))], DRAWS, 0)
    scored = {name: combined(columns, weights) for name, weights in formulas.items()}
    order = sorted(scored, key=lambda name: -pooled_kendall(scored[name], truth, parts["τ"]))
    lines: list[dict[str, object]] = [
        {"score": name} | _cells(scored[name], truth, parts, draws) for name in order
    ]
    return markdown_table([*lines, {"score": "random"} | _chance(truth, parts)])


def reliability(tasks: Column, part: Index) -> list[dict[str, object]]:
    """Cronbach's α of the mean of the tasks in every stratum, and the best τ it lets expect.

    τ = (2/π) asin(√α), were scores and truths normal and α the share of the variance that is
    no noise (it is a lower bound of that).

    Args:
        tasks: ``[N, K]``.
        part: stratum of every row, ``[N]``.
    """
    lines: list[dict[str, object]] = []
    count = tasks.shape[1]
    for stratum in np.unique(part):
        inside = tasks[part == stratum]
        share = inside.var(axis=0, ddof=1).sum() / inside.sum(axis=1).var(ddof=1)
        alpha = count / (count - 1) * (1.0 - share)
        best = 2.0 / np.pi * np.arcsin(np.sqrt(np.clip(alpha, 0.0, 1.0)))
        line = {"depth, width": f"{stratum // 1000}, {stratum % 1000}", "rows": len(inside)}
        lines.append(line | {"α": f"{alpha:.2f}", "best τ": f"{best:.2f}"})
    return lines


def spreads(tasks: Column, part: Index) -> list[dict[str, object]]:
    """Each task's standard deviation inside every stratum, and whether the other tasks follow it.

    Args:
        tasks: ``[N, K]``.
        part: stratum of every row, ``[N]``.
    """
    lines: list[dict[str, object]] = []
    for stratum in np.unique(part):
        inside = tasks[part == stratum]
        line: dict[str, object] = {"depth, width": f"{stratum // 1000}, {stratum % 1000}"}
        for k, name in enumerate(TASKS):
            rest = np.delete(inside, k, axis=1).mean(axis=1)
            own = float(np.corrcoef(inside[:, k], rest)[0, 1])
            line[name.upper()] = f"{inside[:, k].std(ddof=1):.1f}, {own:+.2f}"
        lines.append(line)
    return lines


def effects(rows: Sequence[Mapping[str, str]], truth: Column) -> list[dict[str, object]]:
    """What a layer of a kind adds at one width, four layers deep, beside one of plain attention.

    Least squares on counts of operations, of layers with four heads in place of two, of those
    with three FFN matrices up in place of one, and, where there are three, of the wide ones.

    Args:
        rows: of the table.
        truth: ``[N]``.
    """
    found = []
    for hidden in sorted({int(row["hidden_size"]) for row in rows}):
        lines, values = [], []
        for row, value in zip(rows, truth, strict=True):
            layers = parse_layers(json.loads(row["nas_config"]), "config")
            if int(row["hidden_size"]) != hidden or len(layers) != DEEP:
                continue
            kinds = [sum(layer.operation == kind for layer in layers) for kind in KINDS]
            deep = [layer for layer in layers if len(layer.widths) > 1]
            wide = sum(layer.widths[0] == FIRST_WIDTH for layer in deep)
            lines.append([1, *kinds, sum(layer.heads > 2 for layer in layers), len(deep), wide])
            values.append(value)
        x, y = np.array(lines, dtype=np.float64), np.array(values)
        weights, _, rank, _ = np.linalg.lstsq(x, y, rcond=None)
        variance = float(((y - x @ weights) ** 2).sum()) / (len(y) - int(rank))
        errors = np.sqrt(np.diag(np.linalg.pinv(x.T @ x)) * variance)
        names = (*KINDS, "4 heads", "3 matrices", "wide, of 3")
        cells = zip(names, weights[1:], errors[1:], strict=True)
        line: dict[str, object] = {"width": str(hidden), "rows": len(y)}
        found.append(line | {name: f"{w:+.2f} ± {e:.2f}" for name, w, e in cells})
    return found


def page(data: Path, half: str) -> str:
    """The report of a half."""
    rows = rows_of(data, half)
    columns = measurements([row["id"] for row in rows])
    tasks = np.array([[float(row[task]) for task in TASKS] for row in rows])
    glue = np.array([float(row["glue"]) for row in rows])
    steady = tasks[:, [TASKS.index(task) for task in STEADY]].mean(axis=1)
    shape = partitions(columns)["at one depth and width"]
    return "\n\n".join(
        [
            f"## The {half} half, {len(rows)} encoders: GLUE",
            table(columns, glue, FORMULAS),
            f"## The {half} half: mean of {', '.join(name.upper() for name in STEADY)}",
            table(columns, steady, FORMULAS),
            f"## The {half} half: what GLUE's own noise leaves",
            markdown_table(reliability(tasks, shape)),
            "Each task's standard deviation there, and its correlation with the others' mean:",
            markdown_table(spreads(tasks, shape)),
            f"## The {half} half: what a layer's kind adds to that mean, in points",
            markdown_table(effects(rows, steady)),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("SCHOLARCH_DATA"))
    parser.add_argument("--half", choices=("choice", "report"), default="choice")
    given = parser.parse_args()
    if given.data is None:
        sys.exit("strata: skipped; give --data or set SCHOLARCH_DATA to the real data")
    print(page(given.data, given.half))


if __name__ == "__main__":
    main()
