"""What every registered searcher has to do; a new one is tested here by being registered."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import moocore
import numpy as np
import pytest

from scholarch.proxies.batch import Batch
from scholarch.search import run as run_module
from scholarch.search.budget import Budget
from scholarch.search.domain import Domain
from scholarch.search.find import search
from scholarch.search.result import SearchResult
from scholarch.search.searchers import base
from scholarch.search.searchers.base import create_searcher, describe_searcher, list_searchers
from scholarch.searchspace.errors import ScholarchError, UnknownNameError
from scholarch.searchspace.space import SearchSpace, create_space

S0 = create_space("resnet-cifar-s0")
ELASTIC = create_space("resnet-cifar")
BOUNDS = {"macs": 40e6, "params": 500_000}


def find(
    batch: Batch,
    searcher: str,
    evaluations: int = 80,
    *,
    space: SearchSpace = ELASTIC,
    budget: dict[str, float] | None = None,
    proxy: str = "test-late",
    seed: int = 0,
    out: Path | None = None,
) -> SearchResult:
    return search(
        space,
        batch,
        None,
        budget=Budget(BOUNDS if budget is None else budget),
        proxies=[proxy],
        searcher=searcher,
        evaluations=evaluations,
        seed=seed,
        out=out,
    )


def keys(result: SearchResult) -> list[str]:
    return [candidate.arch.key for candidate in result.candidates]


@pytest.mark.parametrize("searcher", list_searchers())
class TestEverySearcher:
    def test_says_in_a_line_what_it_is(self, searcher: str) -> None:
        assert describe_searcher(searcher)

    def test_respects_the_budget_and_counts_distinct(self, searcher: str, batch: Batch) -> None:
        result = find(batch, searcher)
        assert len(result.candidates) == len(set(keys(result))) == 80
        assert [candidate.order for candidate in result.candidates] == list(range(80))
        for candidate in result.candidates:
            for name, bound in BOUNDS.items():
                assert candidate.costs[name] <= bound
        assert result.best.arch.key in keys(result)
        assert result.pareto
        assert not result.failures

    @pytest.mark.parametrize("evaluations", [1, 31, 33, 64, 65])
    def test_ends_exactly(self, searcher: str, evaluations: int, batch: Batch) -> None:
        assert len(find(batch, searcher, evaluations).candidates) == evaluations

    def test_the_seed_decides_all(self, searcher: str, batch: Batch) -> None:
        first, again, other = (find(batch, searcher, 100, seed=seed) for seed in (0, 0, 1))
        assert keys(first) == keys(again)
        assert first.pareto_csv() == again.pareto_csv()
        assert keys(first) != keys(other)

    def test_a_longer_run_begins_like_a_shorter(self, searcher: str, batch: Batch) -> None:
        assert keys(find(batch, searcher, 130))[:75] == keys(find(batch, searcher, 75))

    def test_resumes_to_the_same_front(self, searcher: str, batch: Batch, tmp_path: Path) -> None:
        whole = find(batch, searcher, 130)
        for evaluations in (1, 40, 100, 130):
            parts = find(batch, searcher, evaluations, out=tmp_path / "run")
        assert keys(parts) == keys(whole)
        assert parts.pareto_csv() == whole.pareto_csv()

    def test_an_exhausted_space_ends_the_run(self, searcher: str, batch: Batch) -> None:
        result = find(batch, searcher, 10**9, space=S0, budget={})
        assert len(result.candidates) == 64
        assert any("ended after 64 " in note and "all 64" in note for note in result.notes)

    def test_an_exhausted_budget_ends_the_run(self, searcher: str, batch: Batch) -> None:
        inside = Domain(S0, Budget({"macs": 40e6})).size
        result = find(batch, searcher, 60, space=S0, budget={"macs": 40e6})
        assert len(result.candidates) == inside
        assert any("inside the budget" in note for note in result.notes)

    def test_a_budget_of_one(self, searcher: str, batch: Batch) -> None:
        for space in (S0, ELASTIC):
            smallest = space.cost(space.encode([space.parse(_smallest(space))]))
            bounds = {name: float(smallest[name][0]) for name in ("params", "macs")}
            result = find(batch, searcher, 20, space=space, budget=bounds)
            assert [c.arch.text for c in result.candidates] == [_smallest(space)]

    def test_half_of_the_candidates_failing(self, searcher: str, batch: Batch) -> None:
        result = find(batch, searcher, 100, proxy="test-half")
        failed = [c for c in result.candidates if math.isnan(c.score)]
        assert len(result.candidates) == 100
        assert 20 < len(failed) < 80
        assert sum(result.failures.values()) == len(failed)
        assert set(result.failures) == {
            "test-half: the value is nan",
            "test-half: RuntimeError: this one breaks",
        }
        assert not {c.arch.key for c in failed} & {c.arch.key for c in result.front}
        assert keys(find(batch, searcher, 100, proxy="test-half")) == keys(result)

    def test_all_candidates_failing(self, searcher: str, batch: Batch) -> None:
        for space, evaluations in ((ELASTIC, 70), (S0, 64)):
            result = find(batch, searcher, evaluations, space=space, proxy="test-never", budget={})
            assert len(result.candidates) == evaluations
            assert result.front == []
            assert result.pick is None
            with pytest.raises(ScholarchError, match=f"{evaluations}× test-never: out of memory"):
                _ = result.best
            assert result.pareto_csv().count("\n") == 1
            assert "test-never" in result.report()

    def test_is_told_everything_asked(
        self, searcher: str, batch: Batch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The driver's side: what was asked inside the domain is told, the same every time."""
        told: list[tuple[str, tuple[float, ...]]] = []

        def spied(*args: Any) -> Any:
            real = create_searcher(*args)
            tell = real.tell

            def record(rows: Any, objectives: Any) -> None:
                assert objectives.shape == (len(rows), 3)
                for key, values in zip(ELASTIC.keys(rows), objectives.tolist(), strict=True):
                    told.append((key, tuple(values)))
                tell(rows, objectives)

            monkeypatch.setattr(real, "tell", record)
            return real

        monkeypatch.setattr(run_module, "create_searcher", spied)
        result = find(batch, searcher, 90)
        assert {key for key, _ in told} == set(keys(result))
        objectives: dict[str, tuple[float, ...]] = {}
        for key, values in told:
            assert (
                objectives.setdefault(key, values) == values
            )  # nothing is told twice, differently
        for candidate in result.candidates:
            # Both bounded costs, MACs first, after the score; all minimised.
            costs = (candidate.costs["macs"], candidate.costs["params"])
            assert objectives[candidate.arch.key] == (-candidate.score, *costs)


def _smallest(space: SearchSpace) -> str:
    return "111" if space is S0 else "8-8x1-16x1-32x1"


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
