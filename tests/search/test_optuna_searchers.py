"""What the searchers on Optuna's samplers owe beyond what every searcher does."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import optuna
import pytest
import torch
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from scholarch.search.budget import Budget
from scholarch.search.domain import Domain
from scholarch.search.searchers import _optuna
from scholarch.search.searchers._optuna import GeneticOptunaSearcher, OptunaSearcher
from scholarch.search.searchers.base import create_searcher, evaluation_limit, list_searchers
from scholarch.searchspace.architecture import Gene
from scholarch.searchspace.convnets.resnet_cifar import CifarResNetSpace
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.space import Matrix

SPACE = create_space("resnet-cifar")
BOUNDS = {"macs": 30e6, "params": 300_000}
TIGHT = Domain(SPACE, Budget({"macs": 9e6}))
WIDE = Domain(SPACE, Budget({}))
QUICK = ["optuna-nsga2", "optuna-nsga3", "tpe"]
ALL = ["gp", *QUICK]

Objectives = npt.NDArray[np.float64]


def objectives(rows: Matrix) -> Objectives:
    """Rewards wide late stages, against MACs."""
    score = rows @ np.arange(rows.shape[1]) / 3.0
    return np.stack([-score, SPACE.cost(rows)["macs"]], axis=1)


def make(name: str, domain: Domain = TIGHT, seed: int = 0, initial: int = 24) -> OptunaSearcher:
    rows, _ = domain.unseen(initial, (), np.random.default_rng(seed))
    searcher = create_searcher(name, domain, rows, 2, seed)
    assert isinstance(searcher, OptunaSearcher)
    return searcher


def step(searcher: OptunaSearcher, n: int | None = None) -> Matrix:
    rows = searcher.ask(n or searcher.group_size)
    searcher.tell(rows, objectives(rows))
    return rows


def started(name: str, domain: Domain = TIGHT, seed: int = 0, initial: int = 24) -> OptunaSearcher:
    searcher = make(name, domain, seed, initial)
    while len(searcher._initial):
        step(searcher)
    return searcher


def trials(searcher: OptunaSearcher) -> list[FrozenTrial]:
    return searcher._study.get_trials(deepcopy=False)


def matrix(found: list[FrozenTrial]) -> Matrix:
    return np.array([list(trial.params.values()) for trial in found], dtype=np.int64)


def infeasible(trial: FrozenTrial) -> bool:
    return any(value > 0.0 for value in trial.constraints.values())


def test_the_gaussian_process_has_a_limit() -> None:
    assert set(ALL) <= set(list_searchers())
    assert evaluation_limit("gp") == 100
    assert {name: evaluation_limit(name) for name in QUICK} == dict.fromkeys(QUICK)


def test_naming_them_does_not_load_optuna() -> None:
    code = (
        "import sys; from scholarch.search.searchers.base import list_searchers, describe_searcher;"
        "[describe_searcher(name) for name in list_searchers()]; sys.exit('optuna' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ALL)
def test_initial_rows_are_told_as_finished_trials(name: str) -> None:
    searcher = make(name)
    rows = np.concatenate([step(searcher, 10), step(searcher, 20)])
    known = trials(searcher)
    assert {trial.state for trial in known} == {TrialState.COMPLETE}
    distinct = {row.tobytes(): values for row, values in zip(rows, objectives(rows), strict=True)}
    assert {row.tobytes() for row in matrix(known)} == set(distinct)
    for trial, row in zip(known, matrix(known), strict=True):
        assert trial.values == distinct[row.tobytes()].tolist()


@pytest.mark.parametrize("name", ["optuna-nsga2", "optuna-nsga3"])
def test_initial_rows_found_a_generation(name: str) -> None:
    """Added trials would belong to none, and two groups would be asked at random first."""
    searcher = started(name, initial=64)
    step(searcher)
    sampler = searcher._study.sampler
    assert isinstance(sampler, optuna.samplers.BaseGASampler)
    generations = [sampler.get_trial_generation(searcher._study, t) for t in trials(searcher)]
    assert generations == sorted(generations)
    assert set(generations) == {0, 1, 2}
    parents = sampler.get_parent_population(searcher._study, 2)
    assert len(parents) == GeneticOptunaSearcher.population_size
    assert {parent.number for parent in parents} <= {i for i, g in enumerate(generations) if g < 2}


@pytest.mark.parametrize("name", ALL)
def test_the_budget_becomes_constraints(name: str) -> None:
    domain = Domain(SPACE, Budget(BOUNDS))
    searcher = started(name, domain)
    for n in (1,) if name == "gp" else (8, 8, 8):
        step(searcher, n)
    told = [trial for trial in trials(searcher) if trial.state is TrialState.COMPLETE]
    costs = SPACE.cost(matrix(told))
    for i, trial in enumerate(told):
        expected = {key: costs[key][i] / bound - 1.0 for key, bound in BOUNDS.items()}
        assert trial.constraints == pytest.approx(expected)


@pytest.mark.parametrize("name", QUICK)
def test_what_breaks_the_budget_is_told_and_never_asked(name: str) -> None:
    searcher = started(name)
    asked = np.concatenate([step(searcher, 8) for _ in range(4)])
    assert TIGHT.feasible(asked).all()
    broken = [trial for trial in trials(searcher) if infeasible(trial)]
    assert broken
    assert not TIGHT.feasible(matrix(broken)).any()
    assert {trial.state for trial in broken} == {TrialState.COMPLETE}
    seen = {tuple(values.tolist()) for values in objectives(asked)}
    seen |= {tuple(t.values) for t in trials(searcher) if t.values and not infeasible(t)}
    assert all(tuple(trial.values) in seen for trial in broken)  # a neighbour's objectives


def test_the_gaussian_process_takes_infeasible_trials() -> None:
    searcher = started("gp", Domain(SPACE, Budget(BOUNDS)))
    trial = searcher._study.ask(searcher._distributions)
    searcher._refuse(trial, matrix([searcher._study.get_trials()[-1]])[0] * 0 + 1)
    assert len(step(searcher, 1)) == 1


class Paired(CifarResNetSpace):
    """ResNets whose first two genes are not both at their end."""

    def valid(self, matrix: Matrix) -> npt.NDArray[np.bool_]:
        ends = np.array([len(gene.values) - 1 for gene in self.genes[:2]])
        return super().valid(matrix) & ~(matrix[:, :2] == ends).all(axis=1)


def paired() -> Paired:
    space = create_space("resnet-cifar")
    space.__class__ = Paired
    assert isinstance(space, Paired)
    return space


@pytest.mark.parametrize("name", QUICK)
def test_rows_outside_the_space_break_a_constraint(name: str) -> None:
    domain = Domain(paired(), Budget({"macs": 60e6}))
    searcher = started(name, domain)
    rows = np.concatenate([step(searcher) for _ in range(6)])
    assert domain.space.valid(rows).all()
    found = [trial for trial in trials(searcher) if trial.state is TrialState.COMPLETE]
    assert all(set(trial.constraints) == {"macs", "valid"} for trial in found)
    valid = domain.space.valid(matrix(found))
    assert [trial.constraints["valid"] for trial in found] == np.where(valid, -1, 1).tolist()


@pytest.mark.parametrize("name", QUICK)
def test_a_row_that_failed_is_a_failed_trial(name: str) -> None:
    searcher = started(name, WIDE)
    rows = searcher.ask(4)
    values = objectives(rows)
    values[:2, 0] = np.nan, np.inf
    searcher.tell(rows, values)
    all_ = trials(searcher)
    by_row = {row.tobytes(): t for row, t in zip(matrix(all_), all_, strict=True)}
    states = [by_row[row.tobytes()].state for row in rows]
    assert states == [TrialState.FAIL] * 2 + [TrialState.COMPLETE] * 2


@pytest.mark.parametrize("name", ALL)
def test_nothing_but_failures_leaves_the_domain_s_draws(name: str) -> None:
    searcher = make(name)
    for _ in range(8):
        rows = searcher.ask(searcher.group_size)
        searcher.tell(rows, np.full((len(rows), 2), np.nan))
    assert len(rows) == searcher.group_size
    assert TIGHT.feasible(rows).all()
    assert {trial.state for trial in trials(searcher)} == {TrialState.FAIL}


@pytest.mark.parametrize("name", QUICK)
def test_the_study_is_rebuilt_by_replay(name: str) -> None:
    first = started(name, seed=3)
    asked = [step(first, 12) for _ in range(3)]
    again = started(name, seed=3)
    for rows in asked:
        np.testing.assert_array_equal(step(again, 12), rows)
    assert [(t.params, t.values, t.constraints) for t in trials(first)] == [
        (t.params, t.values, t.constraints) for t in trials(again)
    ]
    other = started(name, seed=2**40 + 3)
    assert any((step(other, 12) != rows).any() for rows in asked)


def test_the_gaussian_process_is_rebuilt_by_replay() -> None:
    first, again = started("gp", seed=3), started("gp", seed=3)
    np.testing.assert_array_equal(step(first, 2), step(again, 2))


@pytest.mark.parametrize("name", QUICK)
def test_a_sampler_that_repeats_itself_gives_way_to_draws(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    searcher = started(name)
    asks = 0
    stuck = dict(trials(searcher)[0].params)
    ask = searcher._study.ask

    def repeat(distributions: dict[str, optuna.distributions.BaseDistribution]) -> optuna.Trial:
        nonlocal asks
        asks += 1
        searcher._study.enqueue_trial(stuck)
        return ask(distributions)

    monkeypatch.setattr(searcher._study, "ask", repeat)
    for _ in range(20):  # as the driver asks while nothing is new
        rows = searcher.ask(8)
        assert len(rows) == 8
        assert TIGHT.feasible(rows).all()
    assert asks == 8 * searcher.tries  # once, not 20 times
    searcher.tell(rows, objectives(rows))
    before = asks
    searcher.ask(8)
    assert asks == before + 8 * searcher.tries


@pytest.mark.parametrize("name", QUICK)
def test_no_row_twice(name: str) -> None:
    searcher = started(name, WIDE)
    first = searcher.ask(8)
    second = searcher.ask(8)  # untold: what is pending is known as well
    searcher.tell(first, objectives(first))
    third = searcher.ask(8)
    keys = SPACE.keys(np.concatenate([first, second, third]))
    assert len(set(keys)) == 24
    before = len(trials(searcher))
    searcher.tell(first, objectives(first))
    assert len(trials(searcher)) == before


@pytest.fixture
def verbosity() -> Iterator[int]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    yield optuna.logging.DEBUG
    optuna.logging.set_verbosity(before)


@pytest.mark.parametrize("name", ALL)
def test_optuna_is_silent_and_nothing_global_moves(
    name: str, verbosity: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """The global generators are watched around every test."""
    threads, kind = torch.get_num_threads(), torch.get_default_dtype()
    searcher = started(name)
    step(searcher, 1)
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, kind)
    assert optuna.logging.get_verbosity() == verbosity
    captured = capfd.readouterr()
    assert captured.err == captured.out == ""


def test_the_logger_is_put_back_after_an_error(verbosity: int) -> None:
    def fail() -> None:
        with _optuna._quiet():
            assert logging.getLogger("optuna").level == logging.ERROR
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert optuna.logging.get_verbosity() == verbosity


def test_genes_as_optuna_s_distributions() -> None:
    rising, mixed = Gene("width", (8, 16, 64)), Gene("op", (2, 0, 1))
    assert _optuna._distribution(rising, True) == IntDistribution(0, 2)
    assert _optuna._distribution(rising, False) == CategoricalDistribution((0, 1, 2))
    assert _optuna._distribution(mixed, True) == CategoricalDistribution((0, 1, 2))
    assert _optuna._distribution(Gene("kernel", (7, 5, 3)), True) == IntDistribution(0, 2)
