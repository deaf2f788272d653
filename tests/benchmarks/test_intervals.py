"""The bootstrap draws clusters whole, repeats itself, and takes the τ it says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scholarch.benchmarks import intervals
from scholarch.benchmarks.intervals import draws_for, interval, kendall_draws, resamples
from scholarch.benchmarks.metrics import kendall, pooled_kendall


def table(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 30, n).astype(np.float64)
    scores = truth + rng.normal(0, 10, n).round()
    scores[rng.random(n) < 0.1] = np.nan
    return scores, truth


def test_clusters_are_drawn_whole() -> None:
    clusters = ["a", "b", "a", "c", "b", "a"]
    counts = resamples(clusters, 50, seed=0)
    assert counts.shape == (50, 6)
    for row in counts:
        assert row[0] == row[2] == row[5]
        assert row[1] == row[4]
        assert row[0] + row[1] + row[3] == 3
    assert (resamples(clusters, 50, seed=0) == counts).all()
    assert (resamples(clusters, 50, seed=1) != counts).any()


@pytest.mark.parametrize("many", [1, 1000])
def test_taus_are_those_of_the_drawn_rows(many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of taking them."""
    monkeypatch.setattr(intervals, "_MANY_PAIRS", many)
    scores, truth = table(40)
    draws = resamples([str(i // 2) for i in range(40)], 20, seed=3)
    taken = kendall_draws(scores, truth, draws)
    for tau, counts in zip(taken, draws, strict=True):
        rows = np.repeat(np.arange(40), counts)
        assert tau == pytest.approx(kendall(scores[rows], truth[rows]))


@pytest.mark.parametrize("many", [1, 1000])
def test_strata_leave_only_their_own_pairs(many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "_MANY_PAIRS", many)
    scores, truth = table(40)
    strata = np.arange(40) % 3
    draws = resamples([str(i) for i in range(40)], 20, seed=3)
    taken = kendall_draws(scores, truth, draws, strata)
    for tau, counts in zip(taken, draws, strict=True):
        rows = np.repeat(np.arange(40), counts)
        assert tau == pytest.approx(pooled_kendall(scores[rows], truth[rows], strata[rows]))
    assert not np.allclose(taken, kendall_draws(scores, truth, draws))


def test_scores_that_tie_have_no_tau() -> None:
    draws = resamples(list("abcd"), 5, seed=0)
    assert np.isnan(kendall_draws(np.ones(4), np.arange(4.0), draws)).all()


def test_interval_is_that_of_the_clusters() -> None:
    """Writing every row down four times tells nothing new."""
    scores, truth = table(60)
    once = kendall_draws(scores, truth, resamples([str(i) for i in range(60)], 200, seed=0))
    clusters = [str(i) for i in range(60)] * 4
    four = kendall_draws(np.tile(scores, 4), np.tile(truth, 4), resamples(clusters, 200, seed=0))
    np.testing.assert_allclose(four, once)
    low, high = interval(once)
    assert low < kendall(scores, truth) < high
    assert 0.05 < high - low < 0.5


def test_interval_is_the_central_95_percent() -> None:
    assert interval(np.arange(1001.0)) == pytest.approx((25.0, 975.0))
    assert interval(np.array([np.nan, 2.0])) == (2.0, 2.0)
    assert all(math.isnan(end) for end in interval(np.array([np.nan])))


def test_large_tables_get_fewer_draws() -> None:
    assert draws_for(64) == draws_for(2000) == 1000
    assert draws_for(7905) == 200
