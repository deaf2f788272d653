"""Every registered searcher passes the shipped suite; and what the driver does with odd ones."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import moocore
import numpy as np
import pytest

from scholarch.proxies.batch import Batch
from scholarch.search.budget import Budget
from scholarch.search.domain import Domain
from scholarch.search.result import SearchResult
from scholarch.search.searchers import base
from scholarch.search.searchers.base import describe_searcher, list_searchers
from scholarch.search.searchers.nsga2 import NSGA2Searcher
from scholarch.searchspace.errors import UnknownNameError
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.space import Matrix
from scholarch.testing.searcher_suite import (
    S0,
    TestEverySearcher,  # noqa: F401 (collected here)
    find,
    keys,
)


@pytest.fixture(autouse=True)
def _plain_pages(plain_pages: None) -> None:
    """Of every searcher, run and resumed four times."""


def hypervolume(result: SearchResult) -> float:
    """Of score against MACs, both as shares of what the space can reach."""
    points = [[-c.score / 60.0, c.costs["macs"] / 40e6] for c in result.front]
    return float(moocore.hypervolume(np.array(points), ref=[0.0, 1.0]))


def test_nsga2_beats_random(batch: Batch) -> None:
    budget = {"macs": 40e6}
    volumes = {
        searcher: [
            hypervolume(find(batch, searcher, 256, seed=seed, budget=budget)) for seed in range(5)
        ]
        for searcher in ("nsga2", "random")
    }
    assert np.mean(volumes["nsga2"]) > 1.1 * np.mean(volumes["random"])
    assert min(volumes["nsga2"]) > max(volumes["random"])


PLUGIN = '''
from scholarch.search.searchers.base import Searcher, register_searcher

@register_searcher("test-stubborn")
class Stubborn(Searcher):
    """Always the same row, and rows outside the domain."""
    group_size = 10

    def propose(self, n):
        rows = self.domain.sample(1, self.rng).repeat(n, axis=0)
        rows[1::2] = 99
        return rows

    def tell(self, rows, objectives):
        assert len(rows) == len(objectives)
'''


def test_registered_by_one_file(
    batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even one that asks badly: duplicates and strangers cost nothing, and the run ends."""
    monkeypatch.setattr(base._SEARCHERS, "_items", dict(base._SEARCHERS._items))
    file = tmp_path / "stubborn.py"
    file.write_text(PLUGIN)
    spec = importlib.util.spec_from_file_location("stubborn", file)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert "test-stubborn" in list_searchers("test-*")
    assert describe_searcher("test-stubborn") == "Always the same row, and rows outside the domain"
    result = find(batch, "test-stubborn", 90)
    assert len(set(keys(result))) == 90
    assert len(find(batch, "test-stubborn", 90, space=S0, budget={}).candidates) == 64


def test_unknown_searcher(batch: Batch) -> None:
    with pytest.raises(UnknownNameError, match="unknown searcher 'nsga3'; did you mean nsga2"):
        find(batch, "nsga3")
    with pytest.raises(UnknownNameError):
        describe_searcher("nsga3")


class Forgetful(NSGA2Searcher):
    """Sorts its population for every tournament."""

    def _tournament(self, n: int) -> Matrix:
        self._order = []
        return super()._tournament(n)


def test_nsga2_remembers_its_order_between_tells() -> None:
    """Draw for draw as if it sorted anew."""
    space = create_space("resnet-cifar")
    asked: dict[type[NSGA2Searcher], list[Matrix]] = {}
    for kind in (NSGA2Searcher, Forgetful):
        searcher = kind(Domain(space, Budget({})), space.sample_matrix(20, 0), 2, 3)
        asked[kind] = []
        for _ in range(8):
            rows = searcher.ask(16)
            costs = space.cost(rows)
            searcher.tell(rows, np.stack([-costs["depth"], costs["macs"]], axis=1))
            asked[kind].append(rows)
    remembered, sorted_anew = (np.concatenate(rows) for rows in asked.values())
    assert len(remembered) == 8 * 16 - 12  # of the second ask only four rows were initial ones
    assert remembered.tobytes() == sorted_anew.tobytes()
