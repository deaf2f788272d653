"""Timing a few networks so that every block is among them, robustly on a shared machine."""

from __future__ import annotations

import time
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

#: Calls of a network in a sweep, behind one that is not counted.
CALLS = 2
MOST_SWEEPS = 100


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
    """Some sweeps over all networks, a few calls of each in a sweep.

    What else a machine does slows it down for tenths of a second: it falls on few calls of every
    network, and a sweep's common part of it is taken out by :func:`robust`.

    Attributes:
        whole: time of each network, ``[sweeps, networks]``, in ms.
        parts: time of each block in each network, ``[sweeps or 1, networks, blocks]``; NaN where
            a network has it not. A block that a network has more than once counts by its mean.
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

    def run(self, sweeps: int = 1, *, parts: bool = True) -> Pass:
        """Time every network in each of ``sweeps`` sweeps, one network after the other.

        Args:
            sweeps: at least 1.
            parts: time blocks as well, in each sweep or, where a runtime needs long to begin
                (:attr:`Runtime.parts_at_once`), in one with as many calls.
        """
        whole = np.empty((sweeps, len(self.loaded)))
        found = []
        at_once = self.runtime.parts_at_once
        with self.runtime.pinned():
            for sweep in range(sweeps):
                for i, network in enumerate(self.loaded):
                    whole[sweep, i] = np.median(network.whole(CALLS))
                if parts and (sweep == 0 or not at_once):
                    found.append(self._parts(CALLS * (sweeps if at_once else 1)))
        empty = np.full((1, len(self.loaded), self.count), np.nan)
        return Pass(whole, np.stack(found) if found else empty)

    def _parts(self, calls: int) -> Milliseconds:
        found = np.full((len(self.loaded), self.count), np.nan)
        for i, network in enumerate(self.loaded):
            times = np.median(network.parts(calls), axis=0)
            for block in set(self.blocks[i]):
                same = [t for t, b in zip(times, self.blocks[i], strict=True) if b == block]
                found[i, block] = np.mean(same)
        return found

    def sweeps_in(self, seconds: float, *, parts: bool = True) -> int:
        """How many sweeps take about so long, from one that is not counted; 1 to 100."""
        begin = time.perf_counter()
        self.run(1, parts=parts)
        return int(np.clip(seconds / (time.perf_counter() - begin), 1, MOST_SWEEPS))


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
    image = space.input_shape()
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
    """Location and spread of sweeps, each freed of what slowed all of it down.

    A sweep's factor is the median, over what it timed, of time ÷ that item's median over sweeps.

    Args:
        times: ``[sweeps, items]`` in ms; NaN where there is none.

    Returns:
        Median ``[items]``, and the standard error of it relative to it ``[items]``: half the
        interquartile range of the sweeps ÷ √sweeps.
    """
    middle = np.nanmedian(times, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = np.nanmedian(times / middle, axis=1, keepdims=True)
    even = times / np.where(np.isfinite(factor) & (factor > 0), factor, 1.0)
    location = np.nanmedian(even, axis=0)
    low, high = np.nanpercentile(even, [25, 75], axis=0)
    sweeps = np.maximum(np.isfinite(times).sum(axis=0), 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = (high - low) / 2 / np.sqrt(sweeps) / location
    return location, np.nan_to_num(spread, nan=0.0, posinf=0.0)
