"""A search on predicted accuracies, whose front is then really evaluated.

Once-for-all (Cai et al., ICLR 2020, §3.4) evaluates a sample, fits a predictor, and lets the
search ask the predictor alone. Here what the search ends with is evaluated too: a prediction is
called one wherever it is shown, and only evaluated networks are students.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from ..proxies.score_table import CandidateScore
from ..searchspace.architecture import Architecture
from ..searchspace.errors import InvalidInputError
from ..searchspace.space import Matrix
from ..supernet.encoding import POOL, design
from ..supernet.predictor import MIN_ROWS, Predictor
from .domain import Domain
from .engine import Engine
from .outcome import SearchOutcome
from .run import Progress, SearchRun, collect, columns_of, score_keys
from .settings import RunSettings, ScoreRule
from .store import RunStore, ScoreKey

__all__ = ["PREDICTED", "SAMPLE", "PredictedRun", "sample_size"]

PREDICTED = "predicted-accuracy"

#: Networks evaluated for a predictor by default.
SAMPLE = 200
#: Evaluations asked, in samples, beyond which a predictor is worth its sample.
WORTH = 4

#: Most networks of a predicted front that are evaluated, in each of at most so many rounds.
_FRONT, _ROUNDS = 48, 2
#: Networks evaluated and committed at a time.
_GROUP = 16

Floats = npt.NDArray[np.float64]


def sample_size(predictor: str | int, evaluations: int) -> int:
    """How many networks are evaluated for a predictor; 0: there is none.

    Args:
        predictor: ``"auto"``, ``"off"`` or a number.
        evaluations: asked of the searcher.

    Raises:
        InvalidInputError: if it is none of them, or too few to learn from.
    """
    text = str(predictor)
    if text == "off":
        return 0
    if text == "auto":
        return SAMPLE if evaluations > WORTH * SAMPLE else 0
    if isinstance(predictor, bool) or not text.isdecimal() or int(text) < MIN_ROWS:
        raise InvalidInputError(
            f"predictor {predictor!r}; auto, off, or how many networks to evaluate for it, at"
            f" least {MIN_ROWS}"
        )
    return int(text)


class PredictedRun:
    """Evaluates a designed sample, searches on a predictor of it, evaluates what that found.

    Where the predicted front turns out further off than cross-validation said, the predictor
    learns from it and the search is done once more. Everything evaluated goes through the
    store; the rest is drawn from the seed, so a killed run repeats it.

    Args:
        domain: the space inside the budget.
        settings: of the run.
        rule: the one part that is maximised.
        engine: evaluates.
        store: where evaluations are kept.
        evaluations: distinct architectures that the searcher asks the predictor about.
        sample: architectures evaluated for the predictor.
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
        sample: int,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.domain, self.settings, self.store = domain, settings, store
        self._engine, self._evaluations, self._sample = engine, evaluations, sample
        self._progress = progress or (lambda _: None)
        self._keys = {key[0]: key for key in score_keys(settings)}
        self._score = rule.parts[0]
        self.notes: list[str] = []

    def run(self) -> dict[str, Any]:
        """Search; what was evaluated is in the store.

        Returns:
            What a reader has to know of the predictor, as plain data.
        """
        rng = np.random.default_rng([self.settings.seed, 0xF1])
        pool, _ = self.domain.unseen(max(POOL, 5 * self._sample), (), rng)
        rows = design(self.domain.space, self._sample, rng, pool=pool)
        truth = self._evaluated(rows, None, "sample")
        told: dict[str, Any] = {"sample": len(rows), "searched": self._evaluations, "rounds": []}
        for number in range(1, _ROUNDS + 1):
            again = "" if number == 1 else f" {number}"  # a bar of its own
            predictor = self._fitted(rows, truth)
            if predictor is None:
                return told
            best = predictor.scores[0]
            front = self._search(predictor, f"predicted{again}")
            predicted = predictor.predict(front)[:, 0]
            found = self._evaluated(front, predicted, f"front{again}")
            fine = np.isfinite(found)
            errors = predicted[fine] - found[fine]
            told["rounds"].append(
                {
                    "rows": int(np.isfinite(truth).sum()),
                    "kind": predictor.fitted_kind,
                    "spearman": best.spearman[0],
                    "mae": best.mae[0],
                    "front": len(front),
                    "front_mae": float(np.abs(errors).mean()) if fine.any() else None,
                    "front_bias": float(errors.mean()) if fine.any() else None,
                    "front_spearman": _spearman(predicted[fine], found[fine]),
                }
            )
            if not fine.any() or np.abs(errors).mean() <= best.mae[0]:
                break
            new = ~np.isin(self._row_keys(front), self._row_keys(rows))
            rows = np.concatenate([rows, front[new]])
            truth = np.concatenate([truth, found[new]])
        return told

    # ------------------------------------------------------------------ parts

    def _row_keys(self, rows: Matrix) -> npt.NDArray[np.str_]:
        return np.array(self.domain.space.keys(rows))

    def _fitted(self, rows: Matrix, truth: Floats) -> Predictor | None:
        """A predictor of what was evaluated without failing; ``None`` where there is none."""
        fine = np.isfinite(truth)
        try:
            predictor = Predictor(self.domain.space, seed=self.settings.seed)
            return predictor.fit(rows[fine], truth[fine])
        except InvalidInputError as error:
            self.notes.append(
                f"No predictor could be made ({error}), so the front is the sample's; run again"
                " with --predictor off."
            )
            return None

    def _search(self, predictor: Predictor, phase: str) -> Matrix:
        """The front of the searcher that is told predictions, ``[N, genes]``."""
        settings = replace(
            self.settings,
            proxies={PREDICTED: 1},
            score={**self.settings.score, "name": PREDICTED, "parts": [PREDICTED]},
        )
        rule = ScoreRule(PREDICTED, (PREDICTED,))
        space = self.domain.space

        def show(step: Progress) -> None:
            # Without a best: its number would be no accuracy.
            self._progress(Progress(phase, step.done, step.total))

        with closing(RunStore(":memory:")) as store:
            engine = _PredictingEngine(self.domain, predictor)
            run = SearchRun(self.domain, settings, rule, engine, store, self._evaluations, show)
            run.run()
            self.notes += [note for note in run.notes if note not in self.notes]
            objectives = tuple(settings.score["objectives"])
            outcome = SearchOutcome(space, settings, collect(store, settings), objectives)
        front = [candidate.arch for candidate in outcome.front]
        if len(front) > _FRONT:
            places = np.linspace(0, len(front) - 1, _FRONT).round().astype(int)
            chosen = [front[i] for i in places]
            if outcome.pick is not None and outcome.pick.arch not in chosen:
                chosen.append(outcome.pick.arch)
            front = chosen
        return space.encode(front)

    def _evaluated(self, rows: Matrix, predicted: Floats | None, phase: str) -> Floats:
        """Accuracies ``[N]`` by inherited weights, from the store or measured and stored."""
        archs = self.domain.space.decode(rows)
        guesses = np.full(len(archs), math.nan) if predicted is None else predicted
        found: list[Floats] = []
        for start in range(0, len(archs), _GROUP):
            group = archs[start : start + _GROUP]
            self._score_group(group, guesses[start : start + _GROUP], phase, start, len(archs))
            self.store.record("evaluations", group)
            keys = [arch.key for arch in group]
            wanted = [self._keys[self._score]]
            found.append(columns_of(self.store, keys, wanted, [self._score])[self._score])
            self._progress(Progress(phase, start + len(group), len(archs)))
        return np.concatenate(found)

    def _score_group(
        self, group: Sequence[Architecture], guesses: Floats, phase: str, start: int, total: int
    ) -> None:
        wanted = list(self._keys.values())
        stored = self.store.scores([arch.key for arch in group], wanted)
        missing = [i for i, arch in enumerate(group) if not stored.get(arch.key)]
        if not missing:
            return
        held = start + len(group) - len(missing)
        results = self._engine.score(
            [group[i] for i in missing],
            progress=lambda done: self._progress(Progress(phase, held + done, total)),
        )
        costs = self.domain.space.cost([group[i] for i in missing])
        lines: list[tuple[Architecture, dict[str, float], dict[ScoreKey, CandidateScore]]] = []
        for place, (i, result) in enumerate(zip(missing, results, strict=True)):
            scores = {**result, PREDICTED: CandidateScore(float(guesses[i]), None)}
            own = {name: float(column[place]) for name, column in costs.items()}
            lines.append((group[i], own, {key: scores[name] for name, key in self._keys.items()}))
        self.store.add(lines)


class _PredictingEngine:
    """What a searcher is told in place of accuracies."""

    def __init__(self, domain: Domain, predictor: Predictor) -> None:
        self._space, self._predictor = domain.space, predictor

    def score(
        self,
        archs: Sequence[Architecture],
        *,
        progress: Callable[[int], None] | None = None,
    ) -> list[dict[str, CandidateScore]]:
        predicted = self._predictor.predict(self._space.encode(archs))[:, 0]
        if progress is not None:
            progress(len(archs))
        return [{PREDICTED: CandidateScore(float(value), None)} for value in predicted]

    def close(self) -> None:
        """Nothing to give back."""


def _spearman(first: Floats, second: Floats) -> float | None:
    """Rank correlation; ``None`` where it is not defined."""
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(stats.spearmanr(first, second).statistic)
