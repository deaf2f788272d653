"""NAS-Bench-201: notation, classes, costs and networks as the benchmark has them."""

from __future__ import annotations

import csv
import gzip
import math
from functools import cache
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from scholarch.proxies.batch import Batch
from scholarch.proxies.scoring import Scorer
from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.cells.graph import on_paths
from scholarch.searchspace.cells.nasbench201 import cell_graph, expression
from scholarch.searchspace.cells.nasbench201_net import Reduction
from scholarch.searchspace.elastic import Trace
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space

SPACE = create_space("nasbench201")
SMALL = create_space("nasbench201", num_classes=4, width_mult=0.25, cells=2)

MIXED = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"
EMPTY = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
#: Node 2 leads nowhere, node 1 is fed by nothing.
ENDS_DEAD = "|none~0|+|nor_conv_3x3~0|none~1|+|nor_conv_1x1~0|nor_conv_1x1~1|none~2|"
ENDS_LIVE = "|none~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|"


NAMES = {
    "-": "none",
    "s": "skip_connect",
    "1": "nor_conv_1x1",
    "3": "nor_conv_3x3",
    "p": "avg_pool_3x3",
}


def cell(ops: str) -> str:
    """``"abcdef"`` → ``|a~0|+|b~0|c~1|+|d~0|e~1|f~2|``."""
    a, b, c, d, e, f = (NAMES[op] for op in ops)
    return f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"


@cache
def every() -> np.ndarray:
    return SPACE.enumerate_matrix()


@pytest.fixture(scope="module")
def table(data_dir: Path) -> list[dict[str, str]]:
    """The open half: whole isomorphism groups."""
    with gzip.open(data_dir / "nasbench201_open_half.csv.gz", "rt", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# ---------------------------------------------------------------------- notation, classes


def test_genes_are_the_notations_operations_in_its_order() -> None:
    assert SPACE.size == 15_625
    assert SPACE.parse(MIXED).choices == (3, 0, 2, 1, 4, 3)
    assert str(SPACE.decode(np.array([[3, 0, 2, 1, 4, 3]]))[0]) == MIXED


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (MIXED.replace("skip_connect", "skip"), "'skip' is no operation.*known: none, skip_conn"),
        (MIXED.replace("none~0", "none~1"), "is no cell of 'nasbench201'; write it like"),
        (MIXED[1:], "is no cell"),
        (MIXED + "+|none~0|none~1|none~2|none~3|", "is no cell"),
    ],
)
def test_what_lies_outside_is_named(text: str, complaint: str) -> None:
    with pytest.raises(InvalidInputError, match=complaint):
        SPACE.parse(text)


@pytest.mark.parametrize("cells", [0, 21, 2.0, True])
def test_cells_out_of_range_are_refused(cells: float) -> None:
    with pytest.raises(InvalidInputError, match="whole number from 1 to 20"):
        create_space("nasbench201", cells=cells)


def test_options_are_part_of_the_spec() -> None:
    again = create_space(**SMALL.spec())
    assert (again.cells, again.channels) == (SMALL.cells, SMALL.channels) == (2, 4)
    assert [create_space("nasbench201", width_mult=m).channels for m in (0.5, 1, 2)] == [8, 16, 32]


def test_there_are_6466_classes() -> None:
    assert len(set(SPACE.keys(every()))) == len(np.unique(SPACE.canonical(every()), axis=0)) == 6466


def test_keys_are_those_of_the_canonical_rows() -> None:
    rows = SPACE.sample_matrix(200, seed=0)
    assert SPACE.keys(rows) == [SPACE.keys(row[None])[0] for row in SPACE.canonical(rows)]


def test_expressions_by_hand() -> None:
    """Dead ends vanish, skips are what they are given, sums are sorted."""
    for ops, text in (
        ("3--s--", "#+#+0"),
        ("3s--s-", "#+#+(0)@nor_conv_3x3"),
        ("s-3--s", "#+#+#+(0)@nor_conv_3x3"),
        ("1sp-3-", "#+#+((0)@nor_conv_1x1)@nor_conv_3x3"),
        ("--3-3s", "#+#+#+#"),
    ):
        graph = cell_graph(SPACE.parse(cell(ops)).choices)
        assert expression(graph) == text


def test_isomorphic_cells_share_a_key() -> None:
    def key(ops: str) -> str:
        return SPACE.parse(cell(ops)).key

    assert key("3--1--") == key("---1--") == key("3331--")  # dead ends
    assert key("-s--31") == key("-s--p1") == key("-s---1")  # fed by nothing
    assert key("3--1s-") == key("s--31-")  # a skip is what it is given
    assert key("s31--s") == key("s13--s")  # a sum has no order
    assert len({key(ops) for ops in ("3---1-", "1---3-", "3---3-")}) == 3
    # The benchmark's string, not the function, decides: one shared convolution is as two, ...
    assert key("3-s-ss") == key("33--ss")
    # ... and the zero beside the second term makes inner nodes differ that change places.
    assert key("31--ss") != key("13--ss")


def test_the_representative_is_the_cheapest_of_its_class() -> None:
    representatives = SPACE.canonical(every())
    assert SPACE.keys(representatives) == SPACE.keys(every())
    for width_mult in (0.125, 1.0, 4.0):
        space = create_space("nasbench201", width_mult=width_mult)
        costs, least = space.cost(every()), space.cost(representatives)
        for name in ("params", "macs", "peak_memory"):
            assert (least[name] <= costs[name]).all()
        assert (least["params"] < costs["params"]).sum() > 1000
        assert np.array_equal(least["depth"], costs["depth"])


def test_keys_and_groups_of_the_benchmark_agree(table: list[dict[str, str]]) -> None:
    keys = [SPACE.parse(row["arch_str"]).key for row in table]
    groups = [row["iso_group"] for row in table]
    pairs = set(zip(keys, groups, strict=True))
    assert len(pairs) == len(set(keys)) == len(set(groups)) == 3233


# ---------------------------------------------------------------------- costs


def test_golden_costs() -> None:
    for ops, params, macs in (
        ("p33ppp", 559_386, 78_561_920),
        ("1s13-p", 372_346, 51_036_800),
        ("3--p33", 802_426, 113_951_360),
        ("------", 73_306, 7_783_040),
        ("333333", 1_531_546, 220_119_680),
    ):
        costs = SPACE.cost([SPACE.parse(cell(ops))])
        assert (costs["params"][0], costs["macs"][0]) == (params, macs)


def test_costs_are_the_benchmarks_columns(table: list[dict[str, str]]) -> None:
    archs = [SPACE.parse(row["arch_str"]) for row in table]
    costs = SPACE.cost(archs)
    for name in ("params", "macs"):
        assert np.array_equal(costs[name], [float(row[name]) for row in table])
    assert [str(arch) for arch in archs] == [row["arch_str"] for row in table]


def test_depth_by_hand() -> None:
    """Stem, two convolutions in each of two residual blocks, classifier; 15 cells."""
    for text, convolutions in (
        (MIXED, 3),
        (EMPTY, 0),
        (ENDS_DEAD, 1),
        (cell("313333"), 3),
        (cell("s1p31s"), 1),
    ):
        assert SPACE.cost([SPACE.parse(text)])["depth"] == 6 + 15 * convolutions


def test_depth_is_the_longest_path_of_the_graph() -> None:
    rows = SPACE.sample_matrix(300, seed=0)
    for row, depth in zip(rows.tolist(), SPACE.cost(rows)["depth"], strict=True):
        graph = cell_graph(row)
        edges = list(graph.edges(data="op"))
        graph.remove_edges_from([(i, j) for i, j, op in edges if op == "none"])
        live = graph.subgraph(on_paths(graph, 0, 3)).copy()
        for *_, data in live.edges(data=True):
            data["weight"] = int("conv" in data["op"])
        assert depth == 6 + 15 * nx.dag_longest_path_length(live)


def test_nodes_on_paths() -> None:
    graph = nx.DiGraph([(0, 1), (1, 3), (0, 2), (4, 3)])
    assert on_paths(graph, 0, 3) == {0, 1, 3}
    assert on_paths(graph, 2, 3) == set()


# ---------------------------------------------------------------------- networks


def shifted(network: nn.Module) -> nn.Module:
    """Batch norms that are not at their initial values."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for tensor in [*network.parameters(), *network.buffers()]:
            if tensor.dim() == 1:
                tensor.add_(torch.rand(tensor.shape, generator=generator))
    return network


def images(count: int = 2, side: int = 16) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_a_cell_by_hand() -> None:
    network = shifted(SMALL.build(SMALL.parse(MIXED))).eval()
    plain = network.get_submodule("stages.0.0")
    x = images()[:, :1].repeat(1, 4, 1, 1)
    with torch.no_grad():

        def conv(edge: int, value: Tensor) -> Tensor:
            layer = plain.get_submodule(f"edges.{edge}")[1]
            kernel = layer[0].weight
            out = functional.conv2d(value.clamp_min(0), kernel, padding=kernel.shape[-1] // 2)
            return layer[1](out)

        first = conv(0, x)
        ones = functional.pad(torch.ones_like(x), (1, 1, 1, 1))
        padded = functional.pad(first, (1, 1, 1, 1))
        # Border pixels are means of the 4 or 6 that exist.
        mean = functional.avg_pool2d(padded, 3, 1) / functional.avg_pool2d(ones, 3, 1)
        expected = x + mean + conv(5, conv(2, first))
        assert torch.allclose(plain(x), expected, atol=1e-5)


@pytest.mark.parametrize("side", [1, 2, 5, 7])
def test_images_of_any_size(side: int) -> None:
    arch = SMALL.parse(MIXED)
    supernet = shifted(SMALL.supernet(seed=1)).eval()
    with torch.no_grad():
        out = supernet(images(side=side), arch)
        assert torch.equal(out, supernet.extract(arch)(images(side=side)))
    assert SMALL.stages(arch, resolution=side)[-2].resolution == -(-side // 4)


def test_isomorphic_networks_compute_the_same() -> None:
    """With the same weights, wherever in the cell they are used."""
    one, other = (SMALL.parse(cell(ops)) for ops in ("3--1s-", "s--31-"))
    assert one.key == other.key
    plain, moved = (shifted(SMALL.build(arch)).eval() for arch in (one, other))
    now = {"edges.0.": "edges.3.", "edges.3.": "edges.4."}
    state = {}
    for name, tensor in plain.state_dict().items():
        old = next((edge for edge in now if edge in name), "")
        state[name.replace(old, now.get(old, ""))] = tensor
    moved.load_state_dict(state)
    with torch.no_grad():
        assert torch.equal(plain(images()), moved(images()))


def traced(arch: Architecture, *, grad: bool) -> tuple[Tensor, Trace, list[Tensor]]:
    """Final map, everything recorded, and every step's output."""
    network = SMALL.supernet(seed=1, init="normal").train().requires_grad_(False)
    network.track_statistics(False)
    trace = Trace(want_weights=grad, want_relus=True, want_maps=True, he=True)
    x, outputs = images(), []
    with torch.set_grad_enabled(grad):
        for step in network.steps(arch):
            given = x.detach().clone()
            out = network.run_step(step, x, trace)
            assert torch.equal(given, x), "a step changed what it was given"
            outputs.append(out.detach().clone())
            x = out
    return x, trace, outputs


@pytest.mark.parametrize("text", [MIXED, ENDS_DEAD, EMPTY, cell("s3s1s3"), cell("333333")])
def test_no_relu_spoils_what_others_read(text: str) -> None:
    (_, _, still), (_, _, moving) = (traced(SMALL.parse(text), grad=grad) for grad in (False, True))
    assert all(torch.equal(a, b) for a, b in zip(still, moving, strict=True))


@pytest.mark.parametrize("text", [MIXED, EMPTY, cell("333333"), cell("1p1s3p")])
def test_every_weight_map_and_relu_is_traced(text: str) -> None:
    arch = SMALL.parse(text)
    out, trace, _ = traced(arch, grad=True)
    plain = SMALL.build(arch)
    convs = [m.weight for m in plain.modules() if isinstance(m, nn.Conv2d)]
    assert sorted(w.shape for w in trace.weights) == sorted(w.shape for w in convs)
    # One ReLU an edge, each counted, as published; no batch norm follows the two shortcuts.
    assert len(trace.relus) == sum(isinstance(m, nn.ReLU) for m in plain.modules())
    assert len(trace.maps) == len(convs) - 2
    grads = torch.autograd.grad(out.sum(), trace.weights)
    assert all(grad.isfinite().all() for grad in grads)


def test_what_is_dead_leaves_no_trace() -> None:
    dead, live = (traced(SMALL.parse(text), grad=True) for text in (ENDS_DEAD, ENDS_LIVE))
    assert torch.equal(dead[0], live[0])
    for name in ("weights", "relus", "maps"):
        pairs = zip(getattr(dead[1], name), getattr(live[1], name), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_what_leads_nowhere_is_not_run() -> None:
    """In the nested network; standalone it runs, as published, and its MACs count."""
    dead = SPACE.parse(ENDS_DEAD)
    ends_cut = SPACE.parse(ENDS_DEAD.replace("nor_conv_3x3", "none"))
    supernet = SPACE.supernet().eval()
    for network, expected in (
        (lambda x: supernet(x, dead), ends_cut),
        (supernet.extract(dead), dead),
    ):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.zeros(1, 3, 32, 32))
        assert counter.get_total_flops() == SPACE.cost([expected])["flops"]


def test_gradients_are_those_of_he_initialisation() -> None:
    """The shortcuts' as well, which no batch norm follows; scoring brings them to variance 1."""
    pictures = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    batch = Batch(pictures, torch.arange(6) % 4, 4, (0.5,) * 3, (0.3,) * 3)
    arch = SMALL.parse(MIXED)
    scored = Scorer(SMALL, ["grad_norm"], batch=batch, seed=5).table([arch])
    network = SMALL.supernet(seed=5, init="normal").extract(arch).train()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.mul_(math.sqrt(2.0 / module.weight[0].numel()))
            elif isinstance(module, nn.Linear):
                module.weight.mul_(math.sqrt(1.0 / module.in_features))
            elif isinstance(module, Reduction):
                module.project.register_forward_hook(lambda _, __, out: out / out.detach().std())
    loss = functional.cross_entropy(network(batch.normalised), batch.labels)
    weights = [p for p in network.parameters() if p.dim() > 1]
    expected = sum(float(g.norm()) for g in torch.autograd.grad(loss, weights))
    assert scored["grad_norm"][0] == pytest.approx(expected, rel=1e-4)
