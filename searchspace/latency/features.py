"""What a latency is made of, as columns that are counted without building a network.

Every column is at least zero and comes in groups of one meaning: a constant, costs, costs of the
parts of a network, counts of the values of genes. All are scaled to the same reference sample
of the space, so that a weight is a time and weights of a group are of one size.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..convnets.staged import CHUNK, StagedSpace
from ..errors import InvalidInputError
from ..space import Matrix, SearchSpace
from .executions import executions

__all__ = ["FeatureMap", "Floats", "Group", "Sides", "features"]

Floats = npt.NDArray[np.float64]

Sides = int | npt.NDArray[np.int64]
"""A resolution in pixels, or one for each row, ``[N]``."""

REFERENCE_SIZE = 512
"""Rows that the columns are scaled by, drawn with seed 0 at the space's own resolution."""

BALANCES = (0.5, 0.7, 1.0, 1.4, 2.0)
"""Where a roofline turns: times that the scaled MACs count against the scaled depth."""

_COSTS = ("macs", "depth", "params", "peak_memory")

_Raw = dict[str, tuple[list[str], Floats]]
"""Group → names and columns."""


@dataclass(frozen=True, slots=True)
class Group:
    """Columns of one meaning.

    Attributes:
        name: e.g. ``"parts"``.
        columns: where they stand.
        size: weight that one of them is expected to have, a mean latency being 1.
    """

    name: str
    columns: slice
    size: float


class FeatureMap:
    """The columns of one space.

    * ``one``: a constant;
    * ``macs``, ``depth``, ``params``, ``peak_memory``: the space's costs;
    * ``roofline``: max(depth, b · MACs) for some b, since a device that queues its work waits
      for the longer of starting layers and computing them (Williams et al., CACM 2009);
    * ``parts``: MACs part by part, where the space counts in parts;
    * ``values:<execution>``: how often each value of a kind of gene occurs, in whatever
      :func:`~.executions.executions` thinks runs; ``genes``: the same gene by gene.

    Args:
        space: whose rows will be given.
        scaled_at: resolution of the reference sample; default the space's own.

    Attributes:
        names: of the columns, length F.
        groups: of the columns, in order.
        reference: the columns of the sample that they are scaled by.
    """

    def __init__(self, space: SearchSpace, *, scaled_at: int | None = None) -> None:
        self.space = space
        self.scaled_at = side = space.resolution if scaled_at is None else scaled_at
        reference = space.sample_matrix(REFERENCE_SIZE, 0)
        raw = self._raw(reference, side, {})
        self._means = {name: float(raw[name][1].mean()) for name in _COSTS}
        raw = self._raw(reference, side, self._means)
        self._scale: dict[str, Floats] = {}
        self._kept: dict[str, npt.NDArray[np.bool_]] = {}
        self.names: tuple[str, ...] = ()
        self.groups: tuple[Group, ...] = ()
        for name, (labels, columns) in raw.items():
            # What is the same for all says no more than the constant.
            kept = (columns.std(axis=0) > 0) if name != "one" else np.ones(1, dtype=np.bool_)
            if kept.any():
                begin = len(self.names)
                self.names += tuple(
                    label if label == name else f"{name}: {label}"
                    for label, keep in zip(labels, kept, strict=True)
                    if keep
                )
                size = 0.1 if name == "genes" else 0.5
                self.groups += (Group(name, slice(begin, len(self.names)), size),)
                self._kept[name] = kept
                self._scale[name] = self._scale_of(name, labels, columns)[kept]

        self.reference = self(reference, side)

    def __call__(self, matrix: Matrix, resolution: Sides | None = None) -> Floats:
        """The columns of N rows, ``[N, F]``.

        Args:
            matrix: ``[N, genes]``.
            resolution: of the input in pixels, one or ``[N]``; default the space's own.

        Raises:
            InvalidInputError: if a row is outside the space or a resolution is below 1.
        """
        found = np.empty((len(matrix), len(self.names)))
        for rows, raw in self._chunks(matrix, resolution, None):
            for group in self.groups:
                found[rows, group.columns] = self._scaled(raw, group)
        return found

    def total(self, matrix: Matrix, weights: Floats, resolution: Sides | None = None) -> Floats:
        """The columns of N rows times ``weights``, ``[N]``; counts what has a weight alone."""
        groups = [group for group in self.groups if weights[group.columns].any()]
        found = np.zeros(len(matrix))
        for rows, raw in self._chunks(matrix, resolution, {group.name for group in groups}):
            for group in groups:
                found[rows] += self._scaled(raw, group) @ weights[group.columns]
        return found

    def _chunks(
        self, matrix: Matrix, resolution: Sides | None, wanted: Container[str] | None
    ) -> Iterator[tuple[npt.NDArray[np.int64], _Raw]]:
        """Some rows at a time, all of one resolution, and their unscaled columns."""
        matrix = np.asarray(matrix, dtype=np.int64)
        if matrix.ndim != 2 or matrix.shape[1] != len(self.space.genes):
            raise InvalidInputError(
                f"rows of shape {matrix.shape} for space {self.space.name!r}; need"
                f" [N, {len(self.space.genes)}]"
            )
        if not self.space.valid(matrix).all():
            self.space.decode(matrix)  # raises, naming the row
        side = self.space.resolution if resolution is None else resolution
        sides = np.broadcast_to(np.asarray(side, dtype=np.int64), (len(matrix),))
        if (sides < 1).any():
            raise InvalidInputError(f"resolution {sides.min()}; need at least 1")
        for each in np.unique(sides).tolist():
            at = np.flatnonzero(sides == each)
            for begin in range(0, len(at), CHUNK):
                rows = at[begin : begin + CHUNK]
                yield rows, self._raw(matrix[rows], each, self._means, wanted)

    def _scaled(self, raw: _Raw, group: Group) -> Floats:
        columns = raw[group.name][1][:, self._kept[group.name]]
        return np.asarray(columns / self._scale[group.name])

    def _scale_of(self, name: str, labels: list[str], columns: Floats) -> Floats:
        """What each column is divided by, ``[columns]``."""
        if name == "parts":
            return np.full(len(labels), columns.sum(axis=1).mean())
        if not name.startswith(("values", "genes")):
            return np.asarray(columns.mean(axis=0))
        # Counts of a kind's values share a unit: a mean one of them.
        kinds = defaultdict(list)
        for i, label in enumerate(labels):
            kinds[_kind(label)].append(i)
        scale = np.ones(len(labels))
        for at in kinds.values():
            values = {labels[i].split("=")[1] for i in at}
            scale[at] = max(columns[:, at].sum(axis=1).mean() / len(values), 1e-12)
        return scale

    # ------------------------------------------------------------------ counting

    def _raw(
        self,
        matrix: Matrix,
        resolution: int,
        means: Mapping[str, float],
        wanted: Container[str] | None = None,
    ) -> _Raw:
        """Unscaled columns of the wanted groups; the roofline once the costs' means are known.

        A space that knows its blocks may add a group here: how often each block occurs.
        """
        space = self.space
        raw: _Raw = {"one": (["one"], np.ones((len(matrix), 1)))}
        if wanted is None or any(name in wanted for name in (*_COSTS, "roofline")):
            costs = space._cost(matrix, resolution)
            raw |= {name: ([name], costs[name][:, None]) for name in _COSTS}
            if means:
                macs, depth = (costs[name] / means[name] for name in ("macs", "depth"))
                roofs = np.stack([np.maximum(depth, b * macs) for b in BALANCES], axis=1)
                raw["roofline"] = ([f"max(depth, {b:g} macs)" for b in BALANCES], roofs)
        if isinstance(space, StagedSpace) and (wanted is None or "parts" in wanted):
            parts = space._parts(matrix, resolution)
            columns = [np.broadcast_to(part.tally.macs, len(matrix)) for part in parts]
            raw["parts"] = ([f"macs of {part.name}" for part in parts], np.stack(columns, axis=1))
        for execution, runs in executions(space, matrix).items():
            if wanted is None or f"values:{execution}" in wanted:
                raw[f"values:{execution}"] = self._values(matrix, runs)
            if execution == "written" and (wanted is None or "genes" in wanted):
                raw["genes"] = self._genes(matrix, runs)
        return raw

    def _genes(self, matrix: Matrix, runs: npt.NDArray[np.bool_]) -> tuple[list[str], Floats]:
        """Whether each gene has each of its values, and runs."""
        labels, columns = [], []
        for i, gene in enumerate(self.space.genes):
            for index, value in enumerate(gene.values):
                labels.append(f"{gene.name}={value}")
                columns.append((matrix[:, i] == index) & runs[:, i])
        return labels, np.stack(columns, axis=1).astype(np.float64)

    def _values(self, matrix: Matrix, runs: npt.NDArray[np.bool_]) -> tuple[list[str], Floats]:
        """How often each value of each kind of gene occurs and runs."""
        counts: dict[str, Floats] = {}
        for i, gene in enumerate(self.space.genes):
            for index, value in enumerate(gene.values):
                label = f"{_kind(gene.name)}={value}"
                found = (matrix[:, i] == index) & runs[:, i]
                counts[label] = counts.get(label, np.zeros(len(matrix))) + found
        return list(counts), np.stack(list(counts.values()), axis=1)


def _kind(label: str) -> str:
    """Genes of one kind are numbered: ``op01`` is an ``op``, ``kernel2.3`` a ``kernel``."""
    name = label.split("=")[0]
    return re.sub(r"[\d.]+$", "", name) or name


def features(space: SearchSpace, matrix: Matrix, resolution: Sides | None = None) -> Floats:
    """The columns of N rows, ``[N, F]``; a :class:`FeatureMap` that is kept saves time."""
    return FeatureMap(space)(matrix, resolution)
