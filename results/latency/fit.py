"""`scholarch latency fit`: whole spaces predicted from 10 and 20 timed networks.

    python results/latency/fit.py --data FOLDER [--quick]

Each column of NAS-Bench-201 (HELP, HW-NAS-Bench) and of once-for-all's MobileNetV3 (HELP) is
predicted on one half of its networks from 10 or 20 of the other half, drawn at random or chosen
by the design; beside it stands what the same columns reach on all of that half. Halves keep
isomorphic cells together. A prior is the other devices' columns, fitted on the training half;
"far" leaves out those of the same GPU or of the same kind of runtime.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from _common import Column, machine, parse_options, write_csv
from fit_columns import (
    CELL_LATENCIES,
    CELLS,
    CHOSEN_ON,
    MOBILE_LATENCIES,
    Measurements,
    kin_of,
    read_cells,
    read_mobile,
)
from fit_report import Result, report
from scipy import stats
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from scholarch.searchspace.latency.design import CANDIDATES, design
from scholarch.searchspace.latency.fit import fit_weights
from scholarch.searchspace.latency.fitted import PriorDevice

NETS = (10, 20)
HALVES, DRAWS = 5, 4
RIDGES = np.logspace(-3, 3, 13)
Rows = npt.NDArray[np.int64]
Key = tuple[str, int, str, str, str]
"""Column, networks, random or designed, prior, method."""


def judge(predicted: Column, truth: Column) -> tuple[float, float]:
    """Spearman's ρ and the mean absolute error relative to the truth."""
    rho = 0.0 if np.ptp(predicted) == 0 else float(stats.spearmanr(predicted, truth).statistic)
    return rho, float(np.mean(np.abs(predicted - truth) / truth))


def line(cost: Column, ms: Column, at: Rows) -> Column:
    """Least squares on one cost."""
    slope, intercept = np.polyfit(cost[at], ms[at], 1)
    return np.asarray(slope * cost + intercept)


def priors(column: str, known: dict[str, PriorDevice]) -> Iterator[tuple[str, list[PriorDevice]]]:
    yield "none", []
    yield "others", [known[c] for c in known if c != column]
    yield "far", [known[c] for c in known if kin_of(c) != kin_of(column)]


def half(m: Measurements, seed: int, draws: int) -> Iterator[tuple[Key, float, float]]:
    """Everything about one split into halves."""
    rng = np.random.default_rng([5, seed])
    groups = np.unique(m.groups)
    chosen = rng.permutation(groups)[: len(groups) // 2]
    train = np.flatnonzero(np.isin(m.groups, chosen))
    test = np.flatnonzero(~np.isin(m.groups, chosen))
    x = m.columns
    known = {}
    for column, ms in m.latency.items():
        weights, _ = fit_weights(m.features, x[train], ms[train])
        known[column] = PriorDevice(column, weights)
        yield (column, 0, "half", "none", "fit"), *judge(x[test] @ weights, ms[test])
        for cost, values in m.costs.items():
            found = line(values, ms, train)
            yield (column, 0, "half", "none", f"{cost} alone"), *judge(found[test], ms[test])
        ridge = make_pipeline(StandardScaler(), RidgeCV(RIDGES)).fit(x[train], ms[train])
        yield (column, 0, "half", "none", "ridge"), *judge(ridge.predict(x[test]), ms[test])
    for _ in range(draws):
        random = rng.choice(train, max(NETS), replace=False)
        pool = rng.choice(train, CANDIDATES, replace=False)
        order = design(m.features, m.matrix[pool], max(NETS), resolution=m.resolutions[pool])
        for choice, rows in (("random", random), ("designed", pool[order])):
            for n in NETS:
                for column in m.latency:
                    for key, found in predictions(m, column, rows[:n], test, known):
                        full = (column, n, choice, *key)
                        yield full, *judge(found, m.latency[column][test])


def predictions(
    m: Measurements, column: str, at: Rows, test: Rows, known: dict[str, PriorDevice]
) -> Iterator[tuple[tuple[str, str], Column]]:
    """(Prior, method) and predictions of the test networks, from those at ``at``."""
    x, ms = m.columns, m.latency[column]
    for name, devices in priors(column, known):
        weights, _ = fit_weights(m.features, x[at], ms[at], devices)
        yield (name, "fit"), x[test] @ weights
        if devices:
            # The one other device that orders the timed networks best, scaled to them.
            others = [x @ device.weights for device in devices]
            best = max(others, key=lambda other: judge(other[at], ms[at])[0])
            yield (name, "nearest device"), line(best, ms, at)[test]
    for cost, values in m.costs.items():
        yield ("none", f"{cost} alone"), line(values, ms, at)[test]
    ridge = make_pipeline(StandardScaler(), RidgeCV(RIDGES)).fit(x[at], ms[at])
    yield ("none", "ridge"), ridge.predict(x[test])


def main() -> None:
    needs = [CELLS, CELL_LATENCIES, MOBILE_LATENCIES]
    options = parse_options(__file__, "latency fit from 10 and 20 networks", needs)
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="sklearn")
    halves, draws = (1, 2) if options.quick else (HALVES, DRAWS)
    begin = time.perf_counter()
    results = []
    for name, read in (("nasbench201", read_cells), ("mobilenetv3", read_mobile)):
        measurements = read(options.data)
        found: dict[Key, list[tuple[float, float]]] = defaultdict(list)
        for seed in range(halves):
            for key, rho, mape in half(measurements, seed, draws):
                found[key].append((rho, mape))
            print(f"{name}: half {seed + 1} of {halves}, {time.perf_counter() - begin:.0f} s")
        results += [
            Result(name, *key, key[0] in CHOSEN_ON, np.array(values))
            for key, values in found.items()
        ]
    write_csv(options.out / "fit.csv", [result.row() for result in results])
    seconds = time.perf_counter() - begin
    footer = f"{halves} halves × {draws} draws, seeds 0–{halves - 1}; {seconds:.0f} s. {machine()}."
    (options.out / "fit.md").write_text(report(results, footer), encoding="utf-8")
    print(options.out / "fit.md")


if __name__ == "__main__":
    main()
