"""Every score on the distilled benchmark, under the controls of whatever takes a teacher.

    python results/distilled/judge.py score      # keeps scores.json
    python results/distilled/judge.py table

Kendall τ with test accuracy, vanilla and distilled from each of two teachers. ``inside`` is the
mean τ inside four strata of equal multiply-accumulates, where size is of no help.
"""

from __future__ import annotations

import argparse
import csv
import json
from typing import Any

import common
import grow
import numpy as np
from _common import machine, markdown_table
from scipy import stats

from scholarch.benchmarks.controls import CONTROLS, teachers_of
from scholarch.benchmarks.measure import TRAINED
from scholarch.proxies.ensemble import ENSEMBLES, ensemble_for
from scholarch.proxies.ranks import log_rank_sum
from scholarch.proxies.registry import get_proxy
from scholarch.proxies.scoring import Scorer
from scholarch.scoring import list_proxies
from scholarch.searchspace.errors import ScholarchError

SCORES = common.HERE / "scores.json"
SEEDS, BATCH = 2, 64
TRUTHS = ("vanilla", "kd_r20", "kd_r56")
SIZES = ("params", "macs", "depth")
STRATA, DRAWS = 4, 2000


def read_table() -> list[dict[str, str]]:
    with grow.TABLE.open(newline="") as file:
        return list(csv.DictReader(file))


def score() -> None:
    """Plain proxies once a seed; those that take a teacher under each teacher and control."""
    common.one_thread()
    space, data = common.space_of(), common.data_of(grow.DATA)
    archs = [space.parse(row["arch"]) for row in read_table()]
    plain = [name for name in list_proxies() if name not in ENSEMBLES]
    taught = [name for name in plain if "teacher" in get_proxy(name).needs]
    free = [name for name in plain if name not in taught]
    found: dict[str, list[list[float]]] = json.loads(SCORES.read_text()) if SCORES.exists() else {}
    reference = space.decode(space.sample_matrix(64, 1))

    def columns(names: list[str], taps: Any, batch: Any, seed: int) -> dict[str, list[float]]:
        """All in one pass; one by one where one of them is not for such networks."""
        try:
            table = Scorer(space, names, batch=batch, teacher=taps, seed=seed).table(archs)
        except ScholarchError as error:
            if len(names) == 1:
                print(f"{names[0]}: {error}")
                return {names[0]: []}
            parts = [columns([name], taps, batch, seed) for name in names]
            return {name: values for part in parts for name, values in part.items()}
        return {name: [float(v) for v in table[name]] for name in names}

    def keep(label: str, names: list[str], taps: Any, batch: Any, seed: int) -> None:
        todo = [n for n in names if len(found.get(f"{n}{label}", [])) <= seed]
        for name, values in columns(todo, taps, batch, seed).items():
            found.setdefault(f"{name}{label}", []).append(values)
        SCORES.write_text(json.dumps(found))

    for seed in range(SEEDS):
        batch = data.batch(BATCH, seed)
        keep("", free, None, batch, seed)
        for name in ENSEMBLES:
            if len(found.get(name, [])) > seed or "transformer" in name:
                continue
            ensemble = ensemble_for(name, space.family)
            parts = list(ensemble.parts)
            ours = Scorer(space, parts, batch=batch, teacher=None, seed=seed).table(archs)
            theirs = Scorer(space, parts, batch=batch, teacher=None, seed=seed).table(reference)
            rank = log_rank_sum(
                {p: ours[p] for p in parts}, {p: theirs[p] for p in parts}, ensemble.weight_of
            )
            found.setdefault(name, []).append([float(v) for v in rank])
        for teacher in common.TEACHERS:
            guides = teachers_of(common.teacher_of(teacher, data), batch, seed, controls=True)
            for control, guide in guides.items():
                keep(f"@{teacher}:{control}", taught, guide.taps(), batch, seed)
        print(f"seed {seed}: {len(found)} columns", flush=True)


def tau(values: np.ndarray, truth: np.ndarray) -> float:
    ok = np.isfinite(values)
    return float(stats.kendalltau(values[ok], truth[ok])[0]) if ok.sum() > 2 else float("nan")


def inside(values: np.ndarray, truth: np.ndarray, macs: np.ndarray) -> float:
    """Mean τ inside strata of the multiply-accumulates."""
    parts = np.array_split(np.argsort(macs, kind="stable"), STRATA)
    return float(np.mean([tau(values[p], truth[p]) for p in parts]))


def half_width(values: np.ndarray, truth: np.ndarray) -> float:
    """Half of the 95 % bootstrap interval of τ over students."""
    rng = np.random.default_rng(0)
    chosen = (rng.integers(0, len(truth), len(truth)) for _ in range(DRAWS))
    low, high = np.nanquantile([tau(values[c], truth[c]) for c in chosen], [0.025, 0.975])
    return float(high - low) / 2


def table() -> None:
    lines = read_table()
    truth = {name: np.array([float(x[name]) for x in lines]) for name in TRUTHS}
    macs = np.array([float(x["macs"]) for x in lines])
    found = json.loads(SCORES.read_text())
    columns: dict[str, list[np.ndarray]] = {
        name: [np.array(seed) for seed in seeds if len(seed) == len(lines)]
        for name, seeds in found.items()
    }
    for name in SIZES:
        columns[name] = [np.array([float(x[name]) for x in lines])]
    columns["random"] = [np.random.default_rng(s).random(len(lines)) for s in range(SEEDS)]
    rows = []
    for name, seeds in columns.items():
        if not seeds or (":" in name and not name.endswith(f":{TRAINED}")):
            continue
        row: dict[str, Any] = {"score": name.removesuffix(f":{TRAINED}")}
        for label, values in truth.items():
            taus = [tau(seed, values) for seed in seeds]
            row[f"τ {label}"] = f"{np.mean(taus):.3f}"
        row["± (students)"] = f"{half_width(seeds[0], truth['kd_r56']):.2f}"
        row["sd (seeds)"] = f"{np.std([tau(s, truth['kd_r56']) for s in seeds]):.3f}"
        row["inside kd_r56"] = f"{np.mean([inside(s, truth['kd_r56'], macs) for s in seeds]):.3f}"
        rows.append(row)
    rows.sort(key=lambda r: -float(r["τ kd_r56"]) if r["τ kd_r56"] != "nan" else 9.0)
    print(markdown_table(rows))
    print()
    controls = []
    for base in dict.fromkeys(n.split(":")[0] for n in columns if ":" in n):
        label = "kd_" + base.split("@")[1]
        row = {"score": base}
        for control in (TRAINED, *CONTROLS):
            seeds = columns.get(f"{base}:{control}", [])
            taus = [tau(s, truth[label]) for s in seeds]
            row[control] = f"{np.mean(taus):.3f}" if taus else "–"
        if "–" not in row.values():
            margins = [float(row[TRAINED]) - float(row[c]) for c in CONTROLS]
            row["least margin"] = f"{min(margins):+.3f}"
        else:
            row["least margin"] = "–"
        controls.append(row)
    print(markdown_table(controls))
    between = [
        {
            "": a,
            **{b: f"{tau(truth[a], truth[b]):.3f}" for b in TRUTHS},
            "accuracy": f"{truth[a].mean():.2f} ± {truth[a].std():.2f}",
        }
        for a in TRUTHS
    ]
    print("\nτ between columns, and mean ± sd over students\n")
    print(markdown_table(between), f"\n\n{len(lines)} students, {SEEDS} seeds. {machine()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("score", "table"))
    {"score": score, "table": table}[parser.parse_args().what]()
