"""The largest and the smallest architecture of a space, and how they are found."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .architecture import Architecture
from .space import Matrix, SearchSpace

__all__ = ["descend", "extreme_starts", "largest", "smallest"]

#: Rows of the sample from which the descent starts, beside the two corners.
_STARTS = 4096

#: What a parameter weighs against a multiply-accumulate: it only settles ties.
_TIE = 1e-12


def extreme_starts(space: SearchSpace) -> Matrix:
    """A sample of the space, and every gene's first and last value, ``[N, genes]``."""
    cardinalities = np.array([len(gene.values) for gene in space.genes])
    corners = np.stack([np.zeros_like(cardinalities), cardinalities - 1])
    start = np.concatenate([space.sample_matrix(_STARTS, 0), corners])
    return start[space.valid(start)]


def descend(space: SearchSpace, start: Matrix, name: str, *, sign: float = 1.0) -> Matrix:
    """Coordinate descent on a cost: exact where it grows with each gene.

    Args:
        space: whose cost.
        start: rows of which the best is begun with, ``[N, genes]``.
        name: of the cost.
        sign: -1 climbs.

    Returns:
        The row reached, ``[1, genes]``.
    """

    def value(rows: Matrix) -> npt.NDArray[np.float64]:
        costs = space.cost(rows)
        return np.asarray(sign * (costs[name] + _TIE * costs["params"]))

    costs = value(start)
    row, best = start[int(costs.argmin())], float(costs.min())
    while True:
        around = _neighbours(space, row)
        costs = value(around)
        if float(costs.min()) >= best:
            reached: Matrix = row[None]
            return reached
        row, best = around[int(costs.argmin())], float(costs.min())


def _neighbours(space: SearchSpace, row: Matrix) -> Matrix:
    """Every row that differs from ``row`` in at most one gene."""
    rows = [row]
    for i, gene in enumerate(space.genes):
        for index in range(len(gene.values)):
            other = row.copy()
            other[i] = index
            rows.append(other)
    matrix = np.stack(rows)
    return matrix[space.valid(matrix)]


def largest(space: SearchSpace) -> Architecture:
    """The architecture of most multiply-accumulates; of equal ones, of most parameters."""
    return space.decode(descend(space, extreme_starts(space), "macs", sign=-1.0))[0]


def smallest(space: SearchSpace) -> Architecture:
    """The architecture of fewest multiply-accumulates; of equal ones, of fewest parameters."""
    return space.decode(space.canonical(descend(space, extreme_starts(space), "macs")))[0]
