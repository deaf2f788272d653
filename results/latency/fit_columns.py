"""Whole-network latencies of two spaces, 16 columns, as `results/latency/fit.py` splits them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from _common import Column

from scholarch.benchmarks.tables import read_rows
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.latency.features import FeatureMap
from scholarch.searchspace.space import Columns, Matrix, SearchSpace

CELLS = "nasbench201_open_half.csv.gz"
CELL_LATENCIES = "nasbench201_latency_open_half.csv.gz"
MOBILE_LATENCIES = "ofa_mbv3_latency_open_half.csv.gz"

#: Columns that the method was chosen on; the others were predicted once it stood.
CHOSEN_ON = ("raspi4", "gold_6226", "titan_xp_1", "titan_xp_32", "titan_xp_64")
#: Devices whose columns are alike for a reason: one GPU, or one kind of runtime.
KIN = {"raspi4": "phone", "pixel3": "phone", "gold_6226": "server", "1080ti_32": "server"}


def kin_of(column: str) -> str:
    return KIN.get(column) or column.rpartition("_")[0]


@dataclass(frozen=True, eq=False)
class Measurements:
    """One space's networks and what they took.

    Attributes:
        space: whose they are.
        features: of the space.
        matrix: ``[N, genes]``.
        resolutions: of the images, ``[N]``.
        groups: what must not stand on both sides of a split, ``[N]``.
        columns: features, ``[N, F]``.
        costs: name → ``[N]``.
        latency: column → ms, ``[N]``.
    """

    space: SearchSpace
    features: FeatureMap
    matrix: Matrix
    resolutions: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    columns: Column
    costs: Columns
    latency: dict[str, Column]


def read_cells(data: Path) -> Measurements:
    """NAS-Bench-201; isomorphic cells are one group."""
    space = create_space("nasbench201")
    rows = read_rows(data / CELLS)
    measured = {row["idx"]: row for row in read_rows(data / CELL_LATENCIES)}
    found = [measured[row["idx"]] for row in rows]
    matrix = space.encode([space.parse(row["arch_str"]) for row in rows])
    groups = np.array([int(row["iso_group"]) for row in rows])
    latency = {c: np.array([float(row[c]) for row in found]) for c in found[0] if c != "idx"}
    return _measurements(space, matrix, np.full(len(rows), space.resolution), groups, latency)


def read_mobile(data: Path) -> Measurements:
    """Once-for-all's MobileNetV3 at 25 resolutions; every network is a group."""
    space = create_space("mobilenetv3", num_classes=1000)
    rows = read_rows(data / MOBILE_LATENCIES)
    texts = [json.dumps({k: [int(v) for v in row[k]] for k in ("ks", "e", "d")}) for row in rows]
    matrix = space.encode([space.parse(text) for text in texts])
    sides = np.array([int(row["r"]) for row in rows])
    _, groups = np.unique(space.canonical(matrix), axis=0, return_inverse=True)
    names = [name for name in rows[0] if name not in ("ks", "e", "d", "r")]
    latency = {name: np.array([float(row[name]) for row in rows]) for name in names}
    return _measurements(space, matrix, sides, groups.ravel(), latency)


def _measurements(
    space: SearchSpace,
    matrix: Matrix,
    sides: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int64],
    latency: dict[str, Column],
) -> Measurements:
    features = FeatureMap(space)
    costs = {name: np.empty(len(matrix)) for name in ("macs", "params")}
    for side in np.unique(sides).tolist():
        at = sides == side
        found = space.cost(matrix[at], resolution=side)
        for name, column in costs.items():
            column[at] = found[name]
    columns = features(matrix, sides)
    return Measurements(space, features, matrix, sides, groups, columns, costs, latency)
