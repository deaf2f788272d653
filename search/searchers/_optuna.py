"""What the searchers on Optuna's samplers share.

Akiba et al., "Optuna: A Next-generation Hyperparameter Optimization Framework", KDD 2019: a
study in memory, one parameter a gene, ask and tell. Nothing of it is stored: a resumed run
replays its asks and tells, and the study grows again to what it was. Optuna is imported where
a study is made, so that naming the searchers does not load it.
"""

from __future__ import annotations

import abc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from ...searchspace.architecture import Gene
from ...searchspace.space import Matrix, SearchSpace
from ..domain import Domain
from .base import Searcher

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import Trial

__all__ = ["GeneticOptunaSearcher", "OptunaSearcher"]

_VALID = "valid"


class OptunaSearcher(Searcher):
    """A searcher that asks an Optuna sampler.

    Every bound of the budget is a constraint of the study, ``cost / bound - 1`` (Optuna's:
    at most 0 is feasible), told with every trial. What the sampler suggests is

    - handed out, where it is feasible and new;
    - told back at once as an infeasible trial, where it breaks a bound or the space's rules;
    - told back as a failed one, which samplers overlook, where it is known already;

    and the sampler is asked again, at most :attr:`tries` times a row. What is then missing the
    domain's own sampler fills in, until objectives come in and the model has changed.
    """

    #: Asks of the sampler a row, on average over a group.
    tries: ClassVar[int] = 4
    #: Whether the sampler is told which genes' values have an order.
    ordered: ClassVar[bool] = True

    def __init__(self, domain: Domain, initial: Matrix, objectives: int, seed: int) -> None:
        super().__init__(domain, initial, objectives, seed)
        import optuna

        self._names = [f"{i}:{gene.name}" for i, gene in enumerate(domain.space.genes)]
        self._distributions = {
            name: _distribution(gene, self.ordered)
            for name, gene in zip(self._names, domain.space.genes, strict=True)
        }
        # Rows outside a space come up only where it restricts its genes' combinations.
        self._restricted = type(domain.space).valid is not SearchSpace.valid
        self._pending: dict[str, Trial] = {}
        self._told: set[str] = set()
        self._scored: list[tuple[Matrix, npt.NDArray[np.float64]]] = []
        self._dry = False
        with _quiet():
            # Optuna's samplers take seeds of 32 bits.
            sampler = self._sampler(int(self.rng.integers(2**32)))
            self._study = optuna.create_study(
                sampler=sampler, study_name="scholarch", directions=["minimize"] * objectives
            )

    @abc.abstractmethod
    def _sampler(self, seed: int) -> BaseSampler:
        """The sampler that is asked."""

    # ------------------------------------------------------------------ ask

    def propose(self, n: int) -> Matrix:
        rows: list[Matrix] = []
        # With nothing scored there is no model, and the domain's draws are all feasible.
        if self._scored and not self._dry:
            with _quiet():
                for _ in range(self.tries * n):
                    row = self._suggest()
                    if row is not None:
                        rows.append(row)
                    if len(rows) == n:
                        break
            self._dry = len(rows) < n
        filled = self.domain.sample(n - len(rows), self.rng)
        return np.concatenate([np.stack(rows), filled]) if rows else filled

    def _suggest(self) -> Matrix | None:
        """The sampler's next row, where it is feasible and new."""
        trial = self._study.ask(self._distributions)
        params = trial.params
        row = np.array([params[name] for name in self._names], dtype=np.int64)
        if not self.domain.feasible(row[None])[0]:
            self._refuse(trial, row)
            return None
        key = self.domain.space.keys(row[None])[0]
        if key in self._told or key in self._pending:
            self._finish(trial, row, None)
            return None
        self._pending[key] = trial
        return row

    def _refuse(self, trial: Trial, row: Matrix) -> None:
        """Tell an infeasible trial at once; the next suggestion already knows of it."""
        self._finish(trial, row, self._stand_in(row))

    # ------------------------------------------------------------------ tell

    def tell(self, rows: Matrix, objectives: npt.NDArray[np.float64]) -> None:
        with _quiet():
            for row, key, values in zip(
                rows, self.domain.space.keys(rows), objectives, strict=True
            ):
                if key in self._told:
                    continue
                self._told.add(key)
                known = values if np.isfinite(values).all() else None
                if known is not None:
                    self._scored.append((row, known))
                trial = self._pending.pop(key, None)
                if trial is not None:
                    self._finish(trial, row, known)
                else:
                    self._adopt(row, known)
        self._dry = False

    def _finish(self, trial: Trial, row: Matrix, values: npt.NDArray[np.float64] | None) -> None:
        """End a trial that was asked; without values it failed."""
        from optuna.trial import TrialState

        if values is None:
            self._study.tell(trial, state=TrialState.FAIL)
            return
        for name, excess in self._constraints(row).items():
            trial.set_constraint(name, excess)
        self._study.tell(trial, values.tolist())

    def _adopt(self, row: Matrix, values: npt.NDArray[np.float64] | None) -> None:
        """Add a row that the study was not asked for: the initial ones, and the driver's."""
        from optuna.trial import TrialState, create_trial

        self._study.add_trial(
            create_trial(
                state=TrialState.FAIL if values is None else TrialState.COMPLETE,
                values=None if values is None else values.tolist(),
                params=self._params(row),
                distributions=self._distributions,
                constraints=None if values is None else self._constraints(row),
            )
        )

    # ------------------------------------------------------------------ parts

    def _params(self, row: Matrix) -> dict[str, int]:
        return dict(zip(self._names, row.tolist(), strict=True))

    def _constraints(self, row: Matrix) -> dict[str, float]:
        """The same names for every row: Optuna's Gaussian process asks for that."""
        bounds = self.domain.budget.bounds
        valid = bool(self.domain.space.valid(row[None])[0])
        if valid:
            costs = self.domain.space.cost(row[None])
            excess = {name: float(costs[name][0]) / bound - 1.0 for name, bound in bounds.items()}
        else:
            excess = dict.fromkeys(bounds, 0.0)  # it has no costs
        if self._restricted:
            excess[_VALID] = -1.0 if valid else 1.0
        # A cost that is not known, such as a gap in a latency table, counts as exceeded.
        return {name: 1.0 if np.isnan(value) else value for name, value in excess.items()}

    def _stand_in(self, row: Matrix) -> npt.NDArray[np.float64]:
        """Objectives of a row that is never scored: those of the nearest row that was.

        Optuna wants numbers for a trial that only its constraints matter of. Its Gaussian
        process fits them all the same, and a neighbour's bend it least.
        """
        distances = (np.stack([known for known, _ in self._scored]) != row).sum(axis=1)
        return self._scored[int(distances.argmin())][1]


class GeneticOptunaSearcher(OptunaSearcher):
    """A searcher on one of Optuna's genetic samplers; a group is a generation.

    Their parents are picked when a generation's count of finished trials is full, whoever of
    it is still unfinished is never a parent: infeasible trials are therefore told after the
    group they came up in. Trials that were merely added belong to no generation either, so
    rows of other origin are queued and asked for like any other.
    """

    tries = 8
    population_size: ClassVar[int] = 32

    def __init__(self, domain: Domain, initial: Matrix, objectives: int, seed: int) -> None:
        super().__init__(domain, initial, objectives, seed)
        self._refused: list[tuple[Trial, Matrix]] = []

    def _refuse(self, trial: Trial, row: Matrix) -> None:
        self._refused.append((trial, row))

    def _adopt(self, row: Matrix, values: npt.NDArray[np.float64] | None) -> None:
        self._study.enqueue_trial(self._params(row))
        trial = self._study.ask(self._distributions)
        # A queued trial brings its own parameters, and Optuna samples none before one is asked
        # for; but it is by sampling that a trial enters a generation.
        _ = trial.relative_params
        self._finish(trial, row, values)

    def tell(self, rows: Matrix, objectives: npt.NDArray[np.float64]) -> None:
        super().tell(rows, objectives)
        with _quiet():
            for trial, row in self._refused:
                self._finish(trial, row, self._stand_in(row))
        self._refused = []


def _distribution(gene: Gene, ordered: bool) -> BaseDistribution:
    """Over indices of the gene's values.

    Values that rise or fall are amounts (widths, depths, kernels): as integers, neighbours
    lend each other evidence, and indices are evenly spaced where values may not be. Any other
    order says nothing, so that each value is a category of its own.
    """
    from optuna.distributions import CategoricalDistribution, IntDistribution

    rises = list(gene.values) in (sorted(gene.values), sorted(gene.values, reverse=True))
    if ordered and rises:
        return IntDistribution(0, len(gene.values) - 1)
    return CategoricalDistribution(range(len(gene.values)))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna's logger to errors; its level is the process's own, so it is put back."""
    import optuna  # noqa: F401  (sets the level on import)

    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
