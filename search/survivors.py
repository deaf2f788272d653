"""What of a space is left after a search: the values of genes that its best candidates have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..searchspace.conditional import ConditionalSpace
from ..searchspace.space import Matrix, SearchSpace
from .outcome import SearchOutcome

__all__ = ["Survivor", "survivors"]

#: Candidates that count as the best, and at least so many of them.
TOP_SHARE, FEWEST = 0.2, 8

#: A value survives that so many of the best have, where the gene has an effect.
VALUE_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Survivor:
    """One gene.

    Attributes:
        gene: its name.
        values: all that it could take.
        kept: those that are left.
        shares: of each value among the best, in [0, 1].
    """

    gene: str
    values: tuple[int, ...]
    kept: tuple[int, ...]
    shares: tuple[float, ...]


def survivors(result: SearchOutcome) -> list[Survivor]:
    """Gene by gene what the best of a search have.

    The best are a fifth of the evaluated candidates by the search's score, all of them inside
    the budget, and the whole front. A value survives that a tenth of them have, or one of the
    front; genes count where they have an effect.

    Args:
        result: with at least one candidate on its front.
    """
    space: SearchSpace = result.space
    scored = [c for c in result.candidates if math.isfinite(c.score)]
    ranked = sorted(scored, key=lambda c: (-c.score, c.order))
    count = max(FEWEST, round(TOP_SHARE * len(scored)))
    front = {candidate.order for candidate in result.front}
    best = ranked[:count] + [c for c in ranked[count:] if c.order in front]
    rows = space.encode([candidate.arch for candidate in best])
    active = _active(space, rows)
    of_front = np.array([candidate.order in front for candidate in best])
    found = []
    for column, gene in enumerate(space.genes):
        counts = _counts(rows[:, column], active[:, column], len(gene.values))
        on_front = _counts(rows[:, column], active[:, column] & of_front, len(gene.values))
        total = max(1, int(counts.sum()))
        shares = counts / total
        kept = (shares >= VALUE_SHARE) & (counts > 0) | (on_front > 0)
        if not kept.any():  # of no effect in any of them: as it is
            kept[:] = True
        found.append(
            Survivor(
                gene.name,
                tuple(gene.values),
                tuple(v for v, keep in zip(gene.values, kept, strict=True) if keep),
                tuple(float(share) for share in shares),
            )
        )
    return found


def _active(space: SearchSpace, rows: Matrix) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    if isinstance(space, ConditionalSpace):
        return space._active(rows)
    return np.ones(rows.shape, dtype=np.bool_)


def _counts(
    column: np.ndarray[tuple[int], np.dtype[np.int64]],
    counted: Sequence[bool] | np.ndarray[tuple[int], np.dtype[np.bool_]],
    values: int,
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.bincount(column[np.asarray(counted)], minlength=values)
