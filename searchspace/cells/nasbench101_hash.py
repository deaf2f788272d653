"""The name of a cell in NAS-Bench-101's table."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["module_hash"]

#: Labels of the input and the output; an inner vertex has its op's index.
INPUT, OUTPUT = -1, -2


def module_hash(matrix: npt.NDArray[np.integer], ops: Sequence[int]) -> str:
    """The MD5 digest that isomorphic cells share, 32 hexadecimal digits.

    Weisfeiler–Lehman refinement (Ying et al., ICML 2019, §2.2 and code): a vertex starts as
    the digest of its out-degree, in-degree and label; in each of V rounds it becomes that of
    its in-neighbours' digests, sorted, of its out-neighbours', and of its own. The cell's is
    that of the sorted list. Counted once: the 423,624 classes have as many digests.

    Args:
        matrix: of the pruned cell, ``[V, V]``.
        ops: index of each inner vertex's op, V − 2.
    """
    labels = [INPUT, *map(int, ops), OUTPUT]
    vertices = range(len(labels))
    sources = [np.flatnonzero(matrix[:, v]).tolist() for v in vertices]
    targets = [np.flatnonzero(matrix[v]).tolist() for v in vertices]
    state = [_digest(str((len(targets[v]), len(sources[v]), labels[v]))) for v in vertices]
    for _ in vertices:
        state = [
            _digest(f"{_joined(state, sources[v])}|{_joined(state, targets[v])}|{state[v]}")
            for v in vertices
        ]
    return _digest(str(sorted(state)))


def _joined(state: list[str], vertices: list[int]) -> str:
    return "".join(sorted(state[v] for v in vertices))


def _digest(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
