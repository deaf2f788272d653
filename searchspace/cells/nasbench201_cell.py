"""NAS-Bench-201's cell (Dong & Yang, ICLR 2020, §2.1), plain and elastic.

Four nodes, an operation on each of the six edges; a node is the sum of what its edges give.
Convolutions are preactivated: ReLU, convolution, batch norm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache, reduce
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..convnets.residual import ConvNorm, ElasticConvNorm
from ..elastic import Trace
from .graph import edge_dag, on_paths

__all__ = ["EDGES", "NODES", "OPS", "Cell", "ConvOperation", "ElasticCell"]

OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
NONE, SKIP, CONV1, CONV3, POOL = range(5)
KERNELS = {CONV1: 1, CONV3: 3}
NODES = 4
#: Source and target of each operation, in the order of the notation.
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))


def _run_cell(x: Tensor, ops: Sequence[int], run: Callable[[int, int, Tensor], Tensor]) -> Tensor:
    """The dataflow of a cell: each node sums its operations' outputs.

    Args:
        x: the first node.
        ops: of each edge.
        run: (edge, source node, its value) → the operation's output.
    """
    nodes: list[Tensor | None] = [x]

    def value(node: int) -> Tensor:
        known = nodes[node]
        # Zeros that stay in the graph: the weights before them have a gradient, zero.
        return x.mul(0.0) if known is None else known

    for node in range(1, NODES):
        terms = [
            run(edge, source, value(source))
            for edge, (source, target) in enumerate(EDGES)
            if target == node and ops[edge] != NONE
        ]
        nodes.append(reduce(torch.add, terms) if terms else None)
    return value(NODES - 1)


class ConvOperation(nn.Sequential):
    """ReLU, convolution, batch norm."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__(nn.ReLU(), ConvNorm(c_in, c_out, kernel, stride, act=False))

    @property
    def conv(self) -> ConvNorm:
        """The convolution with its batch norm."""
        return cast(ConvNorm, self[1])


class Cell(nn.Module):
    """A cell; every edge but ``none`` runs, whether or not its output is used, as published.

    Args:
        ops: of each edge.
        channels: in and out.
    """

    def __init__(self, ops: Sequence[int], channels: int) -> None:
        super().__init__()
        self.ops = tuple(ops)
        self.edges = nn.ModuleList()
        for op in ops:
            if op in KERNELS:
                self.edges.append(ConvOperation(channels, channels, KERNELS[op]))
            elif op == POOL:
                self.edges.append(nn.AvgPool2d(3, 1, 1, count_include_pad=False))
            else:
                self.edges.append(nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        return _run_cell(x, self.ops, lambda edge, _, value: self.edges[edge](value))


@cache
def _uses(ops: tuple[int, ...]) -> tuple[tuple[bool, bool], ...]:
    """For each edge: whether it leads to the output, and whether also from the input."""
    named = zip(EDGES, ops, strict=True)
    graph = edge_dag(NODES, ((i, j, OPS[op]) for (i, j), op in named if op != NONE))
    live = on_paths(graph, 0, NODES - 1)
    useful = {n for n in graph if on_paths(graph, n, NODES - 1)}
    return tuple((j in useful, i in live and j in live) for i, j in EDGES)


#: What an edge can do, and whether the input reaches it; ``none`` does nothing.
_KINDS = tuple((op, reached) for op in (SKIP, CONV1, CONV3, POOL) for reached in (True, False))


@lru_cache(maxsize=256)
def _rows(who: tuple[int, ...], count: int, images: int, device: torch.device) -> Tensor | None:
    """Places of some candidates' images among those of all; ``None``: they are all of them."""
    if len(who) == count:
        return None
    each = images // count
    first = torch.tensor(who, device=device).unsqueeze(1) * each
    return (first + torch.arange(each, device=device)).flatten()


class ElasticCell(nn.Module):
    """Both convolutions on every edge.

    An edge that does not lead to the output is left out. One that the input does not reach is
    run, as its batch norm's shift would show, but leaves no trace: to a score it is nothing.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList(
            nn.ModuleList(ElasticConvNorm(channels, channels, k, act=False) for k in (1, 3))
            for _ in EDGES
        )

    def _conv(self, edge: int, op: int) -> ElasticConvNorm:
        return cast(ElasticConvNorm, cast(nn.ModuleList, self.edges[edge])[op - CONV1])

    def forward(self, x: Tensor, ops: tuple[int, ...], trace: Trace) -> Tensor:
        uses, silent = _uses(ops), Trace()
        rectified: dict[int, Tensor] = {}

        def run(edge: int, source: int, value: Tensor) -> Tensor:
            op, note = ops[edge], trace if uses[edge][1] else silent
            if op == POOL:
                return trace.average_pool(value)
            if op not in KERNELS:
                return value
            # Computed once a node, kept once an edge: each edge has a ReLU of its own.
            if source not in rectified:
                rectified[source] = functional.relu(value)
            if note.want_relus:
                note.relus.append(rectified[source])
            return cast(Tensor, self._conv(edge, op)(rectified[source], x.shape[1], note))

        useful = [op if use else NONE for op, (use, _) in zip(ops, uses, strict=True)]
        return _run_cell(x, useful, run)

    def together(self, x: Tensor, cells: Sequence[tuple[int, ...]], trace: Trace) -> Tensor:
        """Cells of several candidates at once: an edge runs each operation for all that have it.

        Args:
            x: ``[K·B, C, H, W]``, candidate after candidate.
            cells: operations of each edge, for each of the K candidates.
            trace: of all of them; B is its :attr:`~Trace.images`.

        Returns:
            ``[K·B, C, H, W]``; sums are taken edge by edge, as for one candidate.
        """
        uses = [_uses(ops) for ops in cells]
        nodes = [x]
        rectified: dict[int, Tensor] = {}
        for node in range(1, NODES):
            total = torch.zeros_like(x)
            for edge, (source, target) in enumerate(EDGES):
                if target != node:
                    continue
                for op, reached in _KINDS:
                    who = tuple(
                        i
                        for i, ops in enumerate(cells)
                        if ops[edge] == op and uses[i][edge] == (True, reached)
                    )
                    if not who:
                        continue
                    if op in KERNELS and source not in rectified:
                        rectified[source] = functional.relu(nodes[source])
                    given = rectified[source] if op in KERNELS else nodes[source]
                    rows = _rows(who, len(cells), len(x), x.device)
                    part = given if rows is None else given.index_select(0, rows)
                    if op == POOL:
                        part = trace.average_pool(part)
                    elif op in KERNELS:
                        note = trace.part(who) if reached else Trace(images=trace.images)
                        part = self._conv(edge, op)(part, x.shape[1], note)
                    # In place: a copy of all candidates' maps for each would take the most time.
                    total = total.add_(part) if rows is None else total.index_add_(0, rows, part)
            nodes.append(total)
        return nodes[-1]

    def copy_into(self, plain: Cell) -> None:
        for edge, op in enumerate(plain.ops):
            if op in KERNELS:
                self._conv(edge, op).copy_into(cast(ConvOperation, plain.edges[edge]).conv)
