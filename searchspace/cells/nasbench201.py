"""NAS-Bench-201's space of cells, which NATS-Bench calls topology ("tss").

Dong & Yang, ICLR 2020, §2.1; Dong et al., TPAMI 2021, §3. Four nodes, an operation on each of
the six edges; one cell, repeated, makes the network. Written as there:
``|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..architecture import Architecture, Gene
from ..convnets.staged import Part, StagedSpace, check_width_mult, halved
from ..errors import InvalidInputError
from ..space import Matrix, register_space
from .graph import Dag, edge_dag
from .nasbench201_cell import CONV1, CONV3, EDGES, NODES, NONE, OPS
from .nasbench201_net import STAGES, CellNetwork, CellShape, ElasticCellNetwork

__all__ = ["NasBench201Space", "cell_graph", "expression"]

CHANNELS = 16
CELLS = 5
MOST_CELLS = 20
#: A row is a number in base 5, its first gene the highest digit: lexicographic order.
PLACES = len(OPS) ** np.arange(len(EDGES), dtype=np.int64)[::-1]
NOTATION = re.compile(
    r"\+".join(
        r"\|" + "".join(rf"(\w+)~{source}\|" for source in range(node)) for node in range(1, NODES)
    )
)


def _rows(codes: npt.NDArray[np.int64]) -> Matrix:
    return np.asarray(codes[:, None] // PLACES % len(OPS))


def cell_graph(ops: Sequence[int]) -> Dag:
    """The cell as a graph whose edges carry the operations' names."""
    return edge_dag(NODES, ((i, j, OPS[op]) for (i, j), op in zip(EDGES, ops, strict=True)))


def expression(cell: Dag) -> str:
    """What a cell computes, as a sum of operations on sums: equal for isomorphic cells.

    The benchmark's "unique string" with zeros considered: ``0`` is the input, ``#`` zero,
    ``(x)@op`` an operation on a sum, ``skip_connect`` what it is given; terms are sorted. It
    tells 6,466 classes apart, which are not quite those of equal functions. A node that two
    edges read is written twice, so that one shared convolution and two equal ones fall
    together; zeros stay among the terms (``#+#`` is no ``#``) and a sum that is skipped stays
    one term, so that some equal cells do not.
    """
    terms = ["0"]
    for node in range(1, NODES):
        inputs = cell.in_edges(node, data="op")
        terms.append("+".join(sorted(_apply(op, terms[source]) for source, _, op in inputs)))
    return terms[-1]


def _apply(op: str, term: str) -> str:
    if op == "none" or term == "#":
        return "#"
    return term if op == "skip_connect" else f"({term})@{op}"


class _Cells(NamedTuple):
    """Of every cell, in lexicographic order, ``[15625]`` each.

    Attributes:
        representative: index of the class's representative.
        conv1: how many 1×1 convolutions it has, dead ones as well.
        conv3: how many 3×3.
        depth: most convolutions on a path from input to output.
    """

    representative: npt.NDArray[np.int64]
    conv1: npt.NDArray[np.float64]
    conv3: npt.NDArray[np.float64]
    depth: npt.NDArray[np.float64]


@cache
def _cells() -> _Cells:
    """Made when first asked for, in half a second."""
    rows = np.indices((len(OPS),) * len(EDGES)).reshape(len(EDGES), -1).T
    convs = (rows == CONV1, rows == CONV3)
    conv1, conv3 = (conv.sum(axis=1).astype(np.float64) for conv in convs)
    depth = np.full((len(rows), NODES), -np.inf)
    depth[:, 0] = 0.0
    for edge, (source, target) in enumerate(EDGES):
        length = np.where(rows[:, edge] == NONE, -np.inf, 1.0 * (convs[0] | convs[1])[:, edge])
        depth[:, target] = np.maximum(depth[:, target], depth[:, source] + length)
    classes: dict[str, int] = {}
    numbers = [
        classes.setdefault(expression(cell_graph(row)), len(classes)) for row in rows.tolist()
    ]
    label = np.array(numbers)
    # One 3×3 costs more than six 1×1, in params and in MACs.
    order = np.lexsort((np.arange(len(rows)), (rows != NONE).sum(axis=1), conv1, conv3, label))
    _, first = np.unique(label[order], return_index=True)
    return _Cells(order[first][label], conv1, conv3, np.maximum(depth[:, -1], 0.0))


class NasBench201Space(StagedSpace):
    """The 15,625 cells of NAS-Bench-201.

    Genes: the operations of the edges 0→1, 0→2, 1→2, 0→3, 1→3 and 2→3. ``size`` counts cells;
    keys are 6,466 (:func:`expression`). Params and MACs are the benchmark's own, which count
    every convolution of the string, also one whose output goes nowhere or whose input is
    nothing; so cells of a class may differ in cost. The representative is the cheapest: fewest
    params and MACs at any width, then fewest operations, then the first in lexicographic order.

    Args:
        name: registered name.
        width_mult: factor on the channels, 16 at first, rounded to multiples of 4; doubled from
            stage to stage.
        cells: in each stage; 5 as published, fewer for a cheaper likeness.
        **options: see :class:`~scholarch.searchspace.space.SearchSpace`.

    Raises:
        InvalidInputError: if an option is out of range.
    """

    def __init__(
        self, name: str, *, width_mult: float = 1.0, cells: int = CELLS, **options: Any
    ) -> None:
        mult = check_width_mult(width_mult)
        if type(cells) is not int or not 1 <= cells <= MOST_CELLS:
            raise InvalidInputError(
                f"cells = {cells!r} for space {name!r}; need a whole number from 1 to {MOST_CELLS}"
            )
        self.cells = cells
        self.channels = max(4, int(CHANNELS * mult / 4 + 0.5) * 4)
        genes = [Gene(f"op{i}{j}", tuple(range(len(OPS)))) for i, j in EDGES]
        super().__init__(name, genes, width_mult=mult, **options)

    def spec(self) -> dict[str, Any]:
        return super().spec() | {"cells": self.cells}

    # ------------------------------------------------------------------ isomorphism

    def canonical(self, matrix: Matrix) -> Matrix:
        return _rows(_cells().representative[matrix @ PLACES])

    def keys(self, matrix: Matrix) -> list[str]:
        codes, rows = np.unique(matrix @ PLACES, return_inverse=True)
        keys = super().keys(_rows(codes))
        return [keys[row] for row in rows.tolist()]

    # ------------------------------------------------------------------ costs

    def _shape(self, arch: Architecture) -> CellShape:
        return CellShape(tuple(self.encode([arch])[0].tolist()), self.channels, self.cells)

    def _parts(self, matrix: Matrix, resolution: int) -> list[Part]:
        table, codes = _cells(), matrix @ PLACES
        conv1, conv3, depth = (self.cells * column[codes] for column in table[1:])
        c, side = float(self.channels), resolution
        stem = Part("stem", side, 1.0, c)
        stem.tally.conv(self.in_channels, c, 3, side)
        parts = [stem]
        for stage in range(STAGES):
            blocks = self.cells
            if stage:
                before, previous = side, c
                side, c, blocks = halved(side, 2), 2.0 * c, blocks + 1
            part = Part(f"stage {stage + 1}", side, float(blocks), c)
            tally = part.tally
            if stage:
                tally.conv(previous, c, 3, side, side_in=before)
                tally.conv(c, c, 3, side)
                # The shortcut's, which has no batch norm and reads less than the one above.
                tally.params += previous * c
                tally.macs += previous * c * float(side * side)
            tally.conv(c, c, 1, side, times=conv1, on_path=False)
            tally.conv(c, c, 3, side, times=conv3, on_path=False)
            tally.layers = tally.layers + depth
            parts.append(part)
        head = Part("classifier", 1, 1.0, float(self.num_classes))
        head.tally.params = 2.0 * c
        head.tally.linear(c, self.num_classes)
        return [*parts, head]

    def _details(self, choices: tuple[int, ...]) -> Sequence[str]:  # noqa: ARG002
        cells = f"{self.cells} cell{'s' * (self.cells > 1)}"
        later = [f"residual block of stride 2, {cells}"] * (STAGES - 1)
        return ["3×3 convolution", cells, *later, "batch norm, average pool, linear"]

    # ------------------------------------------------------------------ the contract

    def _format(self, choices: tuple[int, ...]) -> str:
        nodes: list[str] = [""] * (NODES - 1)
        for (source, target), op in zip(EDGES, choices, strict=True):
            nodes[target - 1] += f"{OPS[op]}~{source}|"
        return "+".join(f"|{node}" for node in nodes)

    def _parse(self, text: str) -> Sequence[int]:
        match = NOTATION.fullmatch(text)
        if match is None:
            example = self._format((CONV3, NONE, CONV1, 1, NONE, 4))
            raise InvalidInputError(
                f"{text[:120]!r} is no cell of {self.name!r}; write it like {example}"
            )
        for op in match.groups():
            if op not in OPS:
                raise InvalidInputError(
                    f"{op!r} is no operation of {self.name!r}; known: {', '.join(OPS)}"
                )
        return [OPS.index(op) for op in match.groups()]

    def build(self, arch: Architecture, *, seed: int = 0) -> CellNetwork:
        return CellNetwork(
            self._shape(arch),
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            seed=seed,
        )

    def supernet(self, *, seed: int = 0, init: str = "he") -> ElasticCellNetwork:
        return ElasticCellNetwork(
            self.channels,
            self.cells,
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            shape_of=self._shape,
            seed=seed,
            init=init,
        )


@register_space("nasbench201")
def nasbench201(name: str, **options: Any) -> NasBench201Space:
    """NAS-Bench-201: 15,625 cells of five operations on six edges, 6,466 up to isomorphism."""
    return NasBench201Space(name, **options)
