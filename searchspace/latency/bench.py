"""Timing a few networks so that every block is among them, robustly on a shared machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import InvalidInputError
from ..space import Matrix, SearchSpace
from .cut import cut
from .plan import BlockPlan
from .runtimes.base import Loaded, Runtime

__all__ = ["Pass", "Session", "covering_rows", "open_session", "robust"]

Milliseconds = npt.NDArray[np.float64]

_POOL = 256


def covering_rows(
    space: SearchSpace, plan: BlockPlan, needed: Sequence[int], *, least: int, seed: int = 0
) -> Matrix:
    """Few architectures that hold every needed block, ``[n, genes]``.

    Greedy: of random architectures, and of those that blocks were found in, the one with the most
    blocks still missing comes next; ``least`` at least, the rest random.
    """
    rng = np.random.default_rng(seed)
    missing = set(needed)
    rows: list[npt.NDArray[np.int64]] = []
    while missing:
        own = np.array([plan.blocks[b].row for b in sorted(missing)], dtype=np.int64)
        pool = np.concatenate([space.sample_matrix(_POOL, rng), own])
        pool = pool[space.valid(pool)]
        found = plan.indices(pool)
        gains = [len(missing.intersection(row)) for row in found.tolist()]
        best = int(np.argmax(gains))
        rows.append(pool[best])
        missing -= set(found[best].tolist())
    while len(rows) < least:
        rows += [row for row in space.sample_matrix(1, rng) if space.valid(row[None])[0]]
    return np.stack(rows)


@dataclass(frozen=True, eq=False)
class Pass:
    """One pass over all networks.

    Attributes:
        whole: median time of each network, ``[networks]``, in ms.
        parts: median time of each block in each network, ``[networks, blocks]``; NaN where a
            network has it not. A block that a network has more than once counts by its mean.
    """

    whole: Milliseconds
    parts: Milliseconds


class Session:
    """Networks loaded into a runtime, to be timed pass by pass.

    Args:
        loaded: the networks.
        blocks: number of each network's blocks, in the order of its parts.
        count: how many blocks there are.
        runtime: what they were loaded into.
    """

    def __init__(
        self, loaded: list[Loaded], blocks: list[list[int]], count: int, runtime: Runtime
    ) -> None:
        self.loaded = loaded
        self.blocks = blocks
        self.count = count
        self.runtime = runtime

    def run(
        self,
        repeats: int,
        *,
        parts: bool = True,
        progress: Callable[[int], None] | None = None,
    ) -> Pass:
        """Time every network once more, ``repeats`` calls each, one network after the other."""
        whole = np.empty(len(self.loaded))
        found = np.full((len(self.loaded), self.count), np.nan)
        with self.runtime.pinned():
            for i, network in enumerate(self.loaded):
                whole[i] = np.median(network.whole(repeats))
                if parts:
                    times = np.median(network.parts(repeats), axis=0)
                    for block in set(self.blocks[i]):
                        same = [t for t, b in zip(times, self.blocks[i], strict=True) if b == block]
                        found[i, block] = np.mean(same)
                if progress is not None:
                    progress(i + 1)
        return Pass(whole, found)


def open_session(
    space: SearchSpace,
    plan: BlockPlan,
    rows: Matrix,
    runtime: Runtime,
    *,
    progress: Callable[[int], None] | None = None,
) -> Session:
    """Build the rows' networks, of random weights, and load them.

    Raises:
        InvalidInputError: if a network holds a block that the plan does not know, or cannot be
            run or exported.
    """
    numbers = {block.key: i for i, block in enumerate(plan.blocks)}
    image = (space.in_channels, space.resolution, space.resolution)
    loaded, blocks = [], []
    with runtime.pinned():
        for i, arch in enumerate(space.decode(rows)):
            # Cut on shapes, where it costs milliseconds; the modules of the real one correspond.
            network = space.build(arch, seed=0).eval()
            chunks = cut(network, image, plan.finer)
            unknown = [chunk.key for chunk in chunks if chunk.key not in numbers]
            if unknown:
                raise InvalidInputError(
                    f"architecture {arch.text!r} holds a block that its space's plan lacks:"
                    f" {unknown[0]}"
                )
            loaded.append(runtime.load(network, chunks, image))
            blocks.append([numbers[chunk.key] for chunk in chunks])
            if progress is not None:
                progress(i + 1)
    return Session(loaded, blocks, len(plan.blocks), runtime)


def robust(times: Milliseconds) -> tuple[Milliseconds, Milliseconds]:
    """Location and spread of passes, each freed of what slowed all of it down.

    A pass's factor is the median, over what it timed, of time ÷ that item's median over passes.

    Args:
        times: ``[passes, items]`` in ms; NaN where there is none.

    Returns:
        Median ``[items]``, and the standard error of it relative to it ``[items]``: half the
        interquartile range of the passes ÷ √passes.
    """
    middle = np.nanmedian(times, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = np.nanmedian(times / middle, axis=1, keepdims=True)
    even = times / np.where(np.isfinite(factor) & (factor > 0), factor, 1.0)
    location = np.nanmedian(even, axis=0)
    low, high = np.nanpercentile(even, [25, 75], axis=0)
    passes = np.maximum(np.isfinite(times).sum(axis=0), 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = (high - low) / 2 / np.sqrt(passes) / location
    return location, np.nan_to_num(spread, nan=0.0, posinf=0.0)
