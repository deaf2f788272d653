"""One search, from settings to result.

Everything random comes from the seed and everything scored goes through the store, so a run
is resumed by replaying it: the searcher asks the same groups again, the store answers what it
holds, and scoring goes on where it stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..proxies.scoring import CandidateScore
from ..searchspace.architecture import Architecture
from ..searchspace.space import Matrix, SearchSpace
from .domain import Domain
from .engine import Engine
from .outcome import Candidate
from .searchers.base import create_searcher
from .settings import RunSettings, ScoreRule, ranks_nothing
from .store import RunStore, ScoreKey

__all__ = ["Progress", "SearchRun", "collect"]

#: Asks in a row that may bring nothing new before the driver draws unseen rows itself.
STALE_ASKS = 20


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        phase: ``"reference"`` or ``"search"``.
        done: candidates of the phase finished.
        total: candidates of the phase.
        best: best score so far; NaN at first.
        text: the architecture that has it.
    """

    phase: str
    done: int
    total: int
    best: float = math.nan
    text: str = ""


class SearchRun:
    """Drives a searcher over a domain until ``evaluations`` distinct candidates are scored.

    Args:
        domain: the space inside the budget.
        settings: of the run.
        rule: what is maximised.
        engine: where scoring runs.
        store: where scores are kept.
        evaluations: distinct architectures to evaluate.
        progress: called as candidates finish.
    """

    def __init__(
        self,
        domain: Domain,
        settings: RunSettings,
        rule: ScoreRule,
        engine: Engine,
        store: RunStore,
        evaluations: int,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.domain = domain
        self.space: SearchSpace = domain.space
        self.settings = settings
        self.rule = rule
        self.engine = engine
        self.store = store
        self.evaluations = evaluations
        self.notes: list[str] = []
        self._progress = progress or (lambda _: None)
        self._keys = score_keys(settings)
        self._objectives = tuple(settings.score["objectives"])
        self._seen: dict[str, npt.NDArray[np.float64]] = {}
        self._best = (math.nan, "")

    def run(self) -> None:
        """Search; what was found is in the store."""
        initial = self._reference()
        searcher = create_searcher(
            self.settings.searcher,
            self.domain,
            initial,
            1 + len(self._objectives),
            self.settings.seed,
        )
        unseen_rng = np.random.default_rng([self.settings.seed, 0x0E])
        while len(self._seen) < self.evaluations:
            group: list[Matrix] = []
            repeated: list[Matrix] = []
            fresh: set[str] = set()
            stale = 0
            while len(group) < searcher.group_size and stale < STALE_ASKS:
                asked = searcher.ask(searcher.group_size - len(group))
                asked = asked[self.domain.feasible(asked)]
                before = len(group)
                for row, key in zip(asked, self.space.keys(asked), strict=True):
                    if key in self._seen or key in fresh:
                        repeated.append(row)
                    else:
                        fresh.add(key)
                        group.append(row)
                stale = stale + 1 if len(group) == before else 0
            if not group:
                rows, looked = self.domain.unseen(searcher.group_size, self._seen, unseen_rng)
                if not len(rows):
                    self._exhausted(looked)
                    return
                group = list(rows)
            # Whole groups are asked and the last one is cut, so that a run continued with
            # more evaluations asks what a longer run would have asked.
            rows = np.stack(group[: self.evaluations - len(self._seen)])
            objectives = self._evaluate(rows)
            known = [row for row in repeated if self._key(row) in self._seen]
            searcher.tell(rows, objectives)
            if known:
                searcher.tell(np.stack(known), np.stack([self._seen[self._key(r)] for r in known]))

    # ------------------------------------------------------------------ parts

    def _key(self, row: Matrix) -> str:
        return self.space.keys(row[None])[0]

    def _exhausted(self, looked: int) -> None:
        if self.domain.size is not None:
            text = f"all {len(self._seen):,} architectures inside the budget were evaluated"
        else:
            text = f"no unseen architecture inside the budget among {looked:,} drawn"
        done = f"{len(self._seen):,} of {self.evaluations:,} evaluations"
        self.notes.append(f"The search ended after {done}: {text}.")

    def _reference(self) -> Matrix:
        """Draw the reference sample, distinct and inside the budget, and score it if needed."""
        rows = self.domain.reference(self.settings.reference_size, self.settings.seed)
        archs = self.space.decode(rows)
        if self.rule.ranks:
            self._scored(archs, "reference")
            self.store.record("reference", archs)
            self._reference_columns = columns_of(
                self.store, [arch.key for arch in archs], self._keys, self.rule.parts
            )
            self._require_reference(archs)
        else:
            self._reference_columns = {}
        return rows

    def _require_reference(self, archs: Sequence[Architecture]) -> None:
        """Refuse to rank against a part that failed on the whole reference sample."""
        for name, column in self._reference_columns.items():
            if not np.isfinite(column).any():
                stored = self.store.scores([arch.key for arch in archs], self._keys)
                key = next(key for key in self._keys if key[0] == name)
                raise ranks_nothing(name, [stored[arch.key][key].failure for arch in archs])

    def _scored(self, archs: Sequence[Architecture], phase: str) -> None:
        """Score what the store does not hold yet and commit it as one group."""
        stored = self.store.scores([arch.key for arch in archs], self._keys)
        missing = [arch for arch in archs if len(stored.get(arch.key, {})) < len(self._keys)]
        if not missing:
            return
        base = len(self._seen) if phase == "search" else 0
        total = self.evaluations if phase == "search" else len(archs)
        held = len(archs) - len(missing)

        def advance(done: int) -> None:
            self._progress(Progress(phase, base + held + done, total, *self._best))

        results = self.engine.score(missing, progress=advance)
        costs = self.space.cost(missing)
        self.store.add(
            [
                (
                    arch,
                    {name: float(column[i]) for name, column in costs.items()},
                    self._by_key(result, stored.get(arch.key, {})),
                )
                for i, (arch, result) in enumerate(zip(missing, results, strict=True))
            ]
        )

    def _by_key(
        self, result: dict[str, CandidateScore], have: dict[ScoreKey, CandidateScore]
    ) -> dict[ScoreKey, CandidateScore]:
        return {key: result[key[0]] for key in self._keys if key not in have}

    def _evaluate(self, rows: Matrix) -> npt.NDArray[np.float64]:
        """Objectives ``[N, 1 + costs]`` of new rows, all minimised; NaN rows failed."""
        archs = self.space.decode(rows)
        self._scored(archs, "search")
        self.store.record("evaluations", archs)
        keys = [arch.key for arch in archs]
        scores = self.rule(
            columns_of(self.store, keys, self._keys, self.rule.parts), self._reference_columns
        )
        costs = self.space.cost(rows)
        objectives = np.stack([-scores, *(costs[name] for name in self._objectives)], axis=1)
        for arch, values in zip(archs, objectives, strict=True):
            self._seen[arch.key] = values
            if not math.isnan(values[0]) and not -values[0] <= self._best[0]:
                self._best = (-float(values[0]), arch.text)
        self._progress(Progress("search", len(self._seen), self.evaluations, *self._best))
        return objectives


def score_keys(settings: RunSettings) -> list[ScoreKey]:
    """The store's keys of every proxy a run computes."""
    # A supernet stands where a teacher does, or beside one: a score hangs on both.
    sources = [settings.teacher or {}, settings.supernet or {}]
    teacher = "+".join(str(one["fingerprint"]) for one in sources if "fingerprint" in one)
    batch = str(settings.data["fingerprint"])
    return [
        (name, version, teacher, batch, settings.seed) for name, version in settings.proxies.items()
    ]


def columns_of(
    store: RunStore, archs: Sequence[str], keys: Sequence[ScoreKey], names: Sequence[str]
) -> dict[str, npt.NDArray[np.float64]]:
    """Stored scores as columns; NaN where one failed or is missing."""
    stored = store.scores(archs, keys)
    by_name = {key[0]: key for key in keys}
    missing = CandidateScore(math.nan, "not scored")
    return {
        name: np.array(
            [stored.get(arch, {}).get(by_name[name], missing).value for arch in archs],
            dtype=np.float64,
        )
        for name in names
    }


def collect(store: RunStore, settings: RunSettings) -> list[Candidate]:
    """Every evaluated candidate of a run, from the store alone."""
    score = settings.score
    weights = tuple(score.get("weights", ()))
    rule = ScoreRule(score["name"], tuple(score["parts"]), score["version"], weights)
    keys = score_keys(settings)
    rows = store.candidates("evaluations")
    order = [arch.key for arch, _ in rows]
    reference = [arch.key for arch, _ in store.candidates("reference")]
    if not rows:
        return []
    scores = rule(
        columns_of(store, order, keys, rule.parts),
        columns_of(store, reference, keys, rule.parts),
    )
    stored = store.scores(order, keys)
    return [
        Candidate(
            i,
            arch,
            costs,
            float(score),
            {key[0]: value.value for key, value in stored[arch.key].items()},
            {
                key[0]: value.failure
                for key, value in stored[arch.key].items()
                if value.failure is not None
            },
        )
        for i, ((arch, costs), score) in enumerate(zip(rows, scores, strict=True))
    ]
