"""A domain samples what is feasible, all of it, and knows when there is no more."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from scholarch.search.budget import Budget, minimum_costs
from scholarch.search.domain import Domain
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.space import SearchSpace

S0 = create_space("resnet-cifar-s0")
ELASTIC = create_space("resnet-cifar")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def feasible_of_all(space: SearchSpace, budget: Budget) -> Any:
    rows = space.enumerate_matrix(limit=space.size)
    return rows[budget.feasible(space.cost(rows))]


def tight(share: float) -> Budget:
    """A bound on MACs that about this share of the elastic space meets."""
    macs = np.sort(ELASTIC.cost(ELASTIC.enumerate_matrix(limit=ELASTIC.size))["macs"])
    return Budget({"macs": float(macs[max(0, round(share * len(macs)) - 1)])})


@pytest.mark.parametrize("share", [8e-7, 4e-6, 3e-5, 1e-3, 0.5, 1.0])
def test_samples_of_a_large_space_are_feasible(share: float) -> None:
    budget = tight(share)
    domain = Domain(ELASTIC, budget)
    assert domain.size is None
    rows = domain.sample(50, rng())
    assert rows.shape == (50, len(ELASTIC.genes))
    assert ELASTIC.valid(rows).all()
    assert budget.feasible(ELASTIC.cost(rows)).all()
    np.testing.assert_array_equal(rows, Domain(ELASTIC, budget).sample(50, rng()))
    # And they spread: a tenth of what is feasible, or of what was asked, at the least.
    feasible = len(feasible_of_all(ELASTIC, budget))
    assert len(np.unique(rows, axis=0)) >= min(feasible, 50) / 10


def test_a_budget_that_admits_one_architecture() -> None:
    for space in (S0, ELASTIC):
        smallest = minimum_costs(space)
        budget = Budget({name: smallest[name] for name in ("params", "macs")})
        domain = Domain(space, budget)
        rows = domain.sample(5, rng())
        assert len(np.unique(rows, axis=0)) == 1
        fresh, _ = domain.unseen(5, (), rng())
        assert len(fresh) == 1
        assert len(domain.unseen(5, space.keys(fresh), rng())[0]) == 0


def test_samples_of_an_enumerable_space_are_uniform() -> None:
    budget = Budget({"params": 400_000})
    domain = Domain(S0, budget)
    inside = feasible_of_all(S0, budget)
    assert domain.size == len(inside)
    n = 400 * len(inside)
    counts = Counter(S0.keys(domain.sample(n, rng())))
    assert set(counts) == set(S0.keys(inside))
    expected = n / len(inside)
    chi2 = sum((count - expected) ** 2 / expected for count in counts.values())
    # Mean df, deviation √(2 df); 5 deviations.
    df = len(inside) - 1
    assert chi2 < df + 5 * (2 * df) ** 0.5


def test_samples_of_a_large_space_are_uniform_over_each_gene() -> None:
    rows = Domain(ELASTIC, Budget({})).sample(9000, rng())
    for i, gene in enumerate(ELASTIC.genes):
        shares = np.bincount(rows[:, i], minlength=len(gene.values)) / len(rows)
        np.testing.assert_allclose(shares, 1 / len(gene.values), atol=0.02)


@pytest.mark.parametrize("space", [S0, ELASTIC], ids=lambda s: s.name)
@pytest.mark.parametrize("bounds", [{}, {"macs": 60e6}], ids=["free", "bounded"])
def test_unseen_is_distinct_and_not_seen(space: SearchSpace, bounds: dict[str, float]) -> None:
    domain = Domain(space, Budget(bounds))
    first, looked = domain.unseen(6, (), rng())
    seen = set(space.keys(first))
    assert len(seen) == len(first) == 6
    assert looked >= 6
    second, _ = domain.unseen(6, seen, rng())
    assert not seen & set(space.keys(second))
    np.testing.assert_array_equal(domain.unseen(6, seen, rng())[0], second)
    assert not np.array_equal(domain.unseen(6, (), rng(1))[0], first)


def test_unseen_exhausts_an_enumerable_domain() -> None:
    budget = Budget({"params": 300_000})
    domain = Domain(S0, budget)
    seen: set[str] = set()
    while len(rows := domain.unseen(5, seen, rng(len(seen)))[0]):
        keys = S0.keys(rows)
        assert not seen.intersection(keys)
        seen.update(keys)
    assert seen == set(S0.keys(feasible_of_all(S0, budget)))


def test_unseen_exhausts_a_handful_in_a_large_space() -> None:
    budget = tight(8e-6)  # ten of 1.25 million
    inside = set(ELASTIC.keys(feasible_of_all(ELASTIC, budget)))
    rows, _ = Domain(ELASTIC, budget).unseen(len(inside) + 5, (), rng())
    assert set(ELASTIC.keys(rows)) == inside


def test_invalid_rows_are_not_feasible() -> None:
    domain = Domain(S0, Budget({}))
    rows = np.array([[0, 0, 0], [4, 0, 0], [0, -1, 0]])
    assert domain.feasible(rows).tolist() == [True, False, False]
    assert domain.feasible(rows[:0]).shape == (0,)
