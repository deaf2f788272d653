"""Fits of a whole space: devices of known cost are found again, nonsense is refused."""

from __future__ import annotations

import csv
import gzip
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import spearmanr

from scholarch.searchspace.cells.nasbench201_cell import CONV1, CONV3, NONE, POOL, SKIP
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.latency.design import design, propose
from scholarch.searchspace.latency.executions import executions
from scholarch.searchspace.latency.features import FeatureMap, features
from scholarch.searchspace.latency.fit import fit_latency, read_fitted, refit
from scholarch.searchspace.latency.fitted import FittedTable
from scholarch.searchspace.space import Matrix, SearchSpace

Floats = npt.NDArray[np.float64]
CELL = "|nor_conv_3x3~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|"


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return create_space("mobilenetv3", num_classes=10, resolution=96)


def gpu(space: SearchSpace, matrix: Matrix, noise: float = 0.0, seed: int = 0) -> Floats:
    """A device that starts layers and computes them, whichever takes longer."""
    cost = space.cost(matrix)
    clean = 1.0 + np.maximum(cost["depth"] * 0.1, cost["macs"] / 20e6)
    return np.asarray(
        clean * np.exp(noise * np.random.default_rng(seed).standard_normal(len(clean)))
    )


def cells_on(matrix: Matrix, execution: str) -> Floats:
    """A device that takes a known time for each operation of a cell that runs."""
    space = create_space("nasbench201")
    runs = executions(space, matrix)[execution]
    price = np.zeros(5)
    price[[SKIP, CONV1, CONV3, POOL]] = 0.1, 2.0, 9.0, 1.0
    return np.asarray(3.0 + (price[matrix] * runs).sum(axis=1))


# ---------------------------------------------------------------------- recovery


@pytest.mark.parametrize("execution", ["written", "needed", "folded"])
def test_finds_what_a_device_takes_and_which_operations_run(execution: str) -> None:
    space = create_space("nasbench201")
    archs = propose(space, 16)
    table = fit_latency(space, archs, cells_on(space.encode(archs), execution))
    everything = space.enumerate_matrix()
    truth = cells_on(everything, execution)
    predicted = table.latency(space, everything)
    assert spearmanr(predicted, truth).statistic > 0.998
    assert np.abs(predicted / truth - 1.0).mean() < 0.03
    assert table.models[f"values:{execution}"] > 0.9
    assert table.mape < 0.1


def test_a_roofline_is_found_through_noise(space: SearchSpace) -> None:
    archs = propose(space, 20)
    rows = space.encode(archs)
    table = fit_latency(space, archs, gpu(space, rows, 0.03, 1))
    test = space.sample_matrix(500, 9)
    predicted, truth = table.latency(space, test), gpu(space, test)
    assert spearmanr(predicted, truth).statistic > 0.95
    assert np.abs(predicted / truth - 1.0).mean() < 0.04
    assert 0.01 < table.spread < 0.15


@pytest.mark.parametrize(
    "name", ["compofa", "nasbench101", "nasbench-macro", "resnet-cifar", "resnet50", "vitbench-pit"]
)
def test_any_space_is_predicted_from_ten(name: str) -> None:
    space = create_space(name)
    test = space.sample_matrix(300, 5)
    mean = {cost: column.mean() for cost, column in space.cost(test).items()}

    def device(matrix: Matrix) -> Floats:
        cost = space.cost(matrix)
        return np.asarray(2 + 5 * cost["macs"] / mean["macs"] + 3 * cost["depth"] / mean["depth"])

    archs = propose(space, 10, seed=1)
    table = fit_latency(space, archs, device(space.encode(archs)))
    predicted = table.latency(space, test)
    assert np.abs(predicted / device(test) - 1.0).mean() < 0.05


def test_one_bad_measurement_does_not_spoil_the_fit(space: SearchSpace) -> None:
    archs = propose(space, 20)
    times = gpu(space, space.encode(archs))
    times[4] *= 4.0
    test = space.sample_matrix(300, 9)
    predicted = fit_latency(space, archs, times).latency(space, test)
    assert np.abs(predicted / gpu(space, test) - 1.0).mean() < 0.06


def test_another_device_helps(space: SearchSpace) -> None:
    rows = space.sample_matrix(200, 3)
    # Layers of some kernels are slow there: more than five networks could tell.
    kernels = space.values(rows)[:, 5:25]

    def slow(matrix: Matrix, scale: float) -> Floats:
        sevens = (space.values(matrix)[:, 5:25] == 7).sum(axis=1)
        return np.asarray(scale * (1.0 + 0.5 * sevens + space.cost(matrix)["macs"] / 50e6))

    assert (kernels == 7).any()
    # What a gene without effect holds costs nothing.
    rows = space.canonical(rows)
    other = fit_latency(space, rows, slow(rows, 1.0), device="other")
    few, test = rows[:6], space.canonical(space.sample_matrix(300, 4))
    times, truth = slow(few, 3.0), slow(test, 3.0)
    alone = fit_latency(space, few, times)
    helped = fit_latency(space, few, times, prior=[other])
    assert helped.prior[0].device == "other"
    errors = [np.abs(t.latency(space, test) / truth - 1.0).mean() for t in (helped, alone)]
    assert errors[0] < 0.5 * errors[1]

    class Foreign:
        device, fingerprint, rows = "lookup", "", None

        def latency(self, space: SearchSpace, matrix: Matrix) -> Floats:
            return np.where(matrix[:, 0] == 0, np.nan, slow(space.canonical(matrix), 2.0))

    found = fit_latency(space, few, times, prior=[Foreign()])  # type: ignore[list-item]
    assert np.abs(found.latency(space, test) / truth - 1.0).mean() < 0.6 * errors[1]


def test_resolutions_are_an_input(space: SearchSpace) -> None:
    rows = space.sample_matrix(20, 3)
    sides = np.array([96, 160] * 10)
    at = {side: create_space("mobilenetv3", num_classes=10, resolution=side) for side in (96, 160)}
    times = np.where(sides == 96, gpu(at[96], rows), gpu(at[160], rows))
    table = fit_latency(space, rows, times, resolution=sides)
    test = space.sample_matrix(200, 9)
    for side in (96, 160):
        for predicted in (
            table.latency(at[side], test),
            table.latency(space, test, resolution=side),
        ):
            assert np.abs(predicted / gpu(at[side], test) - 1.0).mean() < 0.08
    assert 128 not in at
    assert (table.latency(space, test, resolution=128) > table.latency(space, test)).all()
    with pytest.raises(InvalidInputError, match="resolution 224: .* fitted at 96 to 160 pixels"):
        table.latency(create_space("mobilenetv3", num_classes=10, resolution=224), test)
    with pytest.raises(InvalidInputError, match="resolution 64"):
        table.latency(space, test, resolution=64)


# ---------------------------------------------------------------------- the table


def test_seeds_files_and_refits(space: SearchSpace, tmp_path: Path) -> None:
    archs = propose(space, 10, seed=3)
    assert archs == propose(space, 10, seed=3)
    assert archs[:4] == propose(space, 4, seed=3)
    assert archs != propose(space, 10, seed=4)
    times = gpu(space, space.encode(archs), 0.05)
    table = fit_latency(space, archs, times, device="board", seed=1)
    again = fit_latency(space, space.encode(archs), times.tolist(), device="board", seed=1)
    assert table.to_json() == again.to_json()
    path = tmp_path / "board.json"
    path.write_text(table.dumps(), encoding="utf-8")
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data["unit"] == "ms"
    loaded = read_fitted(data, path, space)
    test = space.sample_matrix(50, 7)
    assert loaded.latency(space, test).tolist() == table.latency(space, test).tolist()
    assert loaded.to_json() == table.to_json()
    assert loaded.fingerprint == table.fingerprint
    assert refit(loaded, space, seed=1).to_json() == table.to_json()
    more = space.sample(5, 8)
    grown = refit(loaded, space, more, gpu(space, space.encode(more)).tolist())
    assert len(grown.measured.ms) == 15
    assert grown.fingerprint != table.fingerprint


def test_a_space_reads_it_like_any_table(space: SearchSpace) -> None:
    archs = propose(space, 10)
    table = fit_latency(space, archs, gpu(space, space.encode(archs)), device="board")
    own = create_space("mobilenetv3", num_classes=10, resolution=96)
    own.attach(table)
    assert own.cost(archs)["latency:board"] == pytest.approx(
        gpu(space, space.encode(archs)), rel=0.1
    )
    assert own.known_rows() is None
    assert len(table.latency(own, space.sample_matrix(0))) == 0


def test_predicts_a_hundred_thousand_rows_a_second(space: SearchSpace) -> None:
    archs = propose(space, 10)
    table = fit_latency(space, archs, gpu(space, space.encode(archs)))
    rows = space.sample_matrix(50_000)
    taken = []
    for _ in range(3):
        begin = time.process_time()  # other jobs may interfere
        table.latency(space, rows)
        taken.append(time.process_time() - begin)
    assert min(taken) < 0.5


def test_more_of_everything_takes_longer(space: SearchSpace) -> None:
    rows = space.sample_matrix(12, 5)
    # Noise alone: nothing may get faster by growing, and no latency be negative.
    table = fit_latency(space, rows, np.random.default_rng(0).uniform(1.0, 9.0, 12))
    assert (table.weights >= 0).all()
    least = np.zeros((1, len(space.genes)), dtype=np.int64)
    assert table.latency(space, least)[0] > 0


# ---------------------------------------------------------------------- design and features


def test_the_design_beats_the_worst_choice(space: SearchSpace) -> None:
    pool = np.unique(space.canonical(space.sample_matrix(300, 11)), axis=0)
    order = design(FeatureMap(space), pool, 10)
    assert len(set(order.tolist())) == 10
    macs = space.cost(pool)["macs"]
    # Ten of one size, and ten that are nearly the same.
    alike = np.argsort(np.abs(macs - np.median(macs)))[:10]
    test = space.sample_matrix(300, 12)
    truth = gpu(space, test)
    errors = []
    for rows in (pool[order], pool[alike]):
        found = fit_latency(space, rows, gpu(space, rows, 0.05, 2)).latency(space, test)
        errors.append(np.abs(found / truth - 1.0).mean())
    assert errors[0] < 0.7 * errors[1]


def test_the_design_tells_runtimes_apart() -> None:
    space = create_space("nasbench201")
    rows = space.encode(propose(space, 10))
    runs = executions(space, rows)
    differ = [(runs["written"] != runs[name]).any(axis=1).sum() for name in ("needed", "folded")]
    assert min(differ) >= 2


def test_what_runs_in_a_cell() -> None:
    space = create_space("nasbench201")
    dead = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|none~2|"
    pooled = "|avg_pool_3x3~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|"
    fed_zeros = "|none~0|+|none~0|none~1|+|nor_conv_1x1~0|nor_conv_3x3~1|none~2|"
    rows = space.encode([space.parse(text) for text in (CELL, dead, pooled, fed_zeros)])
    runs = {
        name: (mask & (rows != NONE)).astype(int) for name, mask in executions(space, rows).items()
    }
    assert runs["written"].sum(axis=1).tolist() == [2, 3, 2, 2]
    assert runs["needed"].tolist()[:3] == [[0, 0, 0, 1, 0, 0]] * 3
    # A product with zero is fused into the convolution before it, which stays; a pool's does not.
    assert runs["folded"][0].tolist() == [1, 0, 0, 1, 0, 0]
    assert runs["folded"][2].tolist() == [0, 0, 0, 1, 0, 0]
    # Both know that 1→3 reaches the output, and run it on zeros.
    assert runs["needed"][3].tolist() == runs["folded"][3].tolist() == [0, 0, 0, 1, 1, 0]


def test_columns_ignore_genes_without_effect(space: SearchSpace) -> None:
    rows = space.sample_matrix(100, 1)
    columns = features(space, rows)
    assert columns == pytest.approx(features(space, space.canonical(rows)))
    assert (columns >= 0).all()
    found = FeatureMap(space)
    assert len(found.names) == len(set(found.names)) == columns.shape[1]
    weights = np.random.default_rng(0).random(columns.shape[1])
    assert found.total(rows, weights) == pytest.approx(columns @ weights)


# ---------------------------------------------------------------------- refusals


def test_bad_measurements_are_refused(space: SearchSpace) -> None:
    archs = space.sample(6, 0)
    for wrong in (float("nan"), -1.0, 0.0, float("inf")):
        with pytest.raises(InvalidInputError, match="network 3; need positive milliseconds"):
            fit_latency(space, archs, [1.0, 2.0, wrong, 3.0, 4.0, 5.0])
    with pytest.raises(InvalidInputError, match="need at least 5"):
        fit_latency(space, archs[:4], [1.0] * 4)
    with pytest.raises(InvalidInputError, match="1 different networks"):
        fit_latency(space, [archs[0]] * 10, [1.0] * 10)
    with pytest.raises(InvalidInputError, match="one for each"):
        fit_latency(space, archs, [1.0] * 5)
    with pytest.raises(InvalidInputError, match="resolutions of shape"):
        fit_latency(space, archs, [1.0] * 6, resolution=np.array([96, 128]))
    with pytest.raises(InvalidInputError, match="belongs to space"):
        fit_latency(create_space("nasbench201"), archs, [1.0] * 6)
    with pytest.raises(InvalidInputError, match="rows of shape"):
        fit_latency(space, np.arange(18).reshape(6, 3), [1.0] * 6)


def test_foreign_spaces_and_priors_are_refused(space: SearchSpace) -> None:
    archs = space.sample(8, 0)
    table = fit_latency(space, archs, gpu(space, space.encode(archs)))
    other = create_space("nasbench201")
    with pytest.raises(InvalidInputError, match="of space 'mobilenetv3', not 'nasbench201'"):
        table.latency(other, other.sample_matrix(3))
    wide = create_space("mobilenetv3", num_classes=10, resolution=96, width_mult=0.5)
    with pytest.raises(InvalidInputError, match=r"width_mult 1\.0, not width_mult 0\.5"):
        table.latency(wide, wide.sample_matrix(3))
    with pytest.raises(InvalidInputError, match="of space 'mobilenetv3'"):
        fit_latency(other, other.sample_matrix(8), [1.0] * 8, prior=[table])

    class Empty:
        device, fingerprint = "lookup", ""
        rows = space.sample_matrix(3)

        def latency(self, space: SearchSpace, matrix: Matrix) -> Floats:
            return np.full(len(matrix), np.nan)

    with pytest.raises(InvalidInputError, match="'lookup' knows 0 networks"):
        fit_latency(space, archs, [1.0] * 8, prior=[Empty()])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "format 'other'"),
        ({"unit": "s"}, "unit 's'; need 'ms'"),
        ({"version": 9}, "version 9"),
        ({"weights": {"one": -1.0}}, "a weight is -1.0"),
        ({"weights": {"one": "x"}}, "damaged"),
        ({"weights": {"one": 1.0}}, "another version of scholarch, with 1 columns"),
        ({"networks": []}, "damaged"),
        ({"networks": None}, "damaged"),
        ({"space": {}}, "lacks 'name'"),
        ({"prior": [{"device": "a", "weights": [1.0]}]}, "damaged"),
    ],
)
def test_damaged_files_are_refused(
    space: SearchSpace, change: dict[str, Any], message: str
) -> None:
    archs = space.sample(8, 0)
    data = fit_latency(space, archs, gpu(space, space.encode(archs))).to_json()
    with pytest.raises(InvalidInputError, match=message):
        read_fitted(data | change, "t.json", space)
    data.pop("device")
    with pytest.raises(InvalidInputError, match="lacks 'device'"):
        FittedTable.from_json(data, "t.json")


def test_proposals_are_refused(space: SearchSpace) -> None:
    for wrong in (0, -1, 2.5, True):
        with pytest.raises(InvalidInputError, match="cannot propose"):
            propose(space, wrong)  # type: ignore[arg-type]
    small = create_space("resnet-cifar-s0")
    assert len({arch.text for arch in propose(small, 60)}) == 60
    with pytest.raises(InvalidInputError, match="ask for fewer"):
        propose(small, 65)


# ---------------------------------------------------------------------- real devices


def test_ten_real_measurements_order_the_cells(data_dir: Path) -> None:
    space = create_space("nasbench201")

    def read(name: str) -> list[dict[str, str]]:
        with gzip.open(data_dir / name, "rt") as file:
            return list(csv.DictReader(file))

    cells = read("nasbench201_open_half.csv.gz")
    times = {row["idx"]: row for row in read("nasbench201_latency_open_half.csv.gz")}
    matrix = space.encode([space.parse(row["arch_str"]) for row in cells])
    # Even isomorphism groups may be timed, odd ones are predicted.
    odd = np.array([int(row["iso_group"]) % 2 == 1 for row in cells])
    pool = np.flatnonzero(~odd)[::8]
    timed = pool[design(FeatureMap(space), matrix[pool], 10)]
    for device in ("pixel3", "1080ti_32"):
        ms = np.array([float(times[row["idx"]][device]) for row in cells])
        table = fit_latency(space, matrix[timed], ms[timed], device=device)
        rho = spearmanr(table.latency(space, matrix[odd]), ms[odd]).statistic
        assert rho > 0.95
