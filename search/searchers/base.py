"""What a searcher is.

A new searcher is one file: a subclass of :class:`Searcher` under :func:`register_searcher`,
and its module's name in ``_MODULES``. The driver owns everything else: the budget, duplicates,
the store, and stopping.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from importlib import import_module
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from ...searchspace.errors import InvalidInputError
from ...searchspace.plugins import load_entry_points
from ...searchspace.registry import Registry
from ...searchspace.space import Matrix
from ..domain import Domain

__all__ = ["Searcher", "create_searcher", "list_searchers", "register_searcher"]

_MODULES = (
    "random",
    "nsga2",
    "regularized_evolution",
    "tpe",
    "gp",
    "optuna_nsga2",
    "optuna_nsga3",
)


class Searcher(abc.ABC):
    """Proposes rows of a domain and learns from their objectives.

    The driver calls :meth:`ask`, scores what is new, and calls :meth:`tell` with everything
    asked that has objectives, scored or remembered. Rows outside the domain are dropped.
    The same calls give the same answers: runs are resumed by replaying them.

    Args:
        domain: where to look.
        initial: rows to ask for first, ``[M, genes]``; already scored, so free.
        objectives: how many numbers :meth:`tell` is given a row.
        seed: of the searcher's own generator.
    """

    #: Rows asked at a time: the group that is scored and stored whole.
    group_size: ClassVar[int] = 32
    #: Evaluations a run may ask for, where the searcher's own work would outgrow scoring.
    max_evaluations: ClassVar[int | None] = None

    def __init__(self, domain: Domain, initial: Matrix, objectives: int, seed: int) -> None:
        self.domain = domain
        self.objectives = objectives
        self.rng = np.random.default_rng([seed, 0x5E])
        self._initial = initial

    def ask(self, n: int) -> Matrix:
        """Up to ``n`` rows, ``[≤ n, genes]``; the initial ones first."""
        if len(self._initial):
            rows, self._initial = self._initial[:n], self._initial[n:]
            return rows
        return self.propose(n)

    @abc.abstractmethod
    def propose(self, n: int) -> Matrix:
        """Up to ``n`` new rows, once the initial ones are used up."""

    @abc.abstractmethod
    def tell(self, rows: Matrix, objectives: npt.NDArray[np.float64]) -> None:
        """Learn the objectives of rows.

        Args:
            rows: ``[N, genes]``.
            objectives: ``[N, objectives]``, all to be minimised; a row of NaN failed.
        """


SearcherFactory = Callable[[Domain, Matrix, int, int], Searcher]
_SEARCHERS: Registry[SearcherFactory] = Registry("searcher")


def register_searcher(name: str) -> Callable[[type[Searcher]], type[Searcher]]:
    """Register a searcher's class under ``name``."""

    def register(searcher: type[Searcher]) -> type[Searcher]:
        _SEARCHERS.add(name, searcher)
        return searcher

    return register


def _load() -> None:
    for module in _MODULES:
        import_module(f".{module}", __package__)
    load_entry_points()


def create_searcher(
    name: str, domain: Domain, initial: Matrix, objectives: int, seed: int
) -> Searcher:
    """Make a registered searcher; raises ``UnknownNameError`` for an unknown name."""
    return searcher_class(name)(domain, initial, objectives, seed)


def evaluation_limit(name: str) -> int | None:
    """The most evaluations a searcher takes; raises ``UnknownNameError``."""
    limit: int | None = getattr(searcher_class(name), "max_evaluations", None)
    return limit


def searcher_class(name: str) -> SearcherFactory:
    """What is registered under a name; raises ``UnknownNameError`` for an unknown one."""
    _load()
    return _SEARCHERS[name]


def check_searcher(name: str, evaluations: int) -> None:
    """Refuse an unknown searcher, or more evaluations than one is made for.

    Raises:
        UnknownNameError: if no searcher has that name.
        InvalidInputError: if ``evaluations`` exceed the searcher's limit.
    """
    most = evaluation_limit(name)
    if most is not None and evaluations > most:
        raise InvalidInputError(
            f"searcher {name!r} is made for at most {most} evaluations, its own work outgrows"
            f" scoring beyond; ask for fewer than {evaluations}, or take another searcher"
        )


def list_searchers(pattern: str = "*") -> list[str]:
    """Names of the registered searchers that match a shell pattern."""
    _load()
    return _SEARCHERS.names(pattern)


def describe_searcher(name: str) -> str:
    """First line of the searcher's docstring; raises ``UnknownNameError``."""
    return (searcher_class(name).__doc__ or "").strip().split("\n")[0].rstrip(".")
