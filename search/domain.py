"""Where a searcher may look: a space inside a budget."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from ..searchspace.errors import InvalidInputError
from ..searchspace.space import Matrix, SearchSpace
from .budget import Budget, candidate_rows

__all__ = ["Domain"]

_CHUNK = 8192
_CHUNKS = 24
_ENOUGH = 64
_POPULATION = 512
_ROUNDS = 200
_WALK = 64


class Domain:
    """Architectures of a space that meet a budget.

    Up to 200,000 architectures, or those that a latency table knows, are listed, so that
    sampling is exactly uniform and exhaustion certain. In larger spaces rows are drawn and
    rejected; where almost none is feasible, feasible ones are found by descending the violation
    and spread by random walks that stay feasible.

    Args:
        space: the space.
        budget: the bounds.
        seed: of the search for a first feasible row.

    Raises:
        InvalidInputError: if a bound is unreachable alone, or all together, as far as a
            stated search can tell.
    """

    def __init__(self, space: SearchSpace, budget: Budget, *, seed: int = 0) -> None:
        budget.check(space)
        self.space = space
        self.budget = budget
        self._all: Matrix | None = None
        self._rare: Matrix | None = None
        rows = candidate_rows(space, budget)
        if rows is not None:
            self._all = rows[self.feasible(rows)]
            if not len(self._all):
                self._refuse(rows, f"all {len(rows):,} architectures")
        else:
            rng = np.random.default_rng([seed, 0xD0])
            # Below this rate (3 in 10,000) walks from what is known are far cheaper than draws.
            drawn = self._draw(_ENOUGH, rng)
            if len(drawn) < _ENOUGH:
                self._rare = drawn if len(drawn) else self._find(rng)

    def feasible(self, matrix: Matrix) -> npt.NDArray[np.bool_]:
        """Which rows are valid and meet the budget, ``[N]``."""
        valid = self.space.valid(matrix)
        ok = np.zeros(len(matrix), dtype=np.bool_)
        if valid.any():
            ok[valid] = self.budget.feasible(self.space.cost(matrix[valid]))
        return ok

    @property
    def size(self) -> int | None:
        """How many feasible rows there are; ``None`` where they cannot be enumerated."""
        return None if self._all is None else len(self._all)

    def sample(self, n: int, rng: np.random.Generator) -> Matrix:
        """``n`` feasible rows with replacement, ``[n, genes]``."""
        if self._all is not None:
            return self._all[rng.integers(0, len(self._all), size=n)]
        rows = self._draw(n, rng) if self._rare is None else self._rare[:0]
        if len(rows) < n:
            rows = np.concatenate([rows, self._walk(n - len(rows), rows, rng)])
        return rows[:n]

    def reference(self, n: int, seed: int) -> Matrix:
        """The sample that ranks are taken against: up to ``n`` distinct rows, by seed alone."""
        return self.unseen(n, (), np.random.default_rng([seed, 0x4E]))[0]

    def unseen(self, n: int, seen: Collection[str], rng: np.random.Generator) -> tuple[Matrix, int]:
        """Up to ``n`` feasible rows whose keys are distinct and not in ``seen``.

        Returns:
            The rows, and how many were looked at; fewer than ``n`` rows mean that the
            domain is exhausted, for certain where it was enumerated.
        """
        if self._all is not None:
            pool = self._all[rng.permutation(len(self._all))]
        else:
            pool = self.sample(max(20 * n, _CHUNK), rng)
        taken: set[str] = set()
        rows: list[Matrix] = []
        for row, key in zip(pool, self.space.keys(pool), strict=True):
            if len(rows) == n:
                break
            if key not in seen and key not in taken:
                taken.add(key)
                rows.append(row)
        empty = pool[:0]
        return (np.stack(rows) if rows else empty), len(pool)

    # ------------------------------------------------------------------ large spaces

    def _draw(self, n: int, rng: np.random.Generator) -> Matrix:
        """Uniform rows that turned out feasible, at most ``n``."""
        found: list[Matrix] = []
        for _ in range(_CHUNKS):
            rows = self.space.sample_matrix(_CHUNK, rng)
            found.append(rows[self.feasible(rows)])
            if sum(map(len, found)) >= n:
                break
        return np.concatenate(found)[:n]

    def _find(self, rng: np.random.Generator) -> Matrix:
        """Feasible rows by descending the violation; raises where none turns up."""
        rows = self.space.sample_matrix(_CHUNK, rng)
        rows = rows[self.space.valid(rows)]
        for _ in range(_ROUNDS):
            violation = self.budget.violation(self.space.cost(rows))
            rows = rows[np.argsort(violation, kind="stable")[:_POPULATION]]
            if (violation == 0.0).any():
                return rows[self.feasible(rows)]
            children = self.space.mutate(rows, rng)
            rows = np.concatenate([rows, children[self.space.valid(children)]])
        looked = _CHUNK * (_CHUNKS + 1) + _ROUNDS * _POPULATION
        self._refuse(rows, f"a search over {looked:,} draws and descents")
        raise AssertionError("unreachable")

    def _walk(self, n: int, start: Matrix, rng: np.random.Generator) -> Matrix:
        """``n`` feasible rows, each a random walk of feasible steps away from a known one."""
        known = start if len(start) else self._rare
        if known is None:
            known = self._find(rng)
        rows = known[rng.integers(0, len(known), size=n)]
        for _ in range(_WALK):
            steps = self.space.mutate(rows, rng)
            rows = np.where(self.feasible(steps)[:, None], steps, rows)
        return rows

    def _refuse(self, rows: Matrix, looked: str) -> None:
        costs = self.space.cost(rows)
        closest = int(self.budget.violation(costs).argmin())
        asked = ", ".join(f"{name} ≤ {b:,.12g}" for name, b in self.budget.bounds.items())
        got = ", ".join(f"{name} {costs[name][closest]:,.0f}" for name in self.budget.bounds)
        raise InvalidInputError(
            f"no architecture of {self.space.name!r} meets {asked} together ({looked});"
            f" the closest has {got}; relax a bound"
        )
