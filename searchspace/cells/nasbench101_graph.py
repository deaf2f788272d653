"""Graphs of NAS-Bench-101's cells: pruned, put in canonical order, drawn; all vectorised.

A cell is a directed acyclic graph whose vertex 0 is its input and whose last vertex its
output (Ying et al., ICML 2019, §2.2). Here it always has seven slots, the output in the last;
its edges are the 21 bits of a *code*, bit ``d·(d − 1)/2 + s`` for an edge s → d, the bits in
which the published enumeration counts. Pruned cells fill the inner slots from the front.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = [
    "EDGES",
    "INNER",
    "MOST_EDGES",
    "OPS",
    "SLOTS",
    "Cells",
    "canonical_cells",
    "class_cells",
    "draw_cells",
    "edges_into",
    "prune",
    "vertex_channels",
    "vertices_of",
]

SLOTS = 7
INNER = SLOTS - 2
MOST_EDGES = 9
#: In the benchmark's own order, from which its hash takes the labels.
OPS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")
#: Source and destination of each bit of a code.
EDGES = tuple((s, d) for d in range(SLOTS) for s in range(d))
_BIT = {edge: bit for bit, edge in enumerate(EDGES)}
_OUTPUT = SLOTS - 1

Ints = npt.NDArray[np.int64]
Cells = tuple[Ints, Ints]
"""Codes ``[N]`` and the inner slots' ops ``[N, 5]``; 0 where a slot is empty."""


@dataclass(frozen=True, slots=True, eq=False)
class _Pruning:
    """What remains of each of the 2²¹ codes.

    Attributes:
        code: pruned code, −1 where no valid cell remains, ``[2²¹]``.
        kept: bit t − 1 is set where inner slot t remains, ``[2²¹]``.
    """

    code: npt.NDArray[np.int32]
    kept: npt.NDArray[np.uint8]


def _sources(codes: npt.NDArray[np.int32], slot: int) -> npt.NDArray[np.int32]:
    """Bit s is set where there is an edge s → ``slot``, ``[N]``."""
    return (codes >> (slot * (slot - 1) // 2)) & ((1 << slot) - 1)


@lru_cache(maxsize=1)
def _pruning() -> _Pruning:
    """Half a second and 10 MB, once a process."""
    every = np.arange(1 << len(EDGES), dtype=np.int32)
    columns = [_sources(every, d) for d in range(SLOTS)]
    ahead = np.ones_like(every)  # reached from the input
    for d in range(1, SLOTS):
        ahead |= ((columns[d] & ahead) != 0).astype(np.int32) << d
    behind = np.full_like(every, 1 << _OUTPUT)  # leads to the output
    for d in range(_OUTPUT, 0, -1):
        behind |= np.where(behind >> d & 1, columns[d], 0)
    on_path = ahead & behind
    popcount = np.array([i.bit_count() for i in range(1 << SLOTS)], dtype=np.int8)
    edges = np.zeros(len(every), dtype=np.int8)
    for d in range(1, SLOTS):
        edges += np.where(on_path >> d & 1, popcount[columns[d] & on_path], 0).astype(np.int8)
    valid = (on_path >> _OUTPUT & 1).astype(np.bool_) & (edges <= MOST_EDGES)

    kept = (on_path >> 1 & ((1 << INNER) - 1)).astype(np.uint8)
    pruned = np.full_like(every, -1)
    for mask in range(1 << INNER):
        rows = np.flatnonzero(valid & (kept == mask))
        slots = [0, *(t for t in range(1, _OUTPUT) if mask >> (t - 1) & 1), _OUTPUT]
        to = [*range(len(slots) - 1), _OUTPUT]
        codes = np.zeros(len(rows), dtype=np.int32)
        for (i, s), (j, d) in itertools.combinations(list(enumerate(slots)), 2):
            codes |= (every[rows] >> _BIT[s, d] & 1) << _BIT[to[i], to[j]]
        pruned[rows] = codes
    return _Pruning(pruned, kept)


#: For each set of kept slots, as bits: which slot every slot is filled from, and whether it is.
_KEPT = np.arange(1 << INNER)[:, None] >> np.arange(INNER) & 1
_FROM = np.argsort(1 - _KEPT, axis=1, kind="stable")
_FILLED = np.take_along_axis(_KEPT, _FROM, axis=1)
_TO = np.argsort(_FROM, axis=1)
#: For each number of vertices, the slots that they fill from the front.
_FULL = (np.arange(INNER) < np.arange(INNER + 1)[:, None]).astype(np.int64)


def prune(codes: Ints, ops: Ints) -> Cells:
    """Without the vertices that lie on no path from input to output.

    Args:
        codes: ``[N]``.
        ops: of the inner slots, ``[N, 5]``.

    Returns:
        Codes, −1 where nothing valid remains, and ops of the slots that remain.
    """
    table = _pruning()
    mask = table.kept[codes]
    moved = np.take_along_axis(ops, _FROM[mask], axis=1) * _FILLED[mask]
    return table.code[codes].astype(np.int64), moved


def vertices_of(codes: Ints) -> Ints:
    """How many inner vertices pruned cells have, ``[N]``."""
    filled = [edges_into(codes, slot) > 0 for slot in range(1, _OUTPUT)]
    return np.asarray(np.sum(filled, axis=0), dtype=np.int64)


def edges_into(codes: Ints, slot: int) -> Ints:
    """The sources of a slot as bits, ``[N]``."""
    return np.asarray((codes >> (slot * (slot - 1) // 2)) & ((1 << slot) - 1), dtype=np.int64)


def vertex_channels(codes: Ints, channels: int) -> Ints:
    """Channels of the inner vertices of pruned cells, ``[N, 5]``; 0 where a slot is empty.

    What is concatenated at the output shares its channels, the first vertices one more where
    that leaves a remainder; any other vertex has as many as the widest it leads to (§2.3).
    """
    into = edges_into(codes, _OUTPUT)[:, None] >> np.arange(1, _OUTPUT) & 1
    many = np.maximum(into.sum(axis=1), 1)[:, None]
    rank = np.cumsum(into, axis=1) - into
    widths = into * (channels // many + (rank < channels % many))
    for t in range(INNER, 0, -1):
        for d in range(t + 1, _OUTPUT):
            inherited = (codes >> _BIT[t, d] & 1) * widths[:, d - 1] * (1 - into[:, t - 1])
            widths[:, t - 1] = np.maximum(widths[:, t - 1], inherited)
    return np.asarray(widths, dtype=np.int64)


# ------------------------------------------------------------------ isomorphism


@dataclass(frozen=True, slots=True, eq=False)
class _Orbits:
    """The least code of each pruned graph, and the ways there.

    Attributes:
        codes: every pruned graph, ascending, ``[G]``.
        least: its least code over the orders of its vertices, ``[G]``.
        count: how many orders lead there: its automorphisms, ``[G]``.
        ways: for each, the slot that every slot of the least is filled from, ``[K, G, 5]``.
    """

    codes: Ints
    least: Ints
    count: Ints
    ways: Ints


@lru_cache(maxsize=1)
def _orbits() -> _Orbits:
    codes = np.unique(_pruning().code)[1:].astype(np.int64)
    vertices = vertices_of(codes)
    orders = list(itertools.permutations(range(INNER)))
    moved = np.full((len(orders), len(codes)), np.iinfo(np.int64).max)
    for i, order in enumerate(orders):
        to = [0, *(slot + 1 for slot in order), _OUTPUT]
        # Empty slots stay where they are, and no edge may point backwards.
        legal = np.array([order[k:] == tuple(range(k, INNER)) for k in range(SLOTS - 1)])[vertices]
        new = np.zeros_like(codes)
        for bit, (s, d) in enumerate(EDGES):
            present = codes >> bit & 1
            if to[s] < to[d]:
                new |= present << _BIT[to[s], to[d]]
            else:
                legal &= present == 0
        moved[i, legal] = new[legal]
    least = moved.min(axis=0)
    leads = moved == least
    count = leads.sum(axis=0)
    first = np.argsort(~leads, axis=0, kind="stable")[: count.max()]
    return _Orbits(codes, least, count, np.argsort(np.array(orders), axis=1)[first])


_PLACES = len(OPS) ** np.arange(INNER - 1, -1, -1)


def canonical_cells(codes: Ints, ops: Ints) -> Cells:
    """The representative of each pruned cell's isomorphism class.

    The least code over all orders of the vertices, and among equal ones the least ops: what
    the published enumeration, counting up, meets first and so keeps in its table. Which of
    the isomorphic cells that is matters, since the remainder in :func:`vertex_channels` goes
    by the order of the vertices.
    """
    table = _orbits()
    graph = np.searchsorted(table.codes, codes)
    labels = np.full(len(codes), np.iinfo(np.int64).max)
    for k, ways in enumerate(table.ways):
        rows = np.flatnonzero(table.count[graph] > k)
        moved = np.take_along_axis(ops[rows], ways[graph[rows]], axis=1)
        labels[rows] = np.minimum(labels[rows], moved @ _PLACES)
    return table.least[graph], _ops(labels)


def _ops(labels: Ints) -> Ints:
    """Ops ``[N, 5]`` of labels ``[N]``, numbers in base 3."""
    return labels[:, None] // _PLACES % len(OPS)


@lru_cache(maxsize=1)
def _classes() -> tuple[Ints, Ints]:
    """Code and ops, as one number, of the representative of each isomorphism class."""
    table = _orbits()
    least = table.codes[table.codes == table.least]
    vertices = vertices_of(least)
    # Empty slots come last, so their zeros are the last digits.
    each = len(OPS) ** vertices
    codes = np.repeat(least, each)
    step = np.repeat(len(OPS) ** (INNER - vertices), each)
    labels = (np.arange(len(codes)) - np.repeat(np.cumsum(each) - each, each)) * step
    kept = canonical_cells(codes, _ops(labels))[1] @ _PLACES == labels
    return codes[kept], labels[kept]


def class_cells() -> Cells:
    """The representatives of all isomorphism classes, 423,624 as published."""
    codes, labels = _classes()
    return codes, _ops(labels)


def draw_cells(n: int, rng: np.random.Generator) -> Cells:
    """Unpruned cells of uniformly drawn classes, with replacement.

    A cell is put in any order that its edges allow, its vertices into any slots; empty slots
    have no edges, but an op.
    """
    table = _orbits()
    codes, labels = _classes()
    drawn = rng.integers(0, len(codes), size=n)
    # One of the graphs that are isomorphic to the least: they stand side by side once sorted.
    by_least = np.argsort(table.least, kind="stable")
    begin = np.searchsorted(table.least[by_least], codes[drawn])
    end = np.searchsorted(table.least[by_least], codes[drawn], side="right")
    graph = by_least[rng.integers(begin, end)]
    ops = np.empty((n, INNER), dtype=np.int64)
    np.put_along_axis(ops, table.ways[0, graph], _ops(labels[drawn]), axis=1)

    codes = table.codes[graph]
    vertices = vertices_of(table.codes)[graph]
    rows = np.flatnonzero(vertices < INNER)
    mask = rng.permuted(_FULL[vertices[rows]], axis=1) @ (1 << np.arange(INNER))
    empty = rng.integers(0, len(OPS), size=(len(rows), INNER))
    moved = np.take_along_axis(ops[rows], _TO[mask], axis=1)
    ops[rows] = np.where(_KEPT[mask] > 0, moved, empty)
    codes[rows] = _spread(codes[rows], mask)
    return codes, ops


def _spread(codes: Ints, mask: Ints) -> Ints:
    """Codes whose vertices stand in the slots of ``mask``, in order; undoes the pruning."""
    slots = np.pad(_FROM[mask] + 1, ((0, 0), (1, 1)))
    slots[:, _OUTPUT] = _OUTPUT
    new = np.zeros_like(codes)
    for bit, (s, d) in enumerate(EDGES):
        # Bit of the edge between the slots; nonsense, but times 0, where there is no edge.
        new |= (codes >> bit & 1) << (slots[:, d] * (slots[:, d] - 1) // 2 + slots[:, s])
    return new
