"""NAS-Bench-101: its count, hash, pruning, channels and notation against what is published."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import networkx as nx
import numpy as np
import pytest
import torch
from torch import nn

from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.cells.nasbench101 import NasBench101Space
from scholarch.searchspace.cells.nasbench101_graph import EDGES, OPS, vertex_channels
from scholarch.searchspace.cells.nasbench101_hash import module_hash
from scholarch.searchspace.elastic import Trace
from scholarch.searchspace.errors import InvalidInputError

CONV3, CONV1, POOL = OPS
#: The cell of the benchmark's README, and the first of its table.
INCEPTION = (
    "[[0,1,1,1,0,1,0],[0,0,0,0,0,0,1],[0,0,0,0,0,0,1],[0,0,0,0,1,0,0],[0,0,0,0,0,0,1],"
    f"[0,0,0,0,0,0,1],[0,0,0,0,0,0,0]];input,{CONV1},{CONV3},{CONV3},{CONV3},{POOL},output"
)
FIRST = (
    "[[0,1,0,0,1,1,0],[0,0,1,0,0,0,0],[0,0,0,1,0,0,1],[0,0,0,0,0,1,0],[0,0,0,0,0,1,0],"
    f"[0,0,0,0,0,0,1],[0,0,0,0,0,0,0]];input,{CONV3},{POOL},{CONV3},{CONV3},{CONV1},output"
)


@pytest.fixture(scope="module")
def space() -> NasBench101Space:
    return NasBench101Space("nasbench101")


def counted_up(vertices: int) -> Iterator[tuple[np.ndarray, tuple[int, ...]]]:
    """Cells that need no pruning, in the order of the published enumeration."""
    pairs = [(s, d) for d in range(vertices) for s in range(d)]
    for bits in range(1 << len(pairs)):
        matrix = np.zeros((vertices, vertices), dtype=np.int64)
        for i, pair in enumerate(pairs):
            matrix[pair] = bits >> i & 1
        if matrix[:-1].any(axis=1).all() and matrix[:, 1:].any(axis=0).all() and matrix.sum() < 10:
            for ops in itertools.product(range(len(OPS)), repeat=vertices - 2):
                yield matrix, ops


def parse(space: NasBench101Space, matrix: np.ndarray, ops: tuple[int, ...]) -> Architecture:
    names = ["input", *(OPS[op] for op in ops), "output"]
    return space.parse(f"{matrix.tolist()};{names}")


def test_published_params_and_hash(space: NasBench101Space) -> None:
    archs = [space.parse(INCEPTION), space.parse(FIRST)]
    assert [str(arch) for arch in archs] == [INCEPTION, FIRST]
    assert space.cost(archs)["params"].tolist() == [2_694_282, 8_555_530]
    assert space.module_hash(archs[1]) == "00005c142e6f48ac74fdcf73e3439874"
    # What stands in the table is its own representative.
    row = space.encode(archs[1:])
    assert np.array_equal(space.canonical(row), row)


def test_classes_are_as_many_as_published(space: NasBench101Space) -> None:
    rows = space.enumerate_matrix()
    assert len(rows) == space.size == 423_624
    assert len(np.unique(rows @ (3 ** np.arange(rows.shape[1])))) == len(rows)
    some = rows[:: len(rows) // 3000]
    assert np.array_equal(space.canonical(some), some)
    assert np.array_equal(np.lexsort(some.T[::-1]), np.arange(len(some)))
    with pytest.raises(InvalidInputError, match="more than 1,000"):
        space.enumerate_matrix(limit=1000)


def test_up_to_five_vertices_the_first_of_each_hash_is_the_representative(
    space: NasBench101Space,
) -> None:
    first: dict[str, tuple[np.ndarray, tuple[int, ...]]] = {}
    cells = [cell for vertices in range(2, 6) for cell in counted_up(vertices)]
    hashes = [module_hash(*cell) for cell in cells]
    for digest, cell in zip(hashes, cells, strict=True):
        first.setdefault(digest, cell)
    assert len(first) == 2532
    matrix = space.encode([parse(space, *cell) for cell in cells])
    keys = space.keys(matrix)
    assert len({*zip(keys, hashes, strict=True)}) == len({*keys}) == 2532
    kept = space.encode([parse(space, *cell) for cell in first.values()])
    assert np.array_equal(space.canonical(kept), kept)


def test_keys_hashes_and_graph_isomorphism_agree(space: NasBench101Space) -> None:
    # Mutants of few cells, so that there are twins.
    rng = np.random.default_rng(0)
    rows = space.sample_matrix(4, seed=0)
    for _ in range(3):
        rows = np.concatenate([rows, *(space.mutate(rows, rng) for _ in range(3))])
    archs = space.decode(rows)
    assert 40 < len({arch.key for arch in archs}) < len(archs) - 40
    hashes = {arch.key: space.module_hash(arch) for arch in archs}
    assert len({*hashes.values()}) == len(hashes)
    assert all(space.module_hash(arch) == hashes[arch.key] for arch in archs)
    for one, two in itertools.combinations(archs[:60], 2):
        twins = nx.is_isomorphic(space.graph(one), space.graph(two), lambda a, b: a == b)
        assert twins == (one.key == two.key)


def test_what_lies_on_no_path_is_pruned(space: NasBench101Space) -> None:
    plain = space.parse(f"[[0,1,0],[0,0,1],[0,0,0]];input,{CONV3},output")
    # Slot 2 leads nowhere, slot 3 comes from nowhere; all 10 edges are too many, those kept not.
    edges = {(0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (3, 6), (4, 5), (4, 6), (5, 6), (1, 6)}
    row = np.array([[*((pair in edges) for pair in EDGES), 0, 1, 2, 1, 2]], dtype=np.int64)
    dangling = space.decode(row)[0]
    assert dangling.key == plain.key
    assert str(dangling) != str(plain)
    assert space.cost([dangling]) == space.cost([plain])
    matrix, ops = space.cell(dangling)
    assert matrix.tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert ops == ["input", CONV3, "output"]
    assert sorted(space.graph(dangling).edges) == [(0, 1), (1, 2)]
    assert space.graph(dangling).nodes[1]["op"] == CONV3
    row[0, EDGES.index((1, 6))] = 0
    assert not space.valid(row)[0]
    everything = np.array([[1] * 21 + [0] * 5])
    assert not space.valid(everything)[0]


@pytest.mark.parametrize(
    ("edges", "channels", "expected"),
    [
        ([(0, 1), (1, 2), (2, 6)], 16, [16, 16, 0, 0, 0]),
        ([(0, 1), (0, 2), (1, 6), (2, 6)], 15, [8, 7, 0, 0, 0]),
        ([(0, 1), (0, 2), (0, 3), (1, 6), (2, 6), (3, 6)], 8, [3, 3, 2, 0, 0]),
        ([(0, 1), (1, 2), (1, 3), (2, 6), (3, 6)], 9, [5, 5, 4, 0, 0]),
        ([(0, 1), (1, 2), (0, 3), (1, 6), (2, 3), (3, 6)], 15, [8, 7, 7, 0, 0]),
        ([(0, 6)], 5, [0, 0, 0, 0, 0]),
    ],
)
def test_channels_are_shared_as_published(
    edges: list[tuple[int, int]], channels: int, expected: list[int]
) -> None:
    code = np.array([sum(1 << EDGES.index(edge) for edge in edges)])
    assert vertex_channels(code, channels)[0].tolist() == expected


def test_notations_that_are_read(space: NasBench101Space) -> None:
    arch = space.parse(f"[[0,1,1],[0,0,1],[0,0,0]];input,{POOL},output")
    for text in (
        f"011001000;input,{POOL},output",
        f"([[0, 1, 1], [0, 0, 1], [0, 0, 0]], ['input', '{POOL}', 'output'])",
        f'{{"matrix": [[0,1,1],[0,0,1],[0,0,0]], "ops": ["input","{POOL}","output"]}}',
    ):
        assert space.parse(text) == arch
    assert str(space.parse("[[0,1],[0,0]];input,output")) == "[[0,1],[0,0]];input,output"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"[[0,1],[1,0]];input,{CONV1}", "input first, output last"),
        ("[[0,1],[1,0]];input,output", "below the diagonal"),
        (f"[[0,1],[0,0]];input,{CONV1},output", "4 entries and 3 ops"),
        (f"[[0,1,0],[0,0,0],[0,0,0]];input,{CONV1},output", "a path to the output"),
        ("[[0,2],[0,0]];input,output", "write it like"),
        ("[[0,1],[0,0]];input,conv5x5-bn-relu,output", "write it like"),
        (f"{'0' * 64};input,{','.join([POOL] * 6)},output", "V = 2 … 7"),
    ],
)
def test_cells_outside_are_refused_with_a_reason(
    space: NasBench101Space, text: str, said: str
) -> None:
    with pytest.raises(InvalidInputError, match=said):
        space.parse(text)


def test_samples_are_uniform_over_classes_in_any_order(space: NasBench101Space) -> None:
    archs = space.sample(2000, seed=0)
    vertices = np.bincount([len(space.cell(arch)[1]) for arch in archs], minlength=8) / len(archs)
    # Of the 423,624 classes, 359,082 have seven vertices and 62,010 six.
    assert vertices[7] == pytest.approx(359_082 / 423_624, abs=0.03)
    assert vertices[6] == pytest.approx(62_010 / 423_624, abs=0.03)
    rows = space.encode(archs)
    assert 0.2 < (space.canonical(rows) == rows).all(axis=1).mean() < 0.6
    with pytest.raises(InvalidInputError, match="-1"):
        space.sample_matrix(-1)


@pytest.mark.parametrize("rate", [None, 0.3, 0.8])
def test_children_are_valid(space: NasBench101Space, rate: float | None) -> None:
    rng = np.random.default_rng(0)
    rows = space.enumerate_matrix()[::500]
    children = space.mutate(rows, rng, rate)
    assert space.valid(children).all()
    assert (children != rows).any(axis=1).all()
    crossed = space.crossover(rows, children, rng)
    assert space.valid(crossed).all()
    assert ((crossed == rows) | (crossed == children)).all()


def test_depth_is_the_longest_path(space: NasBench101Space) -> None:
    archs = space.sample(50, seed=3)
    for arch, depth in zip(archs, space.cost(archs)["depth"], strict=True):
        graph = space.graph(arch)
        for source, target, edge in graph.edges(data=True):
            op = graph.nodes[target]["op"]
            edge["weight"] = (source == 0) + (op in (CONV3, CONV1))
        assert depth == 2 + 9 * nx.dag_longest_path_length(graph)


def test_every_convolution_of_the_supernet_is_traced() -> None:
    space = NasBench101Space("nasbench101", width_mult=0.125, num_classes=4)
    network = space.supernet(seed=0, init="normal").train().requires_grad_(False)
    network.track_statistics(False)
    for arch in space.sample(4, seed=0):
        trace = Trace(want_weights=True, want_relus=True)
        x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        for step in network.steps(arch):
            x = network.run_step(step, x, trace)
        plain = network.extract(arch)
        convs = [m.weight.shape for m in plain.modules() if isinstance(m, nn.Conv2d)]
        assert sorted(weight.shape for weight in trace.weights) == sorted(convs)
        assert len(trace.relus) == len(convs)
        x.sum().backward()
        assert all(weight.grad is not None for weight in trace.weights)
