"""Scoring in several processes, with the same result whatever their number.

Each worker is one thread with its own nested weights from the same seed. A group is split
into runs of neighbours, so that common prefixes stay together. When a worker dies, what had
not come back is sent again to new ones, first as it was, then one candidate at a time; only
a candidate that is alone when worker after worker dies is recorded as failed.
"""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from loky import ProcessPoolExecutor

from ..proxies.batch import Batch
from ..proxies.scoring import CandidateScore, Scorer
from ..proxies.taps import Taps
from ..searchspace.architecture import Architecture
from ..searchspace.plugins import load_entry_points, load_plugin, loaded_plugins
from ..searchspace.space import SearchSpace

__all__ = ["ProcessEngine"]

Scores = list[dict[str, CandidateScore]]

#: Deaths a lone candidate may see before it is recorded as the cause.
TRIES = 3
#: Runs of neighbours a worker: fewer share more prefixes, more balance better.
SHARES = 2


@dataclass(frozen=True, slots=True)
class _Job:
    """What a worker needs to score as this process would."""

    space: SearchSpace
    proxies: tuple[str, ...]
    batch: Batch
    teacher: Taps | None
    seed: int
    precision: str
    plugins: tuple[str, ...]


_scorer: Scorer | None = None


def _open(job: _Job) -> None:
    """Make a fresh worker ready."""
    global _scorer
    # Ctrl-C reaches the whole group; the parent alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    load_entry_points()
    for plugin in job.plugins:
        load_plugin(plugin)
    _scorer = Scorer(
        job.space,
        job.proxies,
        batch=job.batch,
        teacher=job.teacher,
        seed=job.seed,
        precision=job.precision,
    )


def _score(archs: Sequence[Architecture]) -> Scores:
    if _scorer is None:
        raise RuntimeError("the worker was not opened")
    return _scorer.score(archs)


class ProcessEngine:
    """Scores in ``workers`` processes of one thread each.

    Args:
        space: of the candidates.
        proxies: names of registered proxies.
        batch: images to score on.
        teacher: the teacher's taps on that batch, or ``None``.
        seed: of the nested weights.
        workers: number of processes.
        precision: of convolutions and linear layers.
    """

    def __init__(
        self,
        space: SearchSpace,
        proxies: Sequence[str],
        *,
        batch: Batch,
        teacher: Taps | None,
        seed: int,
        workers: int,
        precision: str = "float32",
    ) -> None:
        # An unmet need is refused here, in words, before any process is started.
        checked = Scorer(
            space, proxies, batch=batch, teacher=teacher, seed=seed, precision=precision
        )
        self._neighbours = checked.neighbours
        self._names = [proxy.name for proxy in checked.proxies]
        self._job = _Job(space, tuple(proxies), batch, teacher, seed, precision, loaded_plugins())
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def score(
        self,
        archs: Sequence[Architecture],
        *,
        progress: Callable[[int], None] | None = None,
    ) -> Scores:
        distinct = self._neighbours({arch.key: arch for arch in archs}.values())
        size = max(1, math.ceil(len(distinct) / (self._workers * SHARES)))
        shares = [distinct[i : i + size] for i in range(0, len(distinct), size)]
        done: dict[str, dict[str, CandidateScore]] = {}

        def keep(share: Sequence[Architecture], scores: Scores) -> None:
            done.update({a.key: score for a, score in zip(share, scores, strict=True)})
            if progress is not None:
                progress(len(done))

        lost = self._run(shares, keep)
        if lost:
            lost = self._run(lost, keep)
        for arch in (arch for share in lost for arch in share):
            self._alone(arch, keep)
        if lost:
            self.close()  # of one worker; the next group has all of them again
        return [done[arch.key] for arch in archs]

    def close(self) -> None:
        """End the workers."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, kill_workers=True)
            self._pool = None

    # ------------------------------------------------------------------ parts

    def _run(
        self,
        shares: Sequence[Sequence[Architecture]],
        keep: Callable[[Sequence[Architecture], Scores], None],
        workers: int | None = None,
    ) -> list[Sequence[Architecture]]:
        """Score shares; those that a dead worker did not return come back.

        A pool that is open is gone on with; else one of ``workers`` is opened, by default all.
        """
        pool = self._open_pool(workers or self._workers)
        futures: dict[Future[Scores], Sequence[Architecture]] = {}
        lost: list[Sequence[Architecture]] = []
        for share in shares:
            try:
                futures[pool.submit(_score, share)] = share
            except BrokenProcessPool:
                lost.append(share)
        try:
            for future in as_completed(futures):
                try:
                    keep(futures[future], future.result())
                except BrokenProcessPool:
                    lost.append(futures[future])
        except BaseException:
            self.close()
            raise
        if lost:
            self.close()
        return sorted(lost, key=lambda share: shares.index(share))

    def _alone(
        self, arch: Architecture, keep: Callable[[Sequence[Architecture], Scores], None]
    ) -> None:
        for _ in range(TRIES):
            if not self._run([[arch]], keep, workers=1):  # the others would have nothing to do
                return
        reason = f"{TRIES} workers in a row died while scoring it alone"
        failed = CandidateScore(math.nan, reason)
        keep([arch], [dict.fromkeys(self._names, failed)])

    def _open_pool(self, workers: int) -> ProcessPoolExecutor:
        if self._pool is None:
            threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
            self._pool = ProcessPoolExecutor(
                max_workers=workers,
                initializer=_open,
                initargs=(self._job,),
                env=threads,
            )
        return self._pool


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
