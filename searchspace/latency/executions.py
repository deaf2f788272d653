"""Which of a row's operations run when its network is measured, as far as runtimes differ.

Genes of layers that are not there never run. In a cell it depends on the runtime: PyTorch runs
whatever is written, a graph compiler drops what does not reach the output, and a converter that
folds constants drops more. A fit weighs these guesses by the measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from ..cells.nasbench201 import PLACES, NasBench201Space
from ..cells.nasbench201_cell import CONV1, CONV3, EDGES, NODES, NONE, OPS, SKIP
from ..conditional import ConditionalSpace
from ..space import Matrix, SearchSpace

__all__ = ["executions"]

Mask = npt.NDArray[np.bool_]
"""Which genes run, ``[N, genes]``."""

_Term = tuple[str, int]
"""A summand of a node: ``("input", 0)``, ``("conv" | "pool", edge)``, ``("sum", node)``, or
``("zeroed", node)``, the node's one convolution with weights of zero."""


def executions(space: SearchSpace, matrix: Matrix) -> dict[str, Mask]:
    """Guesses at what runs, name → ``[N, genes]``; the first is the network as written."""
    if isinstance(space, NasBench201Space):
        codes = matrix @ PLACES
        return {
            "written": np.ones(matrix.shape, dtype=np.bool_),
            "needed": _cells()[0][codes],
            "folded": _cells()[1][codes],
        }
    if isinstance(space, ConditionalSpace):
        return {"written": space._active(matrix)}
    return {"written": np.ones(matrix.shape, dtype=np.bool_)}


@cache
def _cells() -> tuple[Mask, Mask]:
    """Needed and folded of every NAS-Bench-201 cell in lexicographic order, ``[15625, 6]``."""
    rows = np.indices((len(OPS),) * len(EDGES)).reshape(len(EDGES), -1).T
    needed = np.zeros((len(rows), NODES), dtype=np.bool_)
    needed[:, -1] = True
    for edge in reversed(range(len(EDGES))):
        source, target = EDGES[edge]
        needed[:, source] |= needed[:, target] & (rows[:, edge] != NONE)
    targets = [target for _, target in EDGES]
    return needed[:, targets], np.array([_folded(row) for row in rows.tolist()])


def _folded(ops: Sequence[int]) -> list[bool]:
    """What is left of a cell by a converter for which ``none`` is a product with zero.

    It folds the product into a constant, unless the product can be fused into the convolution
    before it, which nothing else reads: that one stays and runs, its weights zero. An operation
    on a constant runs as well. Read off the latencies of a Raspberry Pi 4 (HW-NAS-Bench, Li et
    al., ICLR 2021), made with TensorFlow Lite; the code of the converter was not consulted.
    """
    terms: list[list[_Term]] = [[("input", 0)]]
    for node in range(1, NODES):
        terms.append([])
        for edge, (source, target) in enumerate(EDGES):
            if target == node:
                terms[node] += _term(ops, edge, source, terms[source])
    runs = [False] * len(EDGES)
    todo = list(terms[-1])
    while todo:
        kind, at = todo.pop()
        if kind == "sum":
            todo += terms[at]
        elif kind == "zeroed":
            # Within a sum that is folded itself it is not reached.
            within_sum = ops[EDGES.index((1, 2))] == NONE and len(terms[2]) > 1
            if not (at == 1 and within_sum and ops[EDGES.index((2, 3))] == NONE):
                todo += terms[at]
        elif kind != "input" and not runs[at]:
            runs[at] = True
            todo += terms[EDGES[at][0]]
    return runs


def _term(ops: Sequence[int], edge: int, source: int, known: list[_Term]) -> list[_Term]:
    """What an edge adds to the sum of its target, given its source's own summands."""
    op = ops[edge]
    if op in (CONV1, CONV3):
        return [("conv", edge)]
    if op == SKIP:
        return known if len(known) <= 1 else [("sum", source)]
    if op != NONE:
        return [("pool", edge)]
    single = len(known) == 1 and known[0][0] == "conv"
    return [("zeroed", source)] if single and not _is_read(ops, source) else []


def _is_read(ops: Sequence[int], node: int) -> bool:
    """Whether an operation or a sum of several reads a node."""
    for edge, (source, target) in enumerate(EDGES):
        if source == node and ops[edge] != NONE:
            summands = sum(ops[e] != NONE for e, (_, t) in enumerate(EDGES) if t == target)
            if ops[edge] != SKIP or summands > 1:
                return True
    return False
