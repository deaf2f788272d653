"""What every registered searcher has to do."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from scholarch.proxies import registry
from scholarch.proxies.batch import Batch
from scholarch.proxies.probe import Probe
from scholarch.proxies.registry import Proxy
from scholarch.search import run as run_module
from scholarch.search.budget import Budget
from scholarch.search.domain import Domain
from scholarch.search.find import REFERENCE_SIZE, search
from scholarch.search.result import SearchResult
from scholarch.search.searchers.base import (
    check_searcher,
    create_searcher,
    describe_searcher,
    evaluation_limit,
)
from scholarch.searchspace.errors import InvalidInputError, ScholarchError
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.space import SearchSpace
from scholarch.testing import registered

Compute = Callable[[Probe], float]


@pytest.fixture(scope="module")
def batch() -> Batch:
    """Eight images of ten classes, 32×32."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(8, 3, 32, 32, generator=generator)
    return Batch(images, torch.arange(8), 10, (0.5,) * 3, (0.3,) * 3, "noise")


@pytest.fixture
def add_proxy(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Compute], None]:
    """Registers a proxy for one test; it needs nothing unless told."""

    def add(name: str, compute: Compute, version: int = 1) -> None:
        proxy = Proxy(name, compute, "of a test", "a test", frozenset(), version=version)
        monkeypatch.setitem(registry._PROXIES._items, name, proxy)

    return add


def chance(text: str) -> float:
    """A number in [0, 1) that depends on nothing but a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32


def late(probe: Probe) -> float:
    """Rewards late blocks and narrow stems: at odds with MACs, with a dent here and there."""
    weights = (1.0, 2.0, 4.0, -0.5, 0.3, 0.5, 0.7)
    pairs = zip(weights, probe.arch.choices, strict=False)
    return sum(w * c for w, c in pairs) + chance(probe.arch.key)


def half(probe: Probe) -> float:
    """``late``, but NaN or a crash for half of the candidates."""
    if chance(probe.arch.key) < 0.25:
        return math.nan
    if chance(probe.arch.key) < 0.5:
        raise RuntimeError("this one breaks")
    return late(probe)


def never(probe: Probe) -> float:
    """Always out of memory."""
    raise MemoryError


@pytest.fixture(autouse=True)
def _proxies(add_proxy: Callable[[str, Compute], None]) -> None:
    for compute in (late, half, never):
        add_proxy(f"test-{compute.__name__}", compute)


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
        evaluations=affordable(searcher, evaluations),
        seed=seed,
        out=out,
    )


def affordable(searcher: str, evaluations: int) -> int:
    """As many evaluations, or for a searcher with a limit, whose asks cost seconds, one more
    than the reference sample answers for."""
    return evaluations if limit(searcher) == 10**9 else min(evaluations, REFERENCE_SIZE + 1)


def limit(searcher: str) -> int:
    """Evaluations that a searcher is made for, at most."""
    most = evaluation_limit(searcher)
    return 10**9 if most is None else int(most)


def keys(result: SearchResult) -> list[str]:
    return [candidate.arch.key for candidate in result.candidates]


@pytest.mark.parametrize("searcher", registered("searcher"))
class TestEverySearcher:
    def test_says_in_a_line_what_it_is(self, searcher: str) -> None:
        assert describe_searcher(searcher)

    def test_refuses_more_than_it_is_made_for(self, searcher: str) -> None:
        most = limit(searcher)
        check_searcher(searcher, most)
        if most < 10**9:
            with pytest.raises(InvalidInputError, match=f"at most {most} evaluations"):
                check_searcher(searcher, most + 1)

    def test_respects_the_budget_and_counts_distinct(self, searcher: str, batch: Batch) -> None:
        result = find(batch, searcher)
        count = affordable(searcher, 80)
        assert len(result.candidates) == len(set(keys(result))) == count
        assert [candidate.order for candidate in result.candidates] == list(range(count))
        for candidate in result.candidates:
            for name, bound in BOUNDS.items():
                assert candidate.costs[name] <= bound
        assert result.best.arch.key in keys(result)
        assert result.pareto
        assert not result.failures

    @pytest.mark.parametrize("evaluations", [1, 31, 33, 64, 65])
    def test_ends_exactly(self, searcher: str, evaluations: int, batch: Batch) -> None:
        found = find(batch, searcher, evaluations)
        assert len(found.candidates) == affordable(searcher, evaluations)

    def test_the_seed_decides_all(self, searcher: str, batch: Batch) -> None:
        first, again, other = (find(batch, searcher, 90, seed=seed) for seed in (0, 0, 1))
        assert keys(first) == keys(again)
        assert first.pareto_csv() == again.pareto_csv()
        assert keys(first) != keys(other)

    def test_a_longer_run_begins_like_a_shorter(self, searcher: str, batch: Batch) -> None:
        # Both past the reference sample, the shorter within a group.
        longer, shorter = (keys(find(batch, searcher, n)) for n in (100, 80))
        assert longer[: len(shorter)] == shorter

    def test_resumes_to_the_same_front(self, searcher: str, batch: Batch, tmp_path: Path) -> None:
        whole = find(batch, searcher, 100)
        for evaluations in (1, 40, 80, 100):
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
        result = find(batch, searcher, 90, proxy="test-half")
        failed = [c for c in result.candidates if math.isnan(c.score)]
        assert len(result.candidates) == affordable(searcher, 90)
        assert 20 < len(failed) < 70
        assert sum(result.failures.values()) == len(failed)
        assert set(result.failures) == {
            "test-half: the value is nan",
            "test-half: RuntimeError: this one breaks",
        }
        assert not {c.arch.key for c in failed} & {c.arch.key for c in result.front}
        assert keys(find(batch, searcher, 90, proxy="test-half")) == keys(result)

    def test_all_candidates_failing(self, searcher: str, batch: Batch) -> None:
        for space, evaluations in ((ELASTIC, 70), (S0, 64)):
            result = find(batch, searcher, evaluations, space=space, proxy="test-never", budget={})
            evaluations = affordable(searcher, evaluations)
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
