"""Which networks to time, so that the fewest tell the most.

Each next network is the one after which the others' latencies are least uncertain, under the
additive model before any measurement: the greedy form of an I-optimal design (Atkinson, Donev &
Tobias 2007, §10.6; Krause et al., JMLR 2008, §4). It needs no latency, and since guesses at what
a runtime leaves out are part of the model, it picks networks that tell the guesses apart.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..architecture import Architecture
from ..conditional import ConditionalSpace
from ..errors import InvalidInputError
from ..space import Matrix, SearchSpace
from .features import FeatureMap, Floats, Sides

__all__ = ["design", "propose"]

CANDIDATES = 500
"""Random networks that are chosen from."""

NOISE = 0.2
"""Of a latency of 1: what the model leaves out as well as what the clock adds."""


def design(
    features: FeatureMap, matrix: Matrix, n: int, *, resolution: Sides | None = None
) -> npt.NDArray[np.int64]:
    """Indices of the ``n`` rows of ``matrix`` to time, the most telling first, ``[n]``.

    The first k of them are the design of k.

    Args:
        features: of the space.
        matrix: candidates, ``[N, genes]``; time and memory are O(N²).
        n: from 1 to N.
        resolution: see :class:`FeatureMap`.

    Raises:
        InvalidInputError: if ``n`` is out of range.
    """
    if isinstance(n, bool) or not 1 <= n <= len(matrix):
        raise InvalidInputError(
            f"cannot choose {n} of {len(matrix)} networks; need from 1 to {len(matrix)}"
        )
    columns = features(matrix, resolution)
    sizes = np.concatenate(
        [np.full(g.columns.stop - g.columns.start, g.size) for g in features.groups]
    )
    scaled = columns * sizes / np.sqrt(_rough_latency(features, columns))[:, None]
    kernel = scaled @ scaled.T
    chosen: list[int] = []
    for _ in range(n):
        gain = (kernel**2).sum(axis=0) / (np.diag(kernel) + NOISE**2)
        gain[chosen] = -1.0
        best = int(gain.argmax())
        chosen.append(best)
        line = kernel[:, best].copy()
        kernel -= np.outer(line, line) / (line[best] + NOISE**2)
    return np.array(chosen, dtype=np.int64)


def _rough_latency(features: FeatureMap, columns: Floats) -> Floats:
    """A guess, 1 on average, by which the noise grows, ``[N]``."""
    costs = [features.names.index(name) for name in ("macs", "depth") if name in features.names]
    if not costs:
        return np.ones(len(columns))
    return np.asarray(0.4 + 0.6 * columns[:, costs].mean(axis=1))


def propose(space: SearchSpace, n: int, seed: int = 0) -> list[Architecture]:
    """The ``n`` networks to time for :func:`~.fit.fit_latency`, the most telling first.

    Args:
        space: to be predicted.
        n: at least 1; 10 to 20 do.
        seed: of the random networks that they are chosen from.

    Raises:
        InvalidInputError: if ``n`` is below 1 or the space has not as many.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InvalidInputError(f"cannot propose {n!r} networks; need a whole number from 1")
    sampled = space.sample_matrix(max(CANDIDATES, 4 * n), seed)
    if isinstance(space, ConditionalSpace):
        # Rows that differ in genes without effect alone are one network. Isomorphic cells are
        # not: a runtime may take its time over what is dead in one of them.
        sampled = space.canonical(sampled)
    candidates = np.unique(sampled, axis=0)
    if n > len(candidates):
        raise InvalidInputError(
            f"cannot propose {n} networks: {len(sampled)} draws from space {space.name!r} gave"
            f" {len(candidates)} different ones; ask for fewer"
        )
    return space.decode(candidates[design(FeatureMap(space), candidates, n)])
