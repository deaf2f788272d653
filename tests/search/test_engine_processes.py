"""Scoring in processes: the same result whatever their number, and nothing lost with a worker."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from scholarch.proxies import registry
from scholarch.proxies.batch import Batch
from scholarch.search.budget import Budget
from scholarch.search.engine import InProcessEngine
from scholarch.search.engine_processes import ProcessEngine
from scholarch.search.find import search
from scholarch.searchspace import plugins
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.plugins import load_plugin

SPACE = create_space("resnet-cifar")
PROXIES = ["macs", "expr", "naswot"]

DEADLY = """
import os, time, scholarch

@scholarch.register_proxy("test-deadly", source="a test")
def deadly(probe):
    "Ends the process on one architecture."
    if str(probe.arch) == "353":
        os._exit(3)
    return probe.costs["macs"]

@scholarch.register_proxy("test-slow", source="a test")
def slow(probe):
    "Takes its time."
    time.sleep(0.05)
    return probe.costs["macs"]
"""


@pytest.fixture
def deadly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry._PROXIES, "_items", dict(registry._PROXIES._items))
    monkeypatch.setattr(plugins, "_LOADED", dict(plugins._LOADED))
    file = tmp_path / "deadly.py"
    file.write_text(DEADLY)
    load_plugin(file)


def engine(workers: int, batch: Batch, proxies: list[str] = PROXIES) -> ProcessEngine:
    return ProcessEngine(SPACE, proxies, batch=batch, teacher=None, seed=0, workers=workers)


@pytest.mark.slow
def test_any_number_of_workers_scores_the_same(batch: Batch) -> None:
    archs = SPACE.sample(12, 0)
    archs += archs[:3]
    expected = InProcessEngine(SPACE, PROXIES, batch=batch, teacher=None, seed=0).score(archs)
    made = engine(3, batch)  # two are in the next test, one where a worker dies
    done: list[int] = []
    assert made.score(archs, progress=done.append) == expected
    assert done == sorted(done)
    assert done[-1] == 12
    made.close()
    made.close()


@pytest.mark.slow
@pytest.mark.usefixtures("plain_pages")
def test_a_search_has_the_same_bytes(batch: Batch, tmp_path: Path) -> None:
    results = [
        search(
            SPACE,
            batch,
            None,
            budget=Budget({"macs": 30e6}),
            proxies=["macs", "expr"],
            evaluations=70,
            workers=workers,
            out=tmp_path / str(workers),
        )
        for workers in (1, 2)
    ]
    assert results[0].pareto_csv() == results[1].pareto_csv()
    # The number is no setting: a run may go on with another.
    search(
        SPACE,
        batch,
        None,
        budget=Budget({"macs": 30e6}),
        proxies=["macs", "expr"],
        evaluations=72,
        workers=1,
        out=tmp_path / "2",
    )


@pytest.mark.slow
def test_a_killed_worker_loses_and_blames_nothing(batch: Batch, deadly: None) -> None:
    space = create_space("resnet-cifar-s0")
    archs = [arch for arch in space.decode(space.enumerate_matrix()) if str(arch) != "353"]
    made = ProcessEngine(space, ["test-slow"], batch=batch, teacher=None, seed=0, workers=2)
    made.score(archs[:2])
    killed: list[int] = []

    def kill() -> None:
        time.sleep(0.3)
        pool = made._pool
        if pool is not None:
            for pid in list(pool._processes)[:1]:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    thread = threading.Thread(target=kill)
    thread.start()
    scores = made.score(archs)
    thread.join()
    made.close()
    assert killed
    assert [score["test-slow"].failure for score in scores] == [None] * len(archs)
    assert np.array_equal([s["test-slow"].value for s in scores], space.cost(archs)["macs"])


@pytest.mark.slow
def test_only_a_candidate_alone_with_the_dead_is_recorded(batch: Batch, deadly: None) -> None:
    space = create_space("resnet-cifar-s0")
    archs = [space.parse(text) for text in ("111", "351", "353", "355", "777")]
    # One worker: whoever dies takes two seconds of imports along, seven times over.
    made = ProcessEngine(space, ["test-deadly"], batch=batch, teacher=None, seed=0, workers=1)
    scores = made.score(archs)
    made.close()
    failures = [score["test-deadly"].failure for score in scores]
    assert failures == [None, None, "3 workers in a row died while scoring it alone", None, None]


@pytest.mark.parametrize("workers", [0, -1, 2.0, True, 1000])
def test_numbers_of_workers_that_make_no_sense(batch: Batch, workers: int) -> None:
    with pytest.raises(InvalidInputError, match="from 1 to 256"):
        search(SPACE, batch, None, budget=Budget({}), proxies=["macs"], workers=workers)
