"""A part of a space: the same genes, fewer of their values.

A view keeps the space's integer matrix, notation, keys and costs; it samples, mutates and crosses
inside the values that are left, and its supernet sorts the channels that they use.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .conditional import ConditionalSpace
from .errors import InvalidInputError, UnknownNameError
from .space import Matrix, SearchSpace

if TYPE_CHECKING:
    from .elastic import ElasticNetwork

__all__ = ["narrow"]

#: Draws in which a row that the space refuses is replaced.
_TRIES = 200


def narrow(space: SearchSpace, only: Mapping[str, Sequence[int]]) -> SearchSpace:
    """A view of a space in which genes take some of their values only.

    Architectures have the space's own keys, whatever the view they come from.

    Args:
        space: left as it is; tables attached to it are the view's, too.
        only: gene → values that are left; genes that are not named keep all.

    Raises:
        UnknownNameError: if the space has no such gene.
        InvalidInputError: if a value is none of the gene's, or none is left.
    """
    left = {gene.name: gene.values for gene in space.genes}
    if isinstance(space, _View):
        left |= {name: tuple(values) for name, values in space.only.items()}
    for name, values in only.items():
        if name not in left:
            raise UnknownNameError("gene", name, left)
        wrong = [value for value in values if value not in left[name]]
        if wrong or not len(values):
            raise InvalidInputError(
                f"only {name} = {list(values)} of space {space.name!r}; need some of"
                f" {list(left[name])}"
            )
    kept = [
        [value for value in left[gene.name] if value in only.get(gene.name, left[gene.name])]
        for gene in space.genes
    ]
    view = copy.copy(space)
    view._tables = dict(space._tables)
    # The class stays the space's, so that what is known of its kind holds for the view.
    view.__class__ = _view_of(type(space))
    if isinstance(view, _View):
        view._keep(kept)
    return view


@cache
def _view_of(kind: type[SearchSpace]) -> type[SearchSpace]:
    if issubclass(kind, _View):
        return kind
    return type(f"Narrowed{kind.__name__}", (_View, kind), {})


class _View(SearchSpace):
    """What a narrowed space does otherwise than its own class, which comes after it."""

    def _keep(self, kept: Sequence[Sequence[int]]) -> None:
        self._kept = [
            np.array([gene.values.index(value) for value in values], dtype=np.int64)
            for gene, values in zip(self.genes, kept, strict=True)
        ]
        self._only = {
            gene.name: list(values)
            for gene, values in zip(self.genes, kept, strict=True)
            if len(values) < len(gene.values)
        }
        self._allowed = np.zeros((len(self.genes), int(self._cardinalities.max())), dtype=np.bool_)
        for gene, indices in enumerate(self._kept):
            self._allowed[gene, indices] = True

    @property
    def only(self) -> dict[str, list[int]]:
        """Values that are left, of the genes that lost some."""
        return {name: list(values) for name, values in self._only.items()}

    @property
    def size(self) -> int:
        """Number of combinations of the values that are left."""
        return math.prod(len(indices) for indices in self._kept)

    def spec(self) -> dict[str, Any]:
        return super().spec() | {"only": self.only}

    def valid(self, matrix: Matrix) -> npt.NDArray[np.bool_]:
        valid = super().valid(matrix)
        inside = np.clip(matrix, 0, self._cardinalities - 1)
        allowed = self._allowed[np.arange(len(self.genes)), inside]
        if isinstance(self, ConditionalSpace):
            allowed |= ~self._active(inside)  # what has no effect may be anything
        return np.asarray(valid & allowed.all(axis=1))

    def sample_matrix(self, n: int, seed: int | np.random.Generator = 0) -> Matrix:
        if n < 0:
            raise InvalidInputError(f"cannot sample {n} architectures; need at least 0")
        rng = np.random.default_rng(seed)
        rows = self._draw(n, rng)
        for _ in range(_TRIES):
            wrong = np.flatnonzero(~self.valid(rows))
            if not wrong.size:
                return rows
            rows[wrong] = self._draw(len(wrong), rng)
        raise InvalidInputError(
            f"among the values left of space {self.name!r} next to none is an architecture; leave"
            " more of them"
        )

    def _draw(self, n: int, rng: np.random.Generator) -> Matrix:
        columns = [indices[rng.integers(0, len(indices), size=n)] for indices in self._kept]
        return np.stack(columns, axis=1)

    def enumerate_matrix(self, limit: int = 1_000_000) -> Matrix:
        if self.size > limit:
            raise InvalidInputError(
                f"space {self.name!r} holds {self.size:,} architectures, more than {limit:,}"
            )
        grids = np.meshgrid(*self._kept, indexing="ij")
        matrix = np.stack([grid.ravel() for grid in grids], axis=1)
        return np.ascontiguousarray(matrix[self.valid(matrix)])

    def mutate(self, matrix: Matrix, rng: np.random.Generator, rate: float | None = None) -> Matrix:
        rate = 1.0 / len(self.genes) if rate is None else rate
        active = np.ones(matrix.shape, dtype=np.bool_)
        if isinstance(self, ConditionalSpace):
            active = self._active(matrix)
        free = np.array([len(indices) > 1 for indices in self._kept]) & active
        changed = (rng.random(matrix.shape) < rate) & free
        # One at least: where none fell, the active gene of the largest number.
        forced = np.where(free, rng.random(matrix.shape), -1.0).argmax(axis=1)
        idle = np.flatnonzero(~changed.any(axis=1) & free.any(axis=1))
        changed[idle, forced[idle]] = True
        children = matrix.copy()
        for gene, indices in enumerate(self._kept):
            rows = np.flatnonzero(changed[:, gene])
            if not rows.size:
                continue
            # Another value than the old one: a step of 1 … k-1 round the ring of k.
            place = np.searchsorted(indices, matrix[rows, gene]) % len(indices)
            step = rng.integers(1, len(indices), size=len(rows))
            children[rows, gene] = indices[(place + step) % len(indices)]
        # A gene that has become active may hold what is not left: any value that is.
        for row, column in np.argwhere(~self._allowed[np.arange(len(self.genes)), children]):
            children[row, column] = rng.choice(self._kept[column])
        return np.where(self.valid(children)[:, None], children, matrix)

    def crossover(self, first: Matrix, second: Matrix, rng: np.random.Generator) -> Matrix:
        children = super().crossover(first, second, rng)
        return np.where(self.valid(children)[:, None], children, first)

    def supernet(self, *, seed: int = 0, init: str = "he") -> ElasticNetwork:
        """The space's network; what no architecture of the view uses is never trained.

        Its :meth:`~scholarch.searchspace.elastic.ElasticNetwork.channel_groups` are those of
        the view, so that a sort of channels keeps to what is trained.
        """
        from .narrow_net import restrict_groups

        network = super().supernet(seed=seed, init=init)  # type: ignore[safe-super]  # a mixin's
        groups = restrict_groups(network, self)
        network.__dict__["channel_groups"] = lambda: groups  # of this network, not of its class
        return network
