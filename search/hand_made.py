"""The hand-made network of a pick's size: what is got without a search.

Whoever scales a family by hand turns few knobs: one depth, one width, one kernel for all stages
(Tan & Le, ICML 2019, §3.2). Of these uniform architectures the one nearest to the pick's cost is
its baseline.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import numpy as np

from ..searchspace.architecture import Architecture
from ..searchspace.errors import InvalidInputError
from ..searchspace.space import Matrix, SearchSpace

__all__ = ["hand_made", "uniform_rows"]

#: Share of the pick's MACs within which two uniform architectures are of near equal cost.
_NEAR = 0.05
#: Positions of a knob that are tried at most, where genes have more values.
_POSITIONS = 17
#: Combinations of knobs that are tried at most; beyond, knobs take fewer positions.
_MOST = 50_000


def hand_made(space: SearchSpace, pick: Architecture) -> Architecture:
    """The uniform architecture nearest to a pick's MACs and not above them.

    Of those within five percent of the nearest, the most balanced: whose knobs stand at the
    most equal relative positions. The pick itself is passed over.

    Args:
        space: of the pick.
        pick: whose size.

    Raises:
        InvalidInputError: if every other uniform architecture is more expensive.

    Example:
        >>> from scholarch import create_space
        >>> space = create_space("resnet-cifar")
        >>> str(hand_made(space, space.parse("16-8x1-16x9-64x2")))
        '16-20x1-40x1-80x1'
    """
    rows, positions = uniform_rows(space)
    kept = [i for i, key in enumerate(space.keys(rows)) if key != pick.key]
    rows, positions = rows[kept], positions[kept]
    macs = space.cost(rows)["macs"] if len(rows) else np.empty(0)
    limit = float(space.cost([pick])["macs"][0])
    fits = np.flatnonzero(macs <= limit)
    if not fits.size:
        raise InvalidInputError(
            f"space {space.name!r} has no hand-made network as small as {pick.text!r}: all"
            " uniform architectures are larger; leave --baseline out"
        )
    near = fits[macs[fits] >= macs[fits].max() - _NEAR * limit]
    spread = positions[near].max(axis=1) - positions[near].min(axis=1)
    # Of equals the larger; then by genes, so that the order of enumeration says nothing.
    order = np.lexsort((*rows[near].T[::-1], -macs[near], np.round(spread, 6)))
    return space.decode(rows[near[order[:1]]])[0]


def uniform_rows(space: SearchSpace) -> tuple[Matrix, np.ndarray]:
    """Architectures whose genes of a kind all stand at one relative position.

    A kind is what a gene's name says before its number: ``depth1`` and ``depth2`` are two depths.

    Returns:
        Distinct valid rows, ``[N, genes]``, and the positions of their kinds in [0, 1],
        ``[N, kinds]``.
    """
    kinds = [re.match(r"[^\d.]*", gene.name)[0] for gene in space.genes]  # type: ignore[index]
    names = list(dict.fromkeys(kinds))
    counts = np.array([len(gene.values) for gene in space.genes])
    grids = [_grid(counts[[kind == name for kind in kinds]]) for name in names]
    while np.prod([float(len(grid)) for grid in grids]) > _MOST:
        longest = max(range(len(grids)), key=lambda i: len(grids[i]))
        grids[longest] = grids[longest][::2]
    positions = np.array(list(itertools.product(*grids)), dtype=np.float64)
    column = np.array([names.index(kind) for kind in kinds])
    # Half way is rounded up, not to the even neighbour.
    rows = np.floor(positions[:, column] * (counts - 1) + 0.5).astype(np.int64)
    _, first = np.unique(space.canonical(rows), axis=0, return_index=True)
    first = np.sort(first)
    first = first[space.valid(rows[first])]
    return rows[first], positions[first]


def _grid(counts: Sequence[int] | np.ndarray) -> list[float]:
    """Relative positions of a kind: as many as its richest gene has values."""
    most = min(_POSITIONS, int(max(counts)))
    return [0.0] if most == 1 else [i / (most - 1) for i in range(most)]
