"""Tables of blocks: prediction, files, and what is refused."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.latency import bench, load_table
from scholarch.searchspace.latency.build import build_table, fit_overhead
from scholarch.searchspace.latency.check import check_table, unseen
from scholarch.searchspace.latency.cut import Chunk
from scholarch.searchspace.latency.plan import BlockPlan, plan_blocks
from scholarch.searchspace.latency.runtimes.base import (
    Loaded,
    Milliseconds,
    Runtime,
    Setting,
    create_runtime,
    list_runtimes,
)
from scholarch.searchspace.latency.table import BlockTable, BlockTime, Overhead
from scholarch.searchspace.space import SearchSpace

SPACE = "nasbench-macro"


def _cost(key: str) -> float:
    """A made-up device: what a block takes follows from its words."""
    return 0.05 + (sum(map(ord, key)) % 97) / 97


class _Fake(Runtime):
    """A device that takes 0.4 ms a call, 1.25 times its blocks, and hiccups on every third."""

    name = "fake"

    def check(self) -> None:
        pass

    def versions(self) -> dict[str, str]:
        return {"fake": "1"}

    def load(self, network: nn.Module, chunks: list[Chunk], image: tuple[int, int, int]) -> Loaded:
        return _FakeLoaded(np.array([_cost(chunk.key) for chunk in chunks]))


class _FakeLoaded(Loaded):
    def __init__(self, ms: Milliseconds) -> None:
        self.ms = ms
        self.calls = 0

    def _slow(self) -> float:
        self.calls += 1
        return 3.0 if self.calls % 3 == 0 else 1.0

    def whole(self, repeats: int) -> Milliseconds:
        return np.full(repeats, (0.4 + 1.25 * self.ms.sum()) * self._slow())

    def parts(self, repeats: int) -> Milliseconds:
        return np.tile(self.ms * self._slow(), (repeats, 1))


@pytest.fixture(scope="module", autouse=True)
def _planned_once() -> Iterator[None]:
    """A plan, which takes more than a second, follows from the space: one each is enough."""
    plans: dict[str, BlockPlan] = {}

    def planned(space: SearchSpace, **_: Any) -> BlockPlan:
        key = json.dumps(space.spec(), sort_keys=True)
        if key not in plans:
            plans[key] = plan_blocks(space)
        return plans[key]

    with pytest.MonkeyPatch.context() as patch:
        for module in ("build", "table"):
            patch.setattr(f"scholarch.searchspace.latency.{module}.plan_blocks", planned)
        yield


@pytest.fixture(scope="module")
def table() -> BlockTable:
    return build_table([create_space(SPACE)], "made-up", _Fake(Setting()), passes=6, seconds=0.1)


def test_blocks_and_overhead_of_a_known_device_are_recovered(table: BlockTable) -> None:
    for key, block in table.blocks.items():
        assert block.ms == pytest.approx(_cost(key), rel=1e-6)
    overhead = table.overheads[32]
    assert (overhead.ms, overhead.scale) == (pytest.approx(0.4), pytest.approx(1.25))
    assert overhead.error < 1e-6
    assert len(table.wholes) == overhead.networks >= 16


def test_held_out_networks_are_predicted(table: BlockTable) -> None:
    space = create_space(SPACE)
    check = check_table(table, space, _Fake(Setting()), networks=20, passes=4, seconds=0.1)
    numbers = check.to_json()
    assert numbers["networks"] == 20
    assert numbers["mape"] < 1e-6
    assert (numbers["within5"], numbers["within10"]) == (1.0, 1.0)
    assert numbers["spearman"] == pytest.approx(1.0, abs=0.01)  # of ties
    built = {space.parse(w.arch).key for w in table.wholes}
    assert not built & {arch.key for arch in check.archs}


def test_more_networks_than_there_are_is_refused(table: BlockTable) -> None:
    with pytest.raises(InvalidInputError, match="ask for fewer"):
        unseen(table, create_space(SPACE), 7000, 0)


def test_a_file_gives_the_same_predictions(table: BlockTable, tmp_path: Path) -> None:
    space = create_space(SPACE)
    file = tmp_path / "mine.json"
    file.write_text(table.dumps())
    read = load_table(file, space)
    rows = space.sample_matrix(50, 0)
    assert read.device == "mine"
    assert read.rows is None
    assert read.fingerprint == table.fingerprint != ""
    assert np.array_equal(read.latency(space, rows), table.latency(space, rows))


def test_a_million_architectures_take_about_a_second(table: BlockTable) -> None:
    space = create_space(SPACE)
    rows = space.sample_matrix(1_000_000, 0)
    table.latency(space, rows[:10])
    best = min(_seconds(table, space, rows) for _ in range(3))
    assert best < 3.0


def _seconds(table: BlockTable, space: Any, rows: Any) -> float:
    begin = time.perf_counter()
    table.latency(space, rows)
    return time.perf_counter() - begin


def test_a_stopped_build_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "MOST_SWEEPS", 1)  # or a busy machine decides how many passes
    partial = tmp_path / "partial"
    passes: list[int] = []

    class Stops(_Fake):
        def load(self, network: nn.Module, chunks: list[Chunk], image: Any) -> Loaded:
            return _Counts(np.array([_cost(chunk.key) for chunk in chunks]), passes)

    class _Counts(_FakeLoaded):
        def __init__(self, ms: Milliseconds, passes: list[int]) -> None:
            super().__init__(ms)
            self.passes = passes

        def parts(self, repeats: int) -> Milliseconds:
            self.passes.append(1)
            if len(self.passes) == stop:
                raise KeyboardInterrupt
            return super().parts(repeats)

    def build() -> BlockTable:
        return build_table(
            [create_space(SPACE)],
            "made-up",
            Stops(Setting()),
            passes=6,
            seconds=0.1,
            partial=partial,
        )

    stop = 10**9
    whole = build()
    needed = len(passes)
    assert not partial.exists()
    stop = needed * 2 // 3
    passes.clear()
    with pytest.raises(KeyboardInterrupt):
        build()
    assert partial.exists()
    stop = 10**9
    before = len(passes)
    again = build()
    assert len(passes) - before < needed * 2 // 3
    assert again.blocks.keys() == whole.blocks.keys()


def test_only_what_is_missing_is_measured(table: BlockTable) -> None:
    more = build_table(
        [create_space(SPACE, num_classes=100)],
        "made-up",
        _Fake(Setting()),
        add_to=BlockTable.from_json(table.to_json()),
        passes=3,
        seconds=0.1,
    )
    new = set(more.blocks) - set(table.blocks)
    assert len(new) == 1
    assert "100" in new.pop()
    assert all(more.blocks[key] == block for key, block in table.blocks.items())


def test_another_setting_is_not_added_to_a_table(table: BlockTable) -> None:
    with pytest.raises(InvalidInputError, match="batch 1, not 2"):
        build_table(
            [create_space(SPACE)], "made-up", _Fake(Setting(batch=2)), add_to=table, seconds=0.1
        )


def test_resolutions_between_two_are_interpolated() -> None:
    low, high = create_space(SPACE, resolution=16), create_space(SPACE, resolution=48)
    table = build_table([low, high], "made-up", _Fake(Setting()), passes=3, seconds=0.1)
    # A device whose blocks take time by the pixel.
    for key in table.blocks:
        sides = key.split()[0].split("x")
        pixels = int(sides[1]) * int(sides[2]) if len(sides) == 3 else 1
        table.blocks[key] = BlockTime(1e-3 * pixels)
    table.overheads = {16: Overhead(0.0, 1.0), 48: Overhead(0.0, 1.0)}
    between = create_space(SPACE, resolution=32)
    rows = between.sample_matrix(5, 0)
    plan = plan_blocks(between)
    wanted = []
    for block in plan.blocks:
        sides = block.key.split()[0].split("x")
        wanted.append(1e-3 * int(sides[1]) * int(sides[2]) if len(sides) == 3 else 1e-3)
    assert np.allclose(table.latency(between, rows), plan.total(np.array(wanted), rows))
    with pytest.raises(InvalidInputError, match="resolution 64"):
        table.latency(create_space(SPACE, resolution=64), rows)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(unit="s"), "in 's'; need unit 'ms'"),
        (lambda d: d.update(version=7), "version 7"),
        (lambda d: d.pop("blocks"), "lacks 'blocks'"),
        (lambda d: d["blocks"].popitem(), "lacks 1 of 18 blocks"),
        (lambda d: d["blocks"].update(x={"ms": -1.0}), "block 'x' takes -1.0"),
        (lambda d: d["blocks"].update(x={"ms": None}), "block 'x' takes None"),
        (lambda d: d["blocks"].update(x={"ms": "fast"}), "block 'x' takes 'fast'"),
        (lambda d: d.update(format="tea"), "format is 'tea'"),
        (lambda d: d["space"].update(name="resnet-cifar"), "of space 'resnet-cifar'"),
        (lambda d: d["plans"]["32"]["slots"][1].update(index=[99]), "damaged"),
        (lambda d: d["overheads"]["32"].update(scale="x"), "a scale takes 'x'"),
    ],
)
def test_bad_tables_are_refused_by_name(
    table: BlockTable, tmp_path: Path, change: Any, words: str
) -> None:
    data = json.loads(table.dumps())
    change(data)
    file = tmp_path / "bad.json"
    file.write_text(json.dumps(data))
    with pytest.raises(InvalidInputError, match=words) as caught:
        load_table(file, create_space(SPACE))
    assert "bad.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_refused(table: BlockTable, tmp_path: Path) -> None:
    file = tmp_path / "cut.json"
    file.write_text(table.dumps()[:2000])
    with pytest.raises(InvalidInputError, match="cut short"):
        load_table(file, create_space(SPACE))


def test_networks_about_as_large_give_an_overhead_alone() -> None:
    sums = np.array([10.0, 10.01, 10.02, 10.0])
    overhead = fit_overhead(sums, sums + 2.0)
    assert overhead.scale == 1.0
    assert overhead.ms == pytest.approx(2.0)


# ---------------------------------------------------------------------- real runtimes


@pytest.mark.parametrize("name", ["torch", "onnxruntime"])
def test_a_runtime_times_a_network_and_its_blocks(name: str) -> None:
    if name == "onnxruntime":
        pytest.importorskip("onnxruntime")
    space = create_space("mobilenetv3", resolution=64, width_mult=0.25)
    runtime = create_runtime(name, Setting())
    from scholarch.searchspace.latency.cut import cut

    threads = torch.get_num_threads()
    network = space.build(space.sample(1, 0)[0]).eval()
    chunks = cut(network, (3, 64, 64))
    with runtime.pinned():
        loaded = runtime.load(network, chunks, (3, 64, 64))
        for _ in range(6):  # other jobs may interfere
            whole = np.min(loaded.whole(15))
            parts = np.min(loaded.parts(15), axis=0)
            if 0.3 * whole < parts.sum() < 4.0 * whole:
                break
    assert torch.get_num_threads() == threads
    assert parts.shape == (len(chunks),)
    # What stands between blocks is small, and the clock is the same.
    assert 0.3 * whole < parts.sum() < 4.0 * whole
    slow = [k for k, chunk in enumerate(chunks) if "MBConv" in chunk.key]
    assert (parts[slow] > 0).all()


def test_runtimes_are_listed_and_a_wrong_setting_is_refused() -> None:
    assert {"torch", "torch-compile", "onnxruntime"} <= set(list_runtimes())
    with pytest.raises(InvalidInputError, match="unknown runtime 'torhc'"):
        create_runtime("torhc")
    with pytest.raises(InvalidInputError, match="0 threads"):
        Setting(threads=0)
    with pytest.raises(InvalidInputError, match="dtype 'int4'"):
        Setting(dtype="int4")
    if not torch.cuda.is_available():
        with pytest.raises(InvalidInputError, match="no GPU here"):
            create_runtime("torch", Setting(accelerator="cuda"))
