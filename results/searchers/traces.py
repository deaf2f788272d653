"""Searches whose scores are shared: everything a searcher found, in the order it was found.

A score depends on the architecture, the images and the scoring seed, on no searcher; it is
computed once for all searchers and seeds, and is kept in a file if one is given.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scholarch.proxies.batch import Batch
from scholarch.proxies.registry import get_proxy
from scholarch.proxies.scoring import CandidateScore
from scholarch.search.domain import Domain
from scholarch.search.engine import InProcessEngine
from scholarch.search.run import SearchRun
from scholarch.search.searchers.base import evaluation_limit
from scholarch.search.settings import RunSettings, ScoreRule
from scholarch.search.store import RunStore
from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.space import Matrix

#: Of the nested weights and of the sample that ranks are taken against; the searcher's varies.
SCORING_SEED = 0
REFERENCE_SIZE = 64
#: Of the Gaussian process in a quick run: a few asks, seconds each.
QUICK_LIMIT = 67


class Memo:
    """An engine that scores an architecture once.

    Args:
        domain: where the searches look.
        rule: what they maximise.
        batch: real images.
        path: of the file that keeps scores; ``":memory:"`` keeps none.
    """

    def __init__(self, domain: Domain, rule: ScoreRule, batch: Batch, path: Path | str) -> None:
        self.seconds = 0.0
        self._space = domain.space
        self._keys = [
            (name, get_proxy(name).version, "", batch.fingerprint, SCORING_SEED)
            for name in rule.parts
        ]
        self._engine = InProcessEngine(
            domain.space, rule.parts, batch=batch, teacher=None, seed=SCORING_SEED
        )
        self._store = RunStore(path)

    def score(
        self, archs: Sequence[Architecture], *, progress: Callable[[int], None] | None = None
    ) -> list[dict[str, CandidateScore]]:
        began = time.perf_counter()
        keys = [arch.key for arch in archs]
        known = self._store.scores(keys, self._keys)
        missing = [arch for arch in archs if arch.key not in known]
        if missing:
            costs = self._space.cost(missing)
            self._store.add(
                [
                    (
                        arch,
                        {name: float(column[i]) for name, column in costs.items()},
                        {key: scores[key[0]] for key in self._keys},
                    )
                    for i, (arch, scores) in enumerate(
                        zip(missing, self._engine.score(missing), strict=True)
                    )
                ]
            )
            known = self._store.scores(keys, self._keys)
        if progress is not None:
            progress(len(archs))
        self.seconds += time.perf_counter() - began
        return [{key[0]: known[arch][key] for key in self._keys} for arch in keys]

    def close(self) -> None:
        self._store.close()


class SharedRun(SearchRun):
    """A run whose ranks are against the same sample as every other's, but whose start is its own.

    A command's run starts from the sample it ranks against; here that would make all seeds
    start alike, or their scores incomparable.
    """

    def _reference(self) -> Matrix:
        fixed, _ = self.domain.unseen(
            REFERENCE_SIZE, (), np.random.default_rng([SCORING_SEED, 0x4E])
        )
        scores = self.engine.score(self.space.decode(fixed))
        self._reference_columns = {
            name: np.array([score[name].value for score in scores]) for name in self.rule.parts
        }
        rng = np.random.default_rng([self.settings.seed, 0x57A7])
        return self.domain.unseen(REFERENCE_SIZE, (), rng)[0]

    @property
    def objectives(self) -> npt.NDArray[np.float64]:
        """Minus the score, and the cost, of every evaluation in order."""
        return np.array(list(self._seen.values()))


@dataclass(frozen=True)
class Trace:
    """One search.

    Attributes:
        objectives: ``[evaluations, 2]``, minimised.
        seconds: of the searcher and the driver an evaluation, without scoring.
    """

    objectives: npt.NDArray[np.float64]
    seconds: float


def worst_score(domain: Domain, rule: ScoreRule, memo: Memo) -> float:
    """The lowest score within the sample that ranks are taken against."""
    run = SharedRun(domain, _settings(domain, rule, "random", 0), rule, memo, _memory(), 1)
    run._reference()
    columns = run._reference_columns
    return float(np.nanmin(rule(columns, columns)))


def search_once(
    domain: Domain, rule: ScoreRule, memo: Memo, searcher: str, seed: int, evaluations: int
) -> Trace:
    """Run a searcher by its name, to its own limit at most."""
    limit = min(evaluations, evaluation_limit(searcher) or evaluations)
    run = SharedRun(domain, _settings(domain, rule, searcher, seed), rule, memo, _memory(), limit)
    scoring, began = memo.seconds, time.perf_counter()
    run.run()
    own = time.perf_counter() - began - (memo.seconds - scoring)
    return Trace(run.objectives, own / limit)


def load_or_search(path: Path | None, search: Callable[[], Trace]) -> Trace:
    """A trace from its file; searched and filed where there is none."""
    if path is not None and path.exists():
        with np.load(path) as stored:
            return Trace(stored["objectives"], float(stored["seconds"]))
    trace = search()
    if path is not None:
        np.savez(path, objectives=trace.objectives, seconds=trace.seconds)
    return trace


def _memory() -> RunStore:
    return RunStore(":memory:")


def _settings(domain: Domain, rule: ScoreRule, searcher: str, seed: int) -> RunSettings:
    return RunSettings(
        space=domain.space.spec(),
        data={"name": "", "fingerprint": ""},
        teacher=None,
        score={
            "name": rule.name,
            "parts": list(rule.parts),
            "version": rule.version,
            "objectives": ["macs"],
        },
        proxies={name: get_proxy(name).version for name in rule.parts},
        searcher=searcher,
        seed=seed,
        budget=dict(domain.budget.bounds),
        reference_size=REFERENCE_SIZE,
        costs=list(domain.space.cost_names),
        tables={},
    )


def hypervolumes(
    trace: Trace, counts: Sequence[int], worst: tuple[float, float]
) -> npt.NDArray[np.float64]:
    """Hypervolume of the front after each count of evaluations; NaN beyond the trace's end.

    Args:
        trace: of a search.
        counts: of evaluations.
        worst: the reference point: minus the score, and the cost.
    """
    import moocore

    found = []
    for count in counts:
        points = trace.objectives[:count]
        points = points[np.isfinite(points).all(axis=1)]
        if count > len(trace.objectives):
            found.append(math.nan)
        else:
            found.append(float(moocore.hypervolume(points, ref=worst)) if len(points) else 0.0)
    return np.array(found)
