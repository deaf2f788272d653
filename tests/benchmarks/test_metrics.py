"""Every statistic on cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scholarch.benchmarks.metrics import (
    EQUAL_SIZE,
    Column,
    agreement_between_seeds,
    kendall,
    ndcg,
    pair_accuracy,
    pooled_kendall,
    ranks,
    regret,
    spearman,
    strata,
    stratified_kendall,
    top_spearman,
)

NAN = float("nan")


def column(*values: float) -> Column:
    return np.array(values, dtype=np.float64)


def test_failed_candidates_rank_below_all_and_level() -> None:
    assert ranks(column(3.0, NAN, -1e9, NAN, 3.0)).tolist() == [4.5, 1.5, 3.0, 1.5, 4.5]


@pytest.mark.parametrize(
    ("scores", "truth", "expected"),
    [
        ((1, 2, 3, 4), (10, 20, 30, 40), 1.0),
        ((4, 3, 2, 1), (10, 20, 30, 40), -1.0),
        ((1, 2, 3, 4), (1, 3, 2, 4), (5 - 1) / 6),
        ((1, 1, 2), (1, 2, 3), 2 / math.sqrt(3 * 2)),  # P = 2, Q = 0, T = 1, U = 0
        ((NAN, 1, 2), (1, 2, 3), 1.0),
        ((NAN, 1, 2), (3, 1, 2), (1 - 2) / 3),
        ((NAN, NAN, 5), (1, 2, 3), 2 / math.sqrt(3 * 2)),
        ((1, 1, 1), (1, 2, 3), NAN),
        ((1,), (1,), NAN),
    ],
)
def test_kendall(scores: tuple[float, ...], truth: tuple[float, ...], expected: float) -> None:
    assert kendall(column(*scores), column(*truth)) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("scores", "truth", "expected"),
    [
        ((1, 2, 3, 4), (1, 3, 2, 4), 1 - 6 * 2 / (4 * 15)),
        ((0.1, 50, 51, 1e9), (1, 2, 3, 4), 1.0),
        ((NAN, 1, 2), (9, 1, 2), -0.5),
        ((2, 2, 2), (1, 2, 3), NAN),
    ],
)
def test_spearman(scores: tuple[float, ...], truth: tuple[float, ...], expected: float) -> None:
    assert spearman(column(*scores), column(*truth)) == pytest.approx(expected, nan_ok=True)


class TestNdcg:
    #: Gains 7, 3, 1, 0.
    TRUTH = column(3, 2, 1, 0)

    def test_worst_order(self) -> None:
        ideal = 7 + 3 / math.log2(3)
        got = ndcg(column(1, 2, 3, 4), self.TRUTH, top=2)
        assert got == pytest.approx((0 + 1 / math.log2(3)) / ideal)

    def test_true_order(self) -> None:
        assert ndcg(self.TRUTH * 5, self.TRUTH, top=2) == pytest.approx(1.0)
        assert ndcg(self.TRUTH, self.TRUTH) == pytest.approx(1.0)

    def test_ties_share_their_mean_gain(self) -> None:
        ideal = 7 + 3 / math.log2(3)
        got = ndcg(column(0, 0, 0, 0), self.TRUTH, top=2)
        assert got == pytest.approx(11 / 4 * (1 + 1 / math.log2(3)) / ideal)

    def test_failed_come_last(self) -> None:
        assert ndcg(column(NAN, 3, 2, 1), self.TRUTH, top=1) == pytest.approx(3 / 7)

    def test_a_point_of_accuracy_doubles_the_gain(self) -> None:
        got = ndcg(column(1, 0), column(93.0, 94.0), top=1)
        assert got == pytest.approx(0.5, abs=1e-9)

    def test_nothing_to_gain(self) -> None:
        assert math.isnan(ndcg(column(1, 2), column(0, 0)))


def test_top_spearman_looks_at_the_truly_best() -> None:
    truth = np.arange(40.0)
    scores = truth.copy()
    scores[-4:] = scores[-4:][::-1]
    assert top_spearman(scores, truth) == pytest.approx(-1.0)
    assert spearman(scores, truth) > 0.99
    scores[:36] = 1e9  # what the score does elsewhere does not matter
    assert top_spearman(scores, truth) == pytest.approx(-1.0)
    assert math.isnan(top_spearman(column(1, 2), column(1, 2)))


def test_strata_are_fifths_or_thirds_and_keep_equal_sizes_together() -> None:
    assert np.bincount(strata(np.arange(200.0))).tolist() == [40] * 5
    assert np.bincount(strata(np.arange(30.0))).tolist() == [10] * 3
    few = strata(np.repeat(column(1, 2), 15))
    assert len(np.unique(few)) == 2
    assert len(np.unique(few[:15])) == 1


def test_stratified_kendall_is_blind_to_size() -> None:
    groups = np.repeat([0, 1], 3)
    size = np.repeat(column(0, 100), 3)
    truth = size + np.tile(column(1, 2, 3), 2)
    assert kendall(size, truth) > 0.7
    assert stratified_kendall(size, truth, groups) == 0.0
    assert stratified_kendall(truth, truth, groups) == pytest.approx(1.0)
    # τ 1 in the first stratum, −1/3 in the second: by their weights.
    scores = column(1, 2, 3, 2, 3, 1)
    assert stratified_kendall(scores, truth, groups) == pytest.approx((3 * 1 - 3 / 3) / 6)
    alone = np.array([0, 0, 0, 1, 2, 3])
    assert stratified_kendall(scores, truth, alone) == pytest.approx(1.0)
    assert math.isnan(stratified_kendall(scores, truth, np.arange(6)))


class TestPooledKendall:
    def test_pairs_count_alike(self) -> None:
        """Of a stratum of 2 the single pair agrees, of one of 4 four of six disagree."""
        strata_of = np.array([0, 0, 1, 1, 1, 1])
        truth = column(1, 2, 1, 2, 3, 4)
        scores = column(5, 6, 4, 2, 3, 1)  # inside the second: 1 pair agrees, 5 do not
        assert kendall(scores[2:], truth[2:]) == pytest.approx(-4 / 6)
        assert pooled_kendall(scores, truth, strata_of) == pytest.approx((1 - 4) / 7)
        # A mean of the strata's own gives the pair of two as much say as its candidates have.
        assert stratified_kendall(scores, truth, strata_of) == pytest.approx((2 - 4 * 4 / 6) / 6)

    def test_one_stratum_is_all_pairs(self) -> None:
        rng = np.random.default_rng(0)
        truth, scores = (rng.integers(0, 9, 50).astype(np.float64) for _ in range(2))
        scores[3] = NAN
        one = np.zeros(50, dtype=np.int64)
        assert pooled_kendall(scores, truth, one) == pytest.approx(kendall(scores, truth))

    def test_ties_by_hand(self) -> None:
        strata_of = np.array([0, 0, 0, 1, 1])
        truth, scores = column(1, 2, 2, 5, 6), column(1, 1, 2, 0, 7)
        # Pairs: tied in scores, agreeing, tied in truth; agreeing.
        expected = 2 / math.sqrt(3 * 3)
        assert pooled_kendall(scores, truth, strata_of) == pytest.approx(expected)

    def test_size_tells_nothing_inside(self) -> None:
        groups = np.repeat([0, 1], 3)
        truth = np.arange(6.0)
        assert math.isnan(pooled_kendall(np.repeat(column(0, 100), 3), truth, groups))
        assert math.isnan(pooled_kendall(truth, truth, np.arange(6)))
        # A stratum in which the scores tie still counts its pairs of different truths.
        half = pooled_kendall(column(1, 1, 1, 1, 2, 3), truth, groups)
        assert half == pytest.approx(3 / math.sqrt(3 * 6))


class TestPairAccuracy:
    def test_by_hand(self) -> None:
        sizes = column(100, 105, 200, 205, 400)  # two pairs of like size
        truth = column(1, 2, 5, 4, 9)
        assert pair_accuracy(column(0, 1, 0, 1, 0), truth, sizes) == (0.5, 2)
        assert pair_accuracy(column(0, 1, 1, 0, 0), truth, sizes) == (1.0, 2)
        assert pair_accuracy(column(0, 0, 1, 0, 0), truth, sizes) == (0.75, 2)
        assert pair_accuracy(column(NAN, 0, 0, NAN, 0), truth, sizes) == (1.0, 2)

    def test_equal_truths_are_no_pair(self) -> None:
        share, pairs = pair_accuracy(column(1, 2), column(3, 3), column(10, 10))
        assert math.isnan(share)
        assert pairs == 0

    def test_against_all_pairs(self) -> None:
        """Beyond a block, with ties of everything."""
        rng = np.random.default_rng(0)
        sizes = np.exp(rng.integers(0, 40, 600) * 0.05)
        truth = rng.integers(0, 9, 600).astype(np.float64)
        scores = rng.integers(0, 9, 600).astype(np.float64)
        i, j = np.triu_indices(600, 1)
        near = np.abs(np.log(sizes[i]) - np.log(sizes[j])) < EQUAL_SIZE
        near &= truth[i] != truth[j]
        agreement = np.sign(scores[i] - scores[j]) * np.sign(truth[i] - truth[j])
        expected = float(((agreement[near] + 1) / 2).mean())
        share, pairs = pair_accuracy(scores, truth, sizes)
        assert pairs == near.sum()
        assert share == pytest.approx(expected)


def test_regret() -> None:
    truth, costs = column(90, 80, 70, 60), column(4, 3, 2, 1)
    scores = column(0, 1, 2, 3)
    assert regret(scores, truth, costs, bound=4) == 30.0
    assert regret(scores, truth, costs, bound=2) == 10.0
    assert regret(scores, truth, costs, bound=1) == 0.0
    assert math.isnan(regret(scores, truth, costs, bound=0.5))
    assert regret(column(1, 1, 1, 1), truth, costs, bound=4) == 15.0  # the mean of what ties
    assert regret(column(NAN, NAN, 1, 0), truth, costs, bound=4) == 20.0


def test_agreement_between_seeds() -> None:
    a, b = column(1, 2, 3), column(1, 3, 2)
    assert agreement_between_seeds([a, b]) == pytest.approx(0.5)
    assert agreement_between_seeds([a, a, b]) == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert math.isnan(agreement_between_seeds([a]))
