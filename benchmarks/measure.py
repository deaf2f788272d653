"""The raw columns of a benchmark: every proxy on every candidate, seed by seed, kept in a store.

A store's row hangs on candidate, proxy, version, teacher, batch, space and seed, so a stopped
benchmark goes on where it was, another proxy costs only itself, and one folder may hold several
benchmarks.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np
from torch.nn import functional

from ..proxies.batch import Batch
from ..proxies.registry import get_proxy
from ..proxies.taps import Taps
from ..search.budget import Budget
from ..search.domain import Domain
from ..search.engine import Engine, InProcessEngine
from ..search.find import REFERENCE_SIZE
from ..search.run import Progress
from ..search.settings import ScoreRule
from ..search.store import RunStore, ScoreKey
from ..searchspace.architecture import Architecture
from ..searchspace.space import SearchSpace
from .metrics import Column

__all__ = ["CHUNK", "TRAINED", "Guide", "Measurement", "SeedScores", "takes_teacher"]

#: Candidates scored between two commits.
CHUNK = 64
#: The teacher as it is; controls have names of their own.
TRAINED = "trained"

Found = dict[str, Column]


def takes_teacher(name: str) -> bool:
    """Whether a proxy compares with a teacher."""
    return "teacher" in get_proxy(name).needs


@dataclass
class SeedScores:
    """What one seed measured.

    Attributes:
        candidates: teacher → proxy → oriented scores ``[N]``; teacher-free proxies stand under
            :data:`TRAINED`.
        reference: the same of the reference sample.
        failures: (proxy, reason) → candidates that failed for it, under :data:`TRAINED`.
    """

    candidates: dict[str, Found] = field(default_factory=dict)
    reference: dict[str, Found] = field(default_factory=dict)
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)

    def score(self, rule: ScoreRule, teacher: str = TRAINED) -> Column:
        """A rule's scores of the candidates, ``[N]``; NaN where a part failed.

        Args:
            rule: one proxy, or Σ log-rank of several against the reference sample.
            teacher: what the parts that take a teacher were given.
        """
        columns = self.candidates[TRAINED] | self.candidates[teacher]
        reference = self.reference[TRAINED] | self.reference[teacher]
        if rule.ranks and not all(np.isfinite(reference[part]).any() for part in rule.parts):
            # A part that failed on all of the sample ranks nothing.
            return np.full(len(columns[rule.parts[0]]), np.nan)
        return rule(columns, reference)


@dataclass(frozen=True, slots=True)
class Guide:
    """A teacher, as far as scores see it.

    Attributes:
        fingerprint: what stored scores are told apart by.
        taps: its measurements on the batch, when they are needed.
    """

    fingerprint: str
    taps: Callable[[], Taps]


class Measurement:
    """Measures proxies on candidates, seed by seed.

    Args:
        space: that is scored.
        archs: the candidates, duplicates and all.
        rules: the scores asked for.
        store: where values are kept.
        workers: processes that score.
        progress: called as candidates finish.
    """

    def __init__(
        self,
        space: SearchSpace,
        archs: Sequence[Architecture],
        rules: Sequence[ScoreRule],
        store: RunStore,
        *,
        workers: int = 1,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self._space = space
        self._archs = archs
        self._proxies = tuple(dict.fromkeys(part for rule in rules for part in rule.parts))
        self._ranks = any(rule.ranks for rule in rules)
        self._store = store
        self._workers = workers
        self._progress = progress or (lambda _: None)
        spec = json.dumps(space.spec(), sort_keys=True, default=str)
        self._spec = hashlib.sha256(spec.encode()).hexdigest()[:8]

    def seed(self, seed: int, batch: Batch, teachers: Mapping[str, Guide]) -> SeedScores:
        """Every proxy on every candidate and on the reference sample.

        Args:
            seed: of weights and reference sample.
            batch: images as the teacher sees them; resized to the space's resolution for the
                candidates.
            teachers: by name; :data:`TRAINED` first, then controls, which only proxies that
                take a teacher are measured with. May be empty.

        Raises:
            InvalidInputError: if a proxy's need is not met.
        """
        scaled = at_resolution(batch, self._space.resolution)
        reference: list[Architecture] = []
        if self._ranks:
            rows = Domain(self._space, Budget({}), seed=seed).reference(REFERENCE_SIZE, seed)
            reference = self._space.decode(rows)
        canonical = self._space.canonical(self._space.encode([*self._archs, *reference]))
        distinct = {arch.key: arch for arch in self._space.decode(canonical)}
        # By their genes, so that a chunk holds neighbours, which share computation.
        ordered = sorted(distinct.values(), key=lambda arch: arch.choices)
        guided = tuple(name for name in self._proxies if takes_teacher(name))
        passes = {TRAINED: self._proxies} | dict.fromkeys(list(teachers)[1:], guided)
        found = SeedScores()
        done, total = 0, len(ordered) * len(passes)
        for teacher, proxies in passes.items():
            guide = teachers.get(teacher)
            keys = self._keys(proxies, scaled, guide.fingerprint if guide else "", seed)

            def advance(count: int, before: int = done) -> None:
                self._progress(Progress(f"seed {seed}", before + count, total))

            self._fill(ordered, keys, scaled, guide, seed, advance)
            done += len(ordered)
            found.candidates[teacher] = self._columns(self._archs, keys, found, teacher)
            found.reference[teacher] = self._columns(reference, keys)
        return found

    # ------------------------------------------------------------------ parts

    def _keys(
        self, proxies: Sequence[str], batch: Batch, teacher: str, seed: int
    ) -> dict[str, ScoreKey]:
        where = f"{batch.fingerprint}/{self._spec}"
        return {
            name: (
                name,
                get_proxy(name).version,
                teacher if takes_teacher(name) else "",
                where,
                seed,
            )
            for name in proxies
        }

    def _fill(
        self,
        archs: Sequence[Architecture],
        keys: Mapping[str, ScoreKey],
        batch: Batch,
        guide: Guide | None,
        seed: int,
        advance: Callable[[int], None],
    ) -> None:
        """Score what the store lacks, a chunk a commit."""
        stored = self._store.scores([arch.key for arch in archs], list(keys.values()))
        lacking = [arch for arch in archs if len(stored.get(arch.key, {})) < len(keys)]
        held = len(archs) - len(lacking)
        advance(held)
        if not lacking:
            return
        # A proxy added to a finished benchmark is the only one that is computed.
        missing = [
            name
            for name, key in keys.items()
            if any(key not in stored.get(arch.key, {}) for arch in lacking)
        ]
        taps = guide.taps() if guide is not None and any(map(takes_teacher, missing)) else None
        with closing(self._engine(missing, batch, taps, seed)) as engine:
            for start in range(0, len(lacking), CHUNK):
                chunk = lacking[start : start + CHUNK]

                def report(count: int, before: int = held + start) -> None:
                    advance(before + count)

                results = engine.score(chunk, progress=report)
                costs = self._space.cost(chunk)
                self._store.add(
                    [
                        (
                            arch,
                            {name: float(column[i]) for name, column in costs.items()},
                            {
                                keys[name]: result[name]
                                for name in missing
                                if keys[name] not in stored.get(arch.key, {})
                            },
                        )
                        for i, (arch, result) in enumerate(zip(chunk, results, strict=True))
                    ]
                )

    def _engine(self, proxies: Sequence[str], batch: Batch, taps: Taps | None, seed: int) -> Engine:
        if self._workers == 1:
            return InProcessEngine(self._space, proxies, batch=batch, teacher=taps, seed=seed)
        from ..search.engine_processes import ProcessEngine

        return ProcessEngine(
            self._space, proxies, batch=batch, teacher=taps, seed=seed, workers=self._workers
        )

    def _columns(
        self,
        archs: Sequence[Architecture],
        keys: Mapping[str, ScoreKey],
        count: SeedScores | None = None,
        teacher: str = TRAINED,
    ) -> Found:
        """Stored scores as columns; failures are counted under :data:`TRAINED`."""
        stored = self._store.scores(
            list(dict.fromkeys(arch.key for arch in archs)), list(keys.values())
        )
        columns = {}
        for name, key in keys.items():
            scores = [stored[arch.key][key] for arch in archs]
            columns[name] = np.array([score.value for score in scores], dtype=np.float64)
            if count is not None and teacher == TRAINED:
                reasons = (score.failure for score in scores if math.isnan(score.value))
                count.failures.update((name, reason or "no reason told") for reason in reasons)
        return columns


def at_resolution(batch: Batch, side: int) -> Batch:
    """The batch with its images resized to ``side`` × ``side`` pixels, where they are not."""
    if batch.images.shape[-2:] == (side, side):
        return batch
    images = functional.interpolate(
        batch.images, (side, side), mode="bilinear", antialias=batch.images.shape[-1] > side
    )
    return replace(batch, images=images.clamp(0.0, 1.0), name=f"{batch.name}@{side}")
