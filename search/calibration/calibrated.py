"""The search that goes on with a calibrated rank.

The searcher starts from all that the search without training evaluated, their ranks corrected,
and looks further under the same budget; what it maximises is the posterior mean of
:class:`~scholarch.search.calibration.process.RankProcess`. Every candidate is still scored by the
training-free proxies; none but the labelled is trained.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...proxies.score_table import CandidateScore
from ...proxies.teacher import Teacher
from ...proxies.token_reader import tokens_for
from ...searchspace.architecture import Architecture
from ...searchspace.errors import ScholarchError
from ...searchspace.space import Matrix
from ..domain import Domain
from ..engine import Engine
from ..find import about_teacher, conduct, engine_for
from ..folder import STORE
from ..outcome import Candidate
from ..result import SearchResult
from ..run import Progress, SearchRun, columns_of, score_keys
from ..searchers.base import evaluation_limit
from ..settings import RunSettings, ScoreRule
from ..store import RunStore
from .features import Features
from .labels import Label
from .process import RankProcess
from .request import SearchRequest

__all__ = ["CALIBRATED", "UNCERTAINTY", "CalibratedRank", "search_calibrated"]

CALIBRATED, UNCERTAINTY = "calibrated", "calibrated-sd"
VERSION = 1

Floats = npt.NDArray[np.float64]


class CalibratedRank:
    """The training-free rank of a search's candidates, corrected by labels.

    Args:
        first: the search without training; its candidates are what ranks are taken in.
        labels: of some of them; those that failed are left out.
    """

    def __init__(self, first: SearchResult, labels: Sequence[Label]) -> None:
        self.space = first.space
        score = first.settings.score
        weights = tuple(score.get("weights", ()))
        self.rule = ScoreRule(score["name"], tuple(score["parts"]), score["version"], weights)
        self._reference = _reference_columns(first, self.rule)
        self.pool = [c for c in first.candidates if math.isfinite(c.score)]
        rows = self.space.encode([c.arch for c in self.pool])
        columns = self._columns(self.pool)
        self._features = Features(self.space, rows, _scores(self.pool), columns)
        place = {c.arch.key: i for i, c in enumerate(self.pool)}
        self.labels = [label for label in labels if label.fine]
        at = [place[label.key] for label in self.labels]
        self.accuracies = np.array([label.accuracy for label in self.labels], dtype=np.float64)
        self.prior_of_labels = self._features.prior(_scores(self.pool)[at])
        known = self._features(rows[at], {name: column[at] for name, column in columns.items()})
        self.process = RankProcess(self.prior_of_labels, known, self.accuracies)

    def __call__(self, rows: Matrix, proxies: Mapping[str, Floats]) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the calibrated rank-gauss of N candidates.

        Args:
            rows: ``[N, genes]``.
            proxies: oriented columns of the score's parts, ``[N]``; a candidate of which the
                score failed has no calibrated rank either (NaN).
        """
        scores = self.rule(proxies, self._reference)
        prior = self._features.prior(scores)
        return self.process.predict(prior, self._features(rows, proxies))

    def of(self, candidates: Sequence[Candidate]) -> tuple[Floats, Floats]:
        """The same of candidates that were scored."""
        rows = self.space.encode([c.arch for c in candidates])
        return self(rows, self._columns(candidates))

    def prior_of(self, candidates: Sequence[Candidate]) -> Floats:
        """Their prior, rank-gauss in the pool."""
        return self._features.prior(_scores(candidates))

    def _columns(self, candidates: Sequence[Candidate]) -> dict[str, Floats]:
        return {
            part: np.array([c.scores[part] for c in candidates], dtype=np.float64)
            for part in self.rule.parts
        }


class _CalibratedEngine:
    """Scores by the training-free engine, then calibrates; what is known is not scored again."""

    def __init__(self, rank: CalibratedRank, engine: Engine, known: Sequence[Candidate]) -> None:
        self._rank, self._engine = rank, engine
        self._known = {
            c.arch.key: {
                name: CandidateScore(value, c.failures.get(name))
                for name, value in c.scores.items()
            }
            for c in known
        }

    def score(
        self,
        archs: Sequence[Architecture],
        *,
        progress: Callable[[int], None] | None = None,
    ) -> list[dict[str, CandidateScore]]:
        new = [arch for arch in archs if arch.key not in self._known]
        held = len(archs) - len(new)
        if new:
            found = self._engine.score(
                new, progress=None if progress is None else lambda done: progress(held + done)
            )
            self._known |= {a.key: scores for a, scores in zip(new, found, strict=True)}
        lines = [self._known[arch.key] for arch in archs]
        columns = {
            part: np.array([line[part].value for line in lines]) for part in self._rank.rule.parts
        }
        means, spreads = self._rank(self._rank.space.encode(archs), columns)
        told = []
        for line, mean, spread in zip(lines, means, spreads, strict=True):
            failed = next((line[p].failure for p in self._rank.rule.parts if line[p].failure), None)
            told.append(
                {
                    **line,
                    CALIBRATED: CandidateScore(float(mean), failed),
                    UNCERTAINTY: CandidateScore(float(spread), failed),
                }
            )
        return told

    def close(self) -> None:
        self._engine.close()


class _GoingOn(SearchRun):
    """A run whose searcher starts from rows that are known, the best by the new score first."""

    start: Matrix

    def _reference(self) -> Matrix:
        self._reference_columns = {}
        return self.start


def search_calibrated(
    request: SearchRequest,
    first: SearchResult,
    rank: CalibratedRank,
    teacher: Teacher,
    guide: Teacher,
    out: Path | None,
    finish: Callable[[SearchResult], None],
) -> SearchResult:
    """Search on with the calibrated rank, from where the search without training ended.

    Args:
        request: what was asked.
        first: the search without training.
        rank: calibrated.
        teacher: whose labels they are.
        guide: the teacher of the first search; where it is another one, similarities to it are
            measured no more, unless the score is made of them.
        out: the run's folder.
        finish: adds to the result before it is written.
    """
    domain = Domain(request.space, request.budget, seed=request.seed)
    total = len(first.candidates) + request.evaluations
    limit = evaluation_limit(request.searcher)
    total = total if limit is None else min(total, limit)
    proxies = dict(first.settings.proxies)
    if teacher is not guide:
        proxies = {name: proxies[name] for name in rank.rule.parts}
    settings = replace(
        first.settings,
        teacher={"name": teacher.name, "fingerprint": teacher.fingerprint},
        score={
            "name": CALIBRATED,
            "parts": [CALIBRATED],
            "version": VERSION,
            "objectives": list(request.budget.objectives()),
            "prior": first.settings.score,
            "labels": labels_fingerprint(rank.labels),
        },
        proxies={**proxies, CALIBRATED: VERSION, UNCERTAINTY: VERSION},
    )
    rule = ScoreRule(CALIBRATED, (CALIBRATED,), VERSION)
    engine = _CalibratedEngine(
        rank,
        engine_for(
            request.space,
            list(proxies),
            request.batch,
            guide.observe(request.batch, tokens_for(proxies, guide.module)),
            request.seed,
            request.workers,
            request.device,
            request.precision,
        ),
        first.candidates,
    )

    def tell(step: Progress) -> None:
        if request.progress is not None:
            request.progress(replace(step, phase="calibrated"))

    def drive(store: RunStore) -> list[str]:
        run = _GoingOn(domain, settings, rule, engine, store, total, tell)
        run.start = request.space.encode([candidate.arch for candidate in first.candidates])
        run.run()
        return run.notes

    notes = [
        f"The score is the rank of {first.settings.score['name']!r} corrected by"
        f" {len(rank.labels)} students distilled from {teacher.name!r}, in standard deviations of"
        f" a normal rank; {UNCERTAINTY} is its uncertainty. No other candidate was trained.",
        *(note for note in first.notes if "random weights" in note),
        "The student's weights are freshly initialised.",
    ]
    return conduct(
        request.space,
        settings,
        engine,
        drive,
        {
            "evaluations": total,
            "command": request.command,
            "teacher": about_teacher(teacher),
            "workers": request.workers,
        },
        out,
        notes,
        finish,
    )


def labels_fingerprint(labels: Sequence[Label]) -> str:
    """Hash of students, seeds and accuracies, 16 hexadecimal digits."""
    lines = sorted(f"{one.teacher} {one.key} {one.seed} {one.accuracy!r}" for one in labels)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _scores(candidates: Sequence[Candidate]) -> Floats:
    return np.array([candidate.score for candidate in candidates], dtype=np.float64)


def _reference_columns(first: SearchResult, rule: ScoreRule) -> dict[str, Floats]:
    """The reference sample's scores, out of the first run's store."""
    if not rule.ranks:
        return {}
    if first.out is None:
        raise ScholarchError("a search that was kept in memory cannot be calibrated; give out")
    settings: RunSettings = first.settings
    with closing(RunStore(Path(first.out) / STORE, readonly=True)) as store:
        keys = [arch.key for arch, _ in store.candidates("reference")]
        return columns_of(store, keys, score_keys(settings), rule.parts)
