"""The Gaussian process over ranks, and the columns it reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from scholarch.benchmarks.resnet_cifar_s0 import resnet_cifar_s0
from scholarch.search.calibration.features import Features
from scholarch.search.calibration.picks import quantile_picks
from scholarch.search.calibration.process import (
    LENGTHS,
    NOISES,
    RBF,
    SLOPE,
    WEIGHTS,
    RankProcess,
    agreement,
    matched,
)
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def tau(first: Floats, second: Floats) -> float:
    return float(stats.kendalltau(first, second).statistic)


def columns(rows: int, seed: int, features: int = 6) -> Floats:
    return np.random.default_rng(seed).normal(size=(rows, features))


def test_without_labels_the_mean_is_the_prior() -> None:
    none = np.zeros(0)
    process = RankProcess(none, np.zeros((0, 6)), none)
    prior = np.linspace(-2, 2, 9)
    mean, sd = process.predict(prior, columns(9, 0))
    assert mean.tolist() == prior.tolist()
    assert (sd > 0).all()


def test_labels_that_agree_change_nothing() -> None:
    prior = np.array([-1.5, -0.2, 0.1, 0.9])
    process = RankProcess(prior, columns(4, 0), np.array([0.1, 0.5, 0.52, 0.9]))
    new = np.linspace(-2, 2, 20)
    mean, _ = process.predict(new, columns(20, 1))
    assert mean == pytest.approx(new, abs=1e-12)


def test_ranks_alone_count() -> None:
    prior, x = columns(8, 2)[:, 0], columns(8, 3)
    accuracy = np.random.default_rng(4).uniform(0.3, 0.9, 8)
    new = columns(20, 5)
    one = RankProcess(prior, x, accuracy).predict(new[:, 0], new)
    other = RankProcess(prior, x, 100 * accuracy**3).predict(new[:, 0], new)
    assert one[0].tolist() == other[0].tolist()
    assert one[1].tolist() == other[1].tolist()


def test_accuracies_take_the_priors_places() -> None:
    prior = np.array([3.0, 1.0, 2.0, -1.0])
    assert matched(np.array([0.2, 0.9, 0.5, 0.4]), prior).tolist() == [-1.0, 3.0, 2.0, 1.0]
    # Equals share the middle of their places.
    assert matched(np.array([0.2, 0.9, 0.9, 0.4]), prior).tolist() == [-1.0, 2.5, 2.5, 1.0]
    assert matched(np.array([0.7]), np.array([0.3])).tolist() == [0.3]


def test_agreement_counts_pairs() -> None:
    assert agreement(np.array([1.0, 2, 3]), np.array([0.1, 0.2, 0.3])) == 3
    assert agreement(np.array([1.0, 2, 3]), np.array([0.3, 0.2, 0.1])) == -3
    assert agreement(np.array([1.0, 2, 3]), np.array([0.3, 0.3, 0.1])) == -2


def test_mean_variance_and_left_out_are_the_textbooks() -> None:
    """Against one model at a time in plain formulas, weighed by their evidence."""
    rng = np.random.default_rng(0)
    prior, x, accuracy = rng.normal(size=7), columns(7, 1), rng.uniform(size=7)
    p, z = rng.normal(size=3), columns(3, 2)
    target = matched(accuracy, prior)
    logs, means, seconds, outs = [], [], [], []
    for w in WEIGHTS:
        for length in LENGTHS if w else LENGTHS[:1]:

            def k(
                a: Floats, pa: float, b: Floats, pb: float, w: float = w, h: float = length
            ) -> float:
                rbf = np.exp(-np.mean((a - b) ** 2) / (2 * h * h))
                return float(w * (RBF * rbf + (1 - RBF) * np.mean(a * b)) + SLOPE * pa * pb + 1.0)

            for noise in NOISES:
                whole = np.array([[k(a, pa, b, pb) for b, pb in zip(x, prior, strict=True)]
                                  for a, pa in zip(x, prior, strict=True)])  # fmt: skip
                whole += noise * np.eye(7)
                cross = np.array([[k(a, pa, b, pb) for b, pb in zip(x, prior, strict=True)]
                                  for a, pa in zip(z, p, strict=True)])  # fmt: skip
                own = np.array([k(a, pa, a, pa) for a, pa in zip(z, p, strict=True)])
                inverse = np.linalg.inv(whole)
                residual = target - prior
                logs.append(
                    stats.multivariate_normal(np.zeros(7), whole).logpdf(residual)
                    - np.log(len(LENGTHS) if w else 1)
                )
                means.append(cross @ inverse @ residual)
                seconds.append(own - np.diag(cross @ inverse @ cross.T) + means[-1] ** 2)
                left = []
                for i in range(7):
                    rest = np.arange(7) != i
                    inner = np.linalg.inv(whole[np.ix_(rest, rest)])
                    left.append(whole[i, rest] @ inner @ residual[rest])
                outs.append(left)
    belief = np.exp(np.array(logs) - max(logs))
    belief /= belief.sum()
    process = RankProcess(prior, x, accuracy)
    mean, sd = process.predict(p, z)
    change = belief @ np.array(means)
    assert mean == pytest.approx(p + process.share * change, abs=1e-10)
    assert sd == pytest.approx(np.sqrt(belief @ np.array(seconds) - change**2), abs=1e-8)
    assert process.left_out == pytest.approx(
        prior + process.share * (belief @ np.array(outs)), abs=1e-10
    )


def test_uncertainty_falls_near_labels() -> None:
    x = columns(30, 6, 4)
    accuracy = x[:, 0] + 0.5 * x[:, 1]
    process = RankProcess(np.zeros(30) + 0.1 * x[:, 2], x, accuracy)
    _, near = process.predict(np.zeros(30), x)
    _, far = process.predict(np.zeros(30), 6 * columns(30, 7, 4))
    assert near.mean() < 0.7 * far.mean()


def test_what_the_prior_misses_is_learnt() -> None:
    rng = np.random.default_rng(8)
    x = rng.normal(size=(300, 5))
    truth = x[:, 0] + 1.2 * x[:, 1]
    prior = x[:, 0] + 0.2 * rng.normal(size=300)
    gains = []
    for seed in range(8):
        order = np.random.default_rng(seed).permutation(300)
        pool, held = order[:150], order[150:]
        at = pool[quantile_picks(prior[pool], 20, seed)]
        mean, _ = RankProcess(prior[at], x[at], truth[at]).predict(prior[held], x[held])
        gains.append(tau(mean, truth[held]) - tau(prior[held], truth[held]))
    assert np.mean(gains) > 0.15
    assert min(gains) > 0.0


@pytest.mark.parametrize("count", [5, 10, 20])
def test_useless_columns_never_cost_more_than_the_interval(count: int) -> None:
    """Labels that nothing but the prior explains: 20 draws, the paired 95 % interval."""
    gains = []
    for seed in range(20):
        rng = np.random.default_rng([seed, 1])
        x = rng.normal(size=(300, 40))
        prior = rng.normal(size=300)
        truth = prior + 0.5 * rng.normal(size=300)  # τ about .7
        at = quantile_picks(prior[:150], count, seed)
        mean, _ = RankProcess(prior[at], x[at], truth[at]).predict(prior[150:], x[150:])
        gains.append(tau(mean, truth[150:]) - tau(prior[150:], truth[150:]))
    half = stats.t.ppf(0.975, 19) * np.std(gains, ddof=1) / np.sqrt(20)
    assert np.mean(gains) >= -max(half, 0.005)
    assert min(gains) > -0.06


def test_picks_are_one_a_quantile() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=103)
    scores[[5, 50]] = np.nan
    places = quantile_picks(scores, 10, 3)
    assert len(set(places.tolist())) == 10
    ranked = np.argsort(np.argsort(np.delete(scores, [5, 50])))
    back = {int(i): k for k, i in enumerate(np.delete(np.arange(103), [5, 50]))}
    tenths = [ranked[back[int(i)]] * 10 // 101 for i in places]
    assert tenths == sorted(tenths)
    assert max(abs(t - k) for k, t in enumerate(tenths)) <= 1
    assert places.tolist() == quantile_picks(scores, 10, 3).tolist()
    assert places.tolist() != quantile_picks(scores, 10, 4).tolist()
    assert len(quantile_picks(scores, 101, 0)) == 101
    for count, words in ((2, "at least 3"), (102, "scored 101 candidates"), (True, "at least 3")):
        with pytest.raises(InvalidInputError, match=words):
            quantile_picks(scores, count, 0)


def test_features_weigh_their_blocks_alike() -> None:
    space = create_space("nasbench201")
    rows = space.canonical(space.sample_matrix(200, 0))
    rng = np.random.default_rng(0)
    scores = rng.normal(size=200)
    scores[7] = np.nan
    proxies = {"a": rng.normal(size=200), "dead": np.full(200, np.nan)}
    proxies["a"][3] = np.nan
    features = Features(space, rows, scores, proxies)
    found = features(rows, proxies)
    assert np.isfinite(found).all()
    # Genes, sizes, one proxy: a third each of the mean square.
    assert np.mean(found**2) == pytest.approx(1.0, abs=0.05)
    assert np.mean(found[:, -1] ** 2) == pytest.approx(found.shape[1] / 3, rel=0.1)
    assert np.mean(found[:, -4:-1] ** 2) * 3 == pytest.approx(found.shape[1] / 3, rel=0.1)
    prior = features.prior(scores)
    assert np.isnan(prior[7])
    fine = np.isfinite(scores)
    assert tau(prior[fine], scores[fine]) == pytest.approx(1.0)
    assert abs(prior[fine].mean()) < 0.05
    assert prior[fine].std() == pytest.approx(1.0, abs=0.1)
    # Of isomorphic cells the columns are the same.
    twin = space.sample_matrix(50, 1)
    one = {"a": np.zeros(50), "dead": np.zeros(50)}
    assert features(twin, one).tolist() == features(space.canonical(twin), one).tolist()


def test_twenty_labels_help_on_distilled_truth(data_dir: Path) -> None:
    """DisWOT's S0 by MACs alone, ResNets distilled on CIFAR-100: nothing was chosen on these."""
    space = create_space("resnet-cifar-s0", num_classes=100)
    table = resnet_cifar_s0(data_dir)
    rows = space.encode([space.parse(text) for text in table.archs])
    truth = table.truths["kd_acc"]
    prior = space.cost(rows)["macs"]
    gains = []
    for seed in range(8):
        order = np.random.default_rng(seed).permutation(64)
        pool, held = order[:32], order[32:]
        features = Features(space, rows[pool], prior[pool], {})
        at = pool[quantile_picks(prior[pool], 20, seed)]
        process = RankProcess(features.prior(prior[at]), features(rows[at], {}), truth[at])
        mean, _ = process.predict(features.prior(prior[held]), features(rows[held], {}))
        gains.append(tau(mean, truth[held]) - tau(prior[held], truth[held]))
    assert np.mean(gains) > 0.08
    assert min(gains) > 0.0
