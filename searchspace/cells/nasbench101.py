"""NAS-Bench-101's space of cells (Ying et al., ICML 2019).

At most seven vertices, input and output among them, and nine edges; each inner vertex a 3×3
or 1×1 convolution with batch norm and ReLU, or a 3×3 max pool. Written as its matrix and its
ops, ``[[0,1,1],[0,0,1],[0,0,0]];input,conv3x3-bn-relu,output``; also read: the 0 and 1 of the
matrix in one run, as the benchmark's records hold them, Python lists, the ops in quotes.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt

from ..architecture import Architecture, Gene
from ..convnets.staged import Count, Part, StagedSpace, check_width_mult, divisible, halved
from ..errors import InvalidInputError
from ..space import Matrix, register_space
from . import nasbench101_graph as graphs
from .graph import Dag
from .nasbench101_graph import EDGES, INNER, OPS, SLOTS
from .nasbench101_hash import module_hash
from .nasbench101_net import CELLS, STACKS, Cell, ElasticNasBench101Net, NasBench101Net

__all__ = ["NasBench101Space"]

WIDTH = 128
CLASSES = 423_624
#: Draws of a child before a parent's edges are taken.
TRIES = 64
_OUTPUT = SLOTS - 1
_LABELS = ("input", "output", *OPS)
_WORDS = re.compile("|".join((*_LABELS, "matrix", "ops", "module_adjacency", "module_operations")))


class NasBench101Space(StagedSpace):
    """Networks of NAS-Bench-101.

    Genes: whether there is an edge, for each of the 21 pairs of seven slots, in the order
    0-1, 0-2, 1-2, 0-3, …; then the op of each of the five inner slots. As in the benchmark a
    row is valid where a cell of at most nine edges remains once every vertex on no path from
    input to output is pruned. Isomorphic cells share a key, and ``size`` counts their classes,
    423,624; :meth:`enumerate_matrix` gives the representative of each, the cell in the
    benchmark's own table. Isomorphic cells can differ in their costs by a channel here and
    there: what 128 leaves over when divided by 3 goes to the first vertices.

    Rows drawn gene by gene would be shallow (a fifth of those valid have one inner vertex, of
    the classes six), so sampling is uniform over classes, in a random order of the vertices.

    Args:
        name: registered name.
        width_mult: factor on the 128 channels of the stem, rounded to multiples of 8.
        **options: see :class:`~scholarch.searchspace.space.SearchSpace`.
    """

    def __init__(self, name: str, *, width_mult: float = 1.0, **options: Any) -> None:
        mult = check_width_mult(width_mult)
        genes = [Gene(f"edge{s}{d}", (0, 1)) for s, d in EDGES]
        genes += [Gene(f"op{slot}", tuple(range(len(OPS)))) for slot in range(1, INNER + 1)]
        self.width = divisible(WIDTH * mult)
        super().__init__(name, genes, width_mult=mult, **options)

    # ------------------------------------------------------------------ rows and cells

    def _pruned(self, matrix: Matrix) -> graphs.Cells:
        return graphs.prune(_codes(matrix), matrix[:, len(EDGES) :])

    def _cell(self, arch: Architecture) -> Cell:
        codes, ops = self._pruned(self.encode([arch]))
        vertices = int(graphs.vertices_of(codes)[0])
        return Cell(int(codes[0]), tuple(ops[0, :vertices].tolist()))

    def cell(self, arch: Architecture) -> tuple[npt.NDArray[np.int64], list[str]]:
        """The pruned cell's matrix ``[V, V]`` and ops, as the benchmark's table holds them."""
        cell = self._cell(arch)
        slots = [*range(len(cell.ops) + 1), _OUTPUT]
        matrix = np.zeros((len(slots), len(slots)), dtype=np.int64)
        for (i, s), (j, d) in itertools.combinations(enumerate(slots), 2):
            matrix[i, j] = s in cell.sources(d)
        return matrix, ["input", *(OPS[op] for op in cell.ops), "output"]

    def module_hash(self, arch: Architecture) -> str:
        """The hash under which the benchmark's table knows the architecture."""
        return module_hash(self.cell(arch)[0], self._cell(arch).ops)

    def graph(self, arch: Architecture) -> Dag:
        """The pruned cell as a graph; vertices carry their ``"op"``."""
        matrix, ops = self.cell(arch)
        graph = nx.DiGraph(np.argwhere(matrix).tolist())
        nx.set_node_attributes(graph, dict(enumerate(ops)), "op")
        return graph

    # ------------------------------------------------------------------ the set

    @property
    def size(self) -> int:
        """Number of isomorphism classes."""
        return CLASSES

    def valid(self, matrix: Matrix) -> npt.NDArray[np.bool_]:
        inside = super().valid(matrix)
        inside[inside] = self._pruned(matrix[inside])[0] >= 0
        return inside

    def canonical(self, matrix: Matrix) -> Matrix:
        return _rows(*graphs.canonical_cells(*self._pruned(matrix)))

    def sample_matrix(self, n: int, seed: int | np.random.Generator = 0) -> Matrix:
        if n < 0:
            raise InvalidInputError(f"cannot sample {n} architectures; need at least 0")
        return _rows(*graphs.draw_cells(n, np.random.default_rng(seed)))

    def enumerate_matrix(self, limit: int = 1_000_000) -> Matrix:
        """The representative of every class, in lexicographic order."""
        if self.size > limit:
            raise InvalidInputError(
                f"space {self.name!r} holds {self.size:,} architectures, more than {limit:,}"
            )
        rows = _rows(*graphs.class_cells())
        return rows[np.lexsort(rows.T[::-1])]

    def mutate(self, matrix: Matrix, rng: np.random.Generator, rate: float | None = None) -> Matrix:
        """As everywhere, drawn again until valid; in the end only an op changes.

        A rate of 1 leaves nothing to draw: every gene changes, and nine edges become twelve
        that are no longer valid.
        """
        children = super().mutate(matrix, rng, rate)
        if rate is not None and rate >= 1.0:
            return children
        for _ in range(TRIES):
            wrong = np.flatnonzero(~self.valid(children))
            if not wrong.size:
                return children
            children[wrong] = super().mutate(matrix[wrong], rng, rate)
        wrong = np.flatnonzero(~self.valid(children))
        children[wrong] = matrix[wrong]
        column = len(EDGES) + rng.integers(0, INNER, size=len(wrong))
        step = rng.integers(1, len(OPS), size=len(wrong))
        children[wrong, column] = (children[wrong, column] + step) % len(OPS)
        return children

    def crossover(self, first: Matrix, second: Matrix, rng: np.random.Generator) -> Matrix:
        """As everywhere, drawn again until valid; in the end one of the parents."""
        children = super().crossover(first, second, rng)
        for _ in range(TRIES):
            wrong = np.flatnonzero(~self.valid(children))
            if not wrong.size:
                return children
            children[wrong] = super().crossover(first[wrong], second[wrong], rng)
        wrong = np.flatnonzero(~self.valid(children))
        heads = rng.random((len(wrong), 1)) < 0.5
        children[wrong] = np.where(heads, first[wrong], second[wrong])
        return children

    # ------------------------------------------------------------------ costs

    def _parts(self, matrix: Matrix, resolution: int) -> list[Part]:
        codes, ops = self._pruned(matrix)
        edge = {(s, d): (codes >> bit & 1).astype(np.float64) for bit, (s, d) in enumerate(EDGES)}
        filled = [graphs.edges_into(codes, slot) > 0 for slot in range(1, _OUTPUT)]
        depth = _depth(edge, ops)
        side, width = resolution, self.width
        stem = Part("stem", side, 1.0, float(width))
        stem.tally.conv(self.in_channels, width, 3, side)
        parts = [stem]
        previous = width
        for stack in range(STACKS):
            channels = self.width << stack
            side = halved(side, 2) if stack else side
            part = Part(f"stack {stack + 1}", side, float(CELLS), float(channels))
            widths = graphs.vertex_channels(codes, channels).astype(np.float64).T
            for slot, c in enumerate([*widths, float(channels)], start=1):
                for c_in, times in ((previous, 1.0), (channels, CELLS - 1.0)):
                    here = edge[0, slot if slot <= INNER else _OUTPUT] * times
                    part.tally.conv(c_in, c, 1, side, times=here, on_path=False)
            for slot, c in enumerate(widths):
                for op, kernel in ((0, 3), (1, 1)):
                    here = CELLS * (filled[slot] & (ops[:, slot] == op)).astype(np.float64)
                    part.tally.conv(c, c, kernel, side, times=here, on_path=False)
            part.tally.layers = CELLS * depth
            parts.append(part)
            previous = channels
        classifier = Part("classifier", 1, 1.0, float(self.num_classes))
        classifier.tally.linear(previous, self.num_classes)
        return [*parts, classifier]

    def _details(self, choices: tuple[int, ...]) -> Sequence[str]:
        code = self._pruned(np.array([choices]))[0]
        vertices = int(graphs.vertices_of(code)[0]) + 2
        cells = f"cells of {vertices} vertices, {int(code[0]).bit_count()} edges"
        return ["3×3 convolution", cells, *[f"2×2 max pool, {cells}"] * 2, "average pool, linear"]

    # ------------------------------------------------------------------ notation

    def _format(self, choices: tuple[int, ...]) -> str:
        edges = dict(zip(EDGES, choices, strict=False))
        ops = choices[len(EDGES) :]
        # Slots at the end without edges, whose op is the first, say nothing.
        used = [
            slot
            for slot in range(1, _OUTPUT)
            if ops[slot - 1] or any(edges[e] for e in EDGES if slot in e)
        ]
        slots = [*range(max(used, default=0) + 1), _OUTPUT]
        rows = [",".join(str(edges.get((s, d), 0)) for d in slots) for s in slots]
        names = ["input", *(OPS[op] for op in ops[: len(slots) - 2]), "output"]
        return f"[{','.join(f'[{row}]' for row in rows)}];{','.join(names)}"

    def _parse(self, text: str) -> Sequence[int]:
        labels = [word for word in _WORDS.findall(text) if word in _LABELS]
        rest = _WORDS.sub("", text)
        bits = [int(digit) for digit in re.findall("[01]", rest)]
        if not bits or re.search(r"[^01\s\[\](){},;:'\"]", rest):
            raise InvalidInputError(
                f"{text[:80]!r} is no cell of {self.name!r}; write it like"
                f" [[0,1,1],[0,0,1],[0,0,0]];input,{OPS[0]},output"
            )
        size = math.isqrt(len(bits))
        if size**2 != len(bits) or size != len(labels) or not 2 <= size <= SLOTS:
            raise self._wrong(f"{len(bits)} entries and {len(labels)} ops", "V² and V, V = 2 … 7")
        inner = labels[1:-1]
        if (labels[0], labels[-1]) != ("input", "output") or {*inner} & {"input", "output"}:
            raise self._wrong(f"ops {','.join(labels)}", "input first, output last, once each")
        matrix = np.array(bits).reshape(size, size)
        if np.tril(matrix).any():
            raise self._wrong("an edge on or below the diagonal", "an upper triangular matrix")
        slots = [*range(size - 1), _OUTPUT]
        edges = dict.fromkeys(EDGES, 0)
        for (i, s), (j, d) in itertools.combinations(enumerate(slots), 2):
            edges[s, d] = int(matrix[i, j])
        row = [*edges.values(), *(OPS.index(op) for op in inner), *[0] * (SLOTS - size)]
        if not self.valid(np.array([row]))[0]:
            raise self._wrong("the cell", "a path to the output, at most 9 edges once pruned")
        return row

    def _wrong(self, what: str, needed: str) -> InvalidInputError:
        return InvalidInputError(f"{what} lies outside space {self.name!r}; need {needed}")

    # ------------------------------------------------------------------ networks

    def build(self, arch: Architecture, *, seed: int = 0) -> NasBench101Net:
        return NasBench101Net(
            self._cell(arch),
            self.width,
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            seed=seed,
        )

    def supernet(self, *, seed: int = 0, init: str = "he") -> ElasticNasBench101Net:
        return ElasticNasBench101Net(
            self.width,
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            cell_of=self._cell,
            seed=seed,
            init=init,
        )


def _codes(matrix: Matrix) -> npt.NDArray[np.int64]:
    return matrix[:, : len(EDGES)] @ (1 << np.arange(len(EDGES)))


def _rows(codes: npt.NDArray[np.int64], ops: npt.NDArray[np.int64]) -> Matrix:
    return np.concatenate([codes[:, None] >> np.arange(len(EDGES)) & 1, ops], axis=1)


def _depth(edge: dict[tuple[int, int], npt.NDArray[np.float64]], ops: Matrix) -> Count:
    """Weighted layers on a cell's longest path, the input's projection one of them, ``[N]``."""
    depths: list[npt.NDArray[np.float64]] = []
    for d in range(1, SLOTS):
        ahead = edge[0, d]
        for s in range(1, d):
            ahead = np.maximum(ahead, edge[s, d] * depths[s - 1])
        depths.append(ahead + (ops[:, d - 1] < 2) if d < _OUTPUT else ahead)
    return depths[-1]


@register_space("nasbench101")
def nasbench101(name: str, **options: Any) -> NasBench101Space:
    """423,624 classes of isomorphic cells, stacked nine times."""
    return NasBench101Space(name, **options)
