"""Architectures as columns of numbers, and which of them to evaluate first.

The one-hot code is once-for-all's (Cai et al., ICLR 2020, released ``MobileNetArchEncoder``):
a column for each value of each gene, 0 where a gene has no effect. Its networks for a predictor's
training set are drawn uniformly over gene values, which gathers their costs in the middle, while
a search asks about both ends; :func:`design` spreads them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..searchspace.conditional import ConditionalSpace
from ..searchspace.errors import InvalidInputError
from ..searchspace.space import Matrix, SearchSpace

__all__ = ["DESIGNS", "Encoder", "design", "encode"]

Floats = npt.NDArray[np.float64]

COSTS = ("params", "macs", "depth")

#: Rows that costs are normalised by, drawn with seed 0.
REFERENCE_SIZE = 512

DESIGNS = ("stratified", "uniform")

BINS = 10
"""Of equal width in log MACs."""

POOL = 2000
"""Rows that a design is chosen from, at least; and :data:`PER_ROW` for each that is chosen."""

PER_ROW = 5

GENERATIONS = 40
"""Rounds in which the pool grows towards bins of few rows, by a tenth of its size each."""


class Encoder:
    """Rows of one space as columns.

    A column for each value of each gene that has a choice, 1 where the row has that value and
    the gene has an effect; then the logarithms of params and MACs and the depth, of mean 0 and
    standard deviation 1 over a fixed sample. Rows of one network have one code.

    Args:
        space: whose rows will be given.

    Attributes:
        names: of the F columns.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._genes = [(i, gene) for i, gene in enumerate(space.genes) if len(gene.values) > 1]
        self.names = tuple(
            [f"{gene.name}={value}" for _, gene in self._genes for value in gene.values]
            + [f"log {name}" for name in COSTS]
        )
        costs = self._costs(space.canonical(space.sample_matrix(REFERENCE_SIZE, 0)))
        self._mean = costs.mean(axis=0)
        spread = costs.std(axis=0)
        self._spread = np.where(spread > 1e-12, spread, 1.0)

    def __call__(self, matrix: Matrix) -> Floats:
        """The columns of N rows, ``[N, F]``.

        Raises:
            InvalidInputError: if a row is outside the space.
        """
        matrix = _checked(self.space, matrix)
        canonical = self.space.canonical(matrix)
        active = np.ones(matrix.shape, dtype=np.bool_)
        if isinstance(self.space, ConditionalSpace):
            active = self.space._active(canonical)
        columns = [
            (canonical[:, i, None] == np.arange(len(gene.values))) & active[:, i, None]
            for i, gene in self._genes
        ]
        costs = (self._costs(canonical) - self._mean) / self._spread
        return np.concatenate([*columns, costs], axis=1).astype(np.float64)

    def _costs(self, matrix: Matrix) -> Floats:
        columns = self.space._cost(matrix, self.space.resolution)
        # A network of nothing but skips has no MACs.
        counts = np.stack([columns[name] for name in COSTS], axis=1)
        return np.asarray(np.log(np.maximum(counts, 1.0)))


def encode(space: SearchSpace, matrix: Matrix) -> Floats:
    """The columns of N rows, ``[N, F]``; see :class:`Encoder`."""
    return Encoder(space)(matrix)


def design(
    space: SearchSpace,
    n: int,
    seed: int | np.random.Generator = 0,
    how: str = "stratified",
    *,
    pool: Matrix | None = None,
) -> Matrix:
    """Different networks to evaluate, as rows ``[n, genes]``, in random order.

    ``"stratified"``: as many from each of 10 bins of equal width in log MACs, between the
    smallest and the largest found; within a bin, each next row is the one furthest from all
    chosen so far in code (greedy k-centre: Gonzalez, Theor. Comput. Sci. 1985). The two
    extremes are among them. Rows of extreme costs are too rare to be drawn, so a pool of random
    ones is grown by mutation and crossover of its scarce members. ``"uniform"``: uniform over
    gene values.

    Args:
        space: to choose from.
        n: how many, at least 1.
        seed: of all that is drawn.
        how: one of :data:`DESIGNS`.
        pool: rows to choose from, such as those inside a budget; default drawn here.

    Raises:
        InvalidInputError: if ``how`` is unknown, or ``n`` is below 1 or more than there are.
    """
    if how not in DESIGNS:
        raise InvalidInputError(f"unknown design {how!r}; known: {', '.join(DESIGNS)}")
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InvalidInputError(f"cannot choose {n!r} networks; need a whole number from 1")
    rng = np.random.default_rng(seed)
    given = pool is not None
    if pool is None:
        pool = _pool(space, max(POOL, PER_ROW * n), rng)
    else:
        pool = _different(space, _checked(space, pool))
    if n > len(pool):
        raise InvalidInputError(
            f"cannot choose {n} networks: {len(pool)} different ones of space {space.name!r} were"
            " found; ask for fewer"
        )
    if how == "uniform":
        return pool[rng.permutation(len(pool))[:n]]
    if not given:
        pool = _spread(space, pool, rng)
    costs = _log_macs(space, pool)
    bins = _bins(costs)
    quota = _quota(np.bincount(bins, minlength=BINS), n)
    codes = Encoder(space)(pool)
    squares = (codes**2).sum(axis=1)
    nearest = np.full(len(pool), np.inf)
    chosen: list[int] = []
    # Bins take turns, so that none is left with what is near to all others' choices.
    for turn in range(quota.max()):
        for each in np.flatnonzero(quota > turn):
            inside = np.flatnonzero(bins == each)
            pick = int(inside[nearest[inside].argmax()])
            if turn == 0 and each in (0, BINS - 1):  # the extremes themselves
                pick = int(costs.argmax() if each else costs.argmin())
            chosen.append(pick)
            nearest = np.minimum(nearest, squares - 2.0 * codes @ codes[pick] + squares[pick])
            nearest[pick] = -np.inf
    return np.asarray(pool[rng.permutation(chosen)])


def _checked(space: SearchSpace, matrix: Matrix) -> Matrix:
    matrix = np.asarray(matrix, dtype=np.int64)
    if matrix.ndim != 2 or matrix.shape[1] != len(space.genes):
        raise InvalidInputError(
            f"rows of shape {matrix.shape} for space {space.name!r}; need [N, {len(space.genes)}]"
        )
    if not space.valid(matrix).all():
        space.decode(matrix)  # raises, naming the row
    return matrix


def _log_macs(space: SearchSpace, matrix: Matrix) -> Floats:
    macs = space._cost(matrix, space.resolution)["macs"]
    return np.asarray(np.log(np.maximum(macs, 1.0)))


def _pool(space: SearchSpace, size: int, rng: np.random.Generator) -> Matrix:
    """Different networks, all there are where they are few."""
    rows = space.enumerate_matrix() if space.size <= size else space.sample_matrix(size, rng)
    return _different(space, rows)


def _different(space: SearchSpace, rows: Matrix) -> Matrix:
    """The first row of each network."""
    _, first = np.unique(space.canonical(rows), axis=0, return_index=True)
    return rows[np.sort(first)]


def _bins(costs: Floats) -> npt.NDArray[np.int64]:
    """Bin of each row, 0 … 9, of equal width between the extremes."""
    edges = np.linspace(costs.min(), costs.max(), BINS + 1)[1:-1]
    return np.searchsorted(edges, costs, side="right")


def _spread(space: SearchSpace, pool: Matrix, rng: np.random.Generator) -> Matrix:
    """The pool and children of its scarce rows, which reach further to both ends."""
    if space.size <= len(pool):
        return pool
    step = max(len(pool) // 10, 1)
    seen = {row.tobytes() for row in space.canonical(pool)}
    costs = _log_macs(space, pool)
    for _ in range(GENERATIONS):
        bins = _bins(costs)
        weights = 1.0 / np.bincount(bins, minlength=BINS)[bins]
        weights /= weights.sum()
        parents = (rng.choice(len(pool), step, p=weights) for _ in range(2))
        # Parents of similar costs, or their children are of middling ones.
        first, second = (pool[each[np.argsort(costs[each], kind="stable")]] for each in parents)
        children = space.crossover(first, second, rng)
        children = space.mutate(children[space.valid(children)], rng)
        children = children[space.valid(children)]
        new = []
        for i, row in enumerate(space.canonical(children)):
            if (key := row.tobytes()) not in seen:
                seen.add(key)
                new.append(i)
        pool = np.concatenate([pool, children[new]])
        costs = np.concatenate([costs, _log_macs(space, children[new])])
    return pool


def _quota(available: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    """How many each bin gives: equal shares, and what a small bin lacks from the others."""
    quota = np.zeros(len(available), dtype=np.int64)
    while (left := n - int(quota.sum())) > 0:
        open_bins = np.flatnonzero(quota < available)
        if left < len(open_bins):  # from end to end
            open_bins = open_bins[np.linspace(0, len(open_bins) - 1, left).round().astype(int)]
        share = left // len(open_bins)
        quota[open_bins] += np.minimum(share, available[open_bins] - quota[open_bins])
    return quota
