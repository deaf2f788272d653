from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scholarch.proxies.ranks import ReferenceRank, log_rank_sum
from scholarch.searchspace.errors import InvalidInputError

finite = st.floats(-1e6, 1e6, width=32)
samples = arrays(np.float64, st.integers(1, 40), elements=finite)


@given(samples, st.lists(st.integers(-10_000, 10_000), min_size=2, max_size=50, unique=True))
def test_strictly_increasing_also_beyond_the_sample(sample: np.ndarray, points: list[int]) -> None:
    scores = np.sort(np.array(points, dtype=np.float64)) * 1e3
    ranks = ReferenceRank(sample).log(scores)
    assert np.isfinite(ranks).all()
    assert (ranks < 0).all()
    # Where the spread dwarfs the distance of two scores, float64 may not tell them apart.
    scale = max(float(np.ptp(sample)), 1.0)
    apart = np.diff(scores) > 1e-9 * max(scale, float(np.abs(scores).max()))
    assert (np.diff(ranks)[apart] >= 0).all()


def test_strict_on_a_plain_sample() -> None:
    rng = np.random.default_rng(0)
    rank = ReferenceRank(rng.normal(size=64))
    scores = np.linspace(-50, 50, 4001)
    assert (np.diff(rank(scores)) > 0).all()
    far = rank.log(np.array([-1e30, -1e6, 1e6, 1e30]))
    assert (np.diff(far) > 0).all()


def test_middle_of_ties_and_quantiles() -> None:
    rank = ReferenceRank(np.array([1.0, 2.0, 2.0, 3.0]))
    assert rank(np.array([1.0, 2.0, 3.0])) == pytest.approx([0.125, 0.5, 0.875])
    assert rank(np.array([1.5])) == pytest.approx([0.3125])


def test_a_score_does_not_change_as_others_arrive() -> None:
    rng = np.random.default_rng(1)
    rank = ReferenceRank(rng.normal(size=64))
    scores = rng.normal(size=100)
    assert np.array_equal(rank(scores)[:10], rank(scores[:10]))


def test_nan_is_no_rank() -> None:
    rank = ReferenceRank(np.array([np.nan, 1.0, 2.0, np.inf]))
    assert np.isnan(rank(np.array([np.nan]))[0])
    assert rank(np.array([1.0])) == pytest.approx([0.25])
    with pytest.raises(InvalidInputError, match="ranks nothing"):
        ReferenceRank(np.array([np.nan]))


def test_equal_references_still_order() -> None:
    for value in (0.0, 5.0, -3.0):
        ranks = ReferenceRank(np.full(8, value))(np.array([value - 1, value, value + 1]))
        assert ranks[1] == pytest.approx(0.5)
        assert ranks[0] < ranks[1] < ranks[2]


def test_log_rank_sum_adds_logs_and_keeps_nan() -> None:
    reference = {"a": np.arange(4.0), "b": np.arange(4.0)}
    columns = {"a": np.array([0.0, 3.0, np.nan]), "b": np.array([3.0, 3.0, 0.0])}
    total = log_rank_sum(columns, reference)
    assert total[0] == pytest.approx(np.log(0.125) + np.log(0.875))
    assert total[1] == pytest.approx(2 * np.log(0.875))
    assert np.isnan(total[2])
