"""Predictors of an architecture's targets, their codes, and designs of what to evaluate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.registry import Registry
from scholarch.searchspace.space import Matrix, SearchSpace
from scholarch.supernet import predictor, regressors
from scholarch.supernet.encoding import BINS, Encoder, design, encode
from scholarch.supernet.predictor import Predictor, cross_validate
from scholarch.supernet.regressors import KINDS, Regressor

Floats = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return create_space("mobilenetv3", num_classes=10)


def truth(space: SearchSpace, matrix: Matrix) -> Floats:
    """Accuracy and robustness as they might be: saturating in cost, and of the genes."""
    canonical = space.canonical(matrix)
    macs = np.log(space.cost(matrix)["macs"])
    weights = np.random.default_rng(5).uniform(-1, 1, (2, canonical.shape[1]))
    genes = canonical @ weights.T
    return np.stack([70 + 8 * np.tanh(2 * (macs - 19.2)), 30 - 4 * macs], axis=1) + 0.4 * genes


@pytest.fixture(scope="module")
def rows(space: SearchSpace) -> Matrix:
    return space.sample_matrix(300, 1)


def ranks_agree(found: Floats, true: Floats) -> list[float]:
    order = [np.argsort(np.argsort(each, axis=0), axis=0) for each in (found, true)]
    return [float(np.corrcoef(a, b)[0, 1]) for a, b in zip(order[0].T, order[1].T, strict=True)]


# ---------------------------------------------------------------------- codes


def test_one_column_for_each_value_that_has_an_effect(space: SearchSpace) -> None:
    text = '{"ks": 7, "e": 6, "d": [2, 3, 4, 2, 2]}'
    encoder = Encoder(space)
    code = encoder(space.encode([space.parse(text)]))[0]
    ones = [name for name, value in zip(encoder.names, code, strict=True) if value == 1]
    # A depth a stage, a kernel and a ratio for each of the 13 blocks that are there.
    assert len(ones) == 5 + 2 * 13
    assert {"depth1=2", "depth3=4", "kernel1.2=7", "expand1.2=6"} <= set(ones)
    assert not any(name.startswith(("kernel1.3", "expand1.4", "kernel5.3")) for name in ones)
    # 5 depths, 20 kernels and 20 ratios of three values; three costs.
    assert code.shape == (3 * 45 + 3,)


def test_costs_are_normalised(space: SearchSpace, rows: Matrix) -> None:
    costs = encode(space, rows)[:, -3:]
    assert np.abs(costs.mean(axis=0)).max() < 0.2
    assert np.abs(costs.std(axis=0) - 1).max() < 0.2
    assert ranks_agree(costs[:, 1:2], space.cost(rows)["macs"][:, None]) == [pytest.approx(1)]


@pytest.mark.parametrize("name", ["mobilenetv3", "resnet50", "nasbench201", "vitbench-pit"])
def test_one_network_has_one_code(name: str) -> None:
    space = create_space(name)
    rows = space.sample_matrix(400, 0)
    rows = np.concatenate([rows, space.mutate(rows, np.random.default_rng(0))])
    codes, canonical = encode(space, rows), space.canonical(rows)
    assert np.array_equal(codes, encode(space, canonical))
    assert len(np.unique(codes, axis=0)) == len(np.unique(canonical, axis=0))


def test_rows_of_another_space_are_refused(space: SearchSpace) -> None:
    with pytest.raises(InvalidInputError, match=r"shape \(2, 3\).*need \[N, 45\]"):
        encode(space, np.zeros((2, 3), dtype=np.int64))
    with pytest.raises(InvalidInputError, match="are not in space 'mobilenetv3'"):
        encode(space, np.full((1, 45), 9))


# ---------------------------------------------------------------------- predictors


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_learns(kind: str, space: SearchSpace, rows: Matrix) -> None:
    targets = truth(space, rows)
    model = Predictor(space, kind).fit(rows[:150], targets[:150])
    found = model.predict(rows[150:])
    assert found.shape == (150, 2)
    # A guess at the mean ranks nothing and is off by far more.
    least = 0.75 if kind == "forest" else 0.85
    assert min(ranks_agree(found, targets[150:])) > least
    off = np.abs(found - targets[150:]).mean(axis=0)
    guess = np.abs(targets[:150].mean(axis=0) - targets[150:]).mean(axis=0)
    assert (off < 0.8 * guess).all()
    spread = model.uncertainty(rows)
    assert spread.shape == (300, 2)
    assert (spread > 0).all()
    # It has seen the first half.
    assert (spread[:150].mean(axis=0) < spread[150:].mean(axis=0)).all()


@pytest.mark.parametrize("kind", list(KINDS))
def test_units_do_not_matter_and_seeds_repeat(kind: str, space: SearchSpace, rows: Matrix) -> None:
    few, targets = rows[:40], truth(space, rows[:40])
    state = np.random.get_state()[1]  # noqa: NPY002 (that it is left alone)
    model = Predictor(space, kind, seed=3).fit(few, targets)
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    again = Predictor(space, kind, seed=3).fit(few, targets)
    assert np.array_equal(model.predict(rows), again.predict(rows))
    scaled = Predictor(space, kind, seed=3).fit(few, 0.01 * targets - 7)
    np.testing.assert_allclose(scaled.predict(rows), 0.01 * model.predict(rows) - 7, rtol=1e-3)
    single = Predictor(space, kind, seed=3).fit(few, targets[:, 1])
    np.testing.assert_allclose(single.predict(rows)[:, 0], model.predict(rows)[:, 1], rtol=1e-2)


class Mean:
    """Predicts the mean of what it was given."""

    def __init__(self, seed: int) -> None:
        self.mean = float(seed)

    def fit(self, x: Floats, y: Floats) -> None:
        self.mean = float(y.mean())

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        return np.full(len(x), self.mean), np.ones(len(x))


def kinds_of(**factories: Callable[[int], Regressor]) -> Registry[Callable[[int], Regressor]]:
    registry: Registry[Callable[[int], Regressor]] = Registry("predictor")
    for name, factory in factories.items():
        registry.add(name, factory)
    return registry


def test_auto_takes_the_best_in_cross_validation(
    space: SearchSpace, rows: Matrix, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor, "KINDS", kinds_of(a_mean=Mean, ridge=KINDS["ridge"]))
    targets = truth(space, rows)
    model = Predictor(space).fit(rows[:100], targets[:100])
    assert model.fitted_kind == "ridge"
    assert [score.kind for score in model.scores] == ["ridge", "a_mean"]
    assert model.scores[0] == cross_validate(space, rows[:100], targets[:100], "ridge")
    assert min(model.scores[0].spearman) > 0.7
    mean_off = np.abs(targets[:100] - targets[:100].mean(axis=0)).mean(axis=0)
    assert model.scores[1].mae == pytest.approx(mean_off, rel=0.1)


def test_all_kinds_are_tried(space: SearchSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regressors, "HIDDEN", (8,))
    rows = space.sample_matrix(30, 0)
    targets = truth(space, rows)[:, 0]
    tried = {score.kind for score in Predictor(space).fit(rows, targets).scores}
    assert tried == set(KINDS)
    monkeypatch.setattr(predictor, "MAX_GP_ROWS", 29)
    tried = {score.kind for score in Predictor(space).fit(rows, targets).scores}
    assert tried == set(KINDS) - {"gp"}


def test_held_out_networks_are_never_seen(
    space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every network is held out once, with all of its rows."""
    rows = np.repeat(space.sample_matrix(50, 0), 2, axis=0)
    targets = np.arange(100.0) // 2
    unseen: list[set[float]] = []

    class Spy(Mean):
        def fit(self, x: Floats, y: Floats) -> None:
            super().fit(x, y)
            assert len(x) == 80
            assert len(np.unique(y)) == 40  # both rows of a network, or none
            unseen.append({float(v) for v in x[:, 0]})

        def predict(self, x: Floats) -> tuple[Floats, Floats]:
            assert len(x) == 20
            return super().predict(x)

    monkeypatch.setattr(predictor, "KINDS", kinds_of(spy=Spy))
    cross_validate(space, rows, targets, "spy")
    assert len(unseen) == 5


@pytest.mark.parametrize("kind", ["ridge", "forest"])
def test_noise_is_not_predicted(kind: str, space: SearchSpace, rows: Matrix) -> None:
    noise = np.random.default_rng(2).normal(size=300)
    score = cross_validate(space, rows, noise, kind)
    assert abs(score.spearman[0]) < 0.2


def test_misuse_is_refused(space: SearchSpace, rows: Matrix) -> None:
    targets = truth(space, rows)
    with pytest.raises(InvalidInputError, match="unknown predictor 'mpl'; did you mean mlp"):
        Predictor(space, "mpl")
    with pytest.raises(InvalidInputError, match="unknown predictor 'auto'"):
        cross_validate(space, rows, targets, "auto")
    for ask in (Predictor(space).predict, Predictor(space).uncertainty):
        with pytest.raises(InvalidInputError, match="call fit first"):
            ask(rows)
    fit = Predictor(space, "ridge").fit
    with pytest.raises(InvalidInputError, match="19 different networks.*at least 20"):
        fit(rows[:19], targets[:19])
    with pytest.raises(InvalidInputError, match="10 different networks"):
        fit(rows[:10].repeat(5, axis=0), targets[:10].repeat(5, axis=0))
    with pytest.raises(InvalidInputError, match=r"\[299, 2\] for 300 .*\[300, T\]"):
        fit(rows, targets[1:])
    broken = targets.copy()
    broken[7, 1] = np.nan
    with pytest.raises(InvalidInputError, match="1 of 300 rows.*row 7"):
        fit(rows, broken)
    broken[:, 1] = 0.25
    with pytest.raises(InvalidInputError, match="target 1 is 0.25 in every row"):
        fit(rows, broken)


# ---------------------------------------------------------------------- designs


def log_macs(space: SearchSpace, rows: Matrix) -> Floats:
    return np.log(space.cost(rows)["macs"])


@pytest.mark.parametrize("name", ["mobilenetv3", "resnet50", "nasbench201", "resnet-cifar"])
def test_a_stratified_design_is_wider_than_a_uniform_one(name: str) -> None:
    space = create_space(name)
    wide, plain = (design(space, 60, 0, how) for how in ("stratified", "uniform"))
    for rows in (wide, plain):
        assert space.valid(rows).all()
        assert len(set(space.keys(rows))) == 60
    costs, usual = log_macs(space, wide), log_macs(space, plain)
    assert costs.std() > 1.3 * usual.std()
    assert costs.min() <= usual.min()
    assert costs.max() >= usual.max()
    # Equal shares, up to what a bin lacks.
    counts, _ = np.histogram(costs, BINS)
    assert counts.max() <= 9
    assert np.array_equal(wide, design(space, 60, 0))
    assert not np.array_equal(wide, design(space, 60, 1))


def test_bins_choose_what_is_far_apart() -> None:
    space = create_space("compofa")
    every = space.enumerate_matrix()
    costs = log_macs(space, every)
    edges = np.linspace(costs.min(), costs.max(), BINS + 1)[1:-1]

    def closest(rows: Matrix) -> float:
        codes = encode(space, rows)
        gaps = np.linalg.norm(codes[:, None] - codes[None], axis=2)
        return float((gaps + 1e9 * np.eye(len(rows))).min(axis=1).mean())

    chosen = design(space, 30, 0)
    bins, rng = np.searchsorted(edges, costs, "right"), np.random.default_rng(0)
    shares = np.bincount(np.searchsorted(edges, log_macs(space, chosen), "right"), minlength=BINS)
    # The first bin has two networks; the next gives one more.
    assert np.bincount(bins)[0] == 2
    assert shares.tolist() == [2, 4, 3, 3, 3, 3, 3, 3, 3, 3]
    drawn = []
    for _ in range(20):
        picks = [rng.choice(np.flatnonzero(bins == b), k, False) for b, k in enumerate(shares)]
        drawn.append(every[np.concatenate(picks)])
    assert closest(chosen) > max(closest(rows) for rows in drawn)
    # The two ends of the space are among them.
    assert log_macs(space, chosen).min() == costs.min()
    assert log_macs(space, chosen).max() == costs.max()


def test_designs_of_few_and_of_all() -> None:
    space = create_space("compofa")
    costs = log_macs(space, design(space, 2, 0))
    assert np.ptp(costs) == np.ptp(log_macs(space, space.enumerate_matrix()))
    assert len(set(space.keys(design(space, 243, 0)))) == 243
    for n in (0, -1, True, 2.0):
        with pytest.raises(InvalidInputError, match=f"cannot choose {n} networks.*from 1"):
            design(space, n)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="cannot choose 244.*243 different"):
        design(space, 244)
    with pytest.raises(InvalidInputError, match="unknown design 'grid'; known: stratified, unif"):
        design(space, 10, how="grid")
