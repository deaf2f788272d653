"""Search on a trained supernet: candidates are measured with the weights that they inherit.

Cai et al., ICLR 2020, §3.4, and Annavajjala et al., 2024, §4: a network is sliced out, batch norm
is calibrated on training images, and its accuracy on the validation part is its score. No proxy
and no teacher is needed. The test part is read once, at the end, for the front alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..proxies.devices import exact_kernels, find_device, one_thread
from ..proxies.score_table import CandidateScore, reason_of
from ..searchspace.architecture import Architecture
from ..searchspace.errors import InvalidInputError, ScholarchError
from ..supernet.evaluate import Evaluator, accuracy
from ..supernet.loader import LabelledImages, part_fingerprint
from ..supernet.pretrained import Supernet
from ..supernet.score import AGREEMENT
from ..supernet.task import has_targets
from .budget import Budget
from .domain import Domain
from .find import REFERENCE_SIZE, conduct
from .predicted import PREDICTED, PredictedRun, sample_size
from .result import SearchResult
from .run import Progress, SearchRun
from .searchers.base import check_searcher
from .settings import MEASURED_SCORE as SCORE
from .settings import RunSettings, ScoreRule, check_counts
from .store import RunStore
from .weights import FrontWeights, weights_fingerprint

__all__ = [
    "SCORE",
    "InheritedEngine",
    "about_supernet",
    "check_data",
    "data_settings",
    "keep_front",
    "search_supernet",
]

VERSION = 1


class InheritedEngine:
    """Scores candidates by the accuracy of what is cut out of a supernet.

    Args:
        evaluator: of the supernet.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator

    def score(
        self,
        archs: Sequence[Architecture],
        *,
        progress: Callable[[int], None] | None = None,
    ) -> list[dict[str, CandidateScore]]:
        """For each architecture its accuracy on the validation part."""
        found = []
        with one_thread(), exact_kernels():
            for arch in archs:
                try:
                    score = CandidateScore(self.evaluator.accuracy(arch, "val"), None)
                except ScholarchError:
                    raise  # of the data, not of the candidate
                except Exception as error:  # noqa: BLE001 (a candidate's failure is recorded)
                    score = CandidateScore(math.nan, reason_of(error))
                found.append({SCORE: score})
                if progress is not None:
                    progress(len(found))
        return found

    def close(self) -> None:
        """Nothing to give back."""


def search_supernet(
    supernet: Supernet,
    data: LabelledImages,
    *,
    budget: Budget,
    searcher: str = "nsga2",
    evaluations: int = 500,
    seed: int = 0,
    predictor: str | int = "auto",
    calibration: int = 2000,
    test: bool = True,
    out: Path | None = None,
    device: str = "cpu",
    command: str = "",
    progress: Callable[[Progress], None] | None = None,
) -> SearchResult:
    """Search the space of a trained supernet under a budget.

    Args:
        supernet: trained; latency tables are attached to its space.
        data: images; chosen on the validation part, calibrated on the training part.
        budget: upper bounds on costs.
        searcher: registered name.
        evaluations: distinct architectures that the searcher looks at. All are really
            evaluated, unless a predictor stands between.
        seed: of the searcher, the sample and the predictor.
        predictor: ``"off"``; how many architectures are evaluated for a predictor, on which the
            searcher then works; or ``"auto"``: 200 where more than 800 evaluations are asked.
        calibration: training images from which batch norm's statistics are computed.
        test: read the test part for the front, at the end.
        out: the run's folder; ``None`` keeps everything in memory.
        device: where networks are evaluated.
        command: the shell line that repeats the run.
        progress: called as candidates finish.

    Raises:
        InvalidInputError: if supernet and data do not fit together, the data have no validation
            part, a budget is unreachable, a folder holds another run or a number is out of range.
        StoreError: if the folder cannot be written.
    """
    check_counts(evaluations, seed)
    check_searcher(searcher, evaluations)
    place = find_device(device)
    space = supernet.space
    notes = check_data(supernet, data)
    domain = Domain(space, budget, seed=seed)
    sample = sample_size(predictor, evaluations)
    if sample and domain.size is not None and domain.size <= 2 * sample:
        notes.append(
            f"No predictor was needed: the budget leaves {domain.size:,} architectures, few enough"
            " to evaluate."
        )
        sample = 0
    evaluator = Evaluator(supernet.network.to(place), data, calibration=calibration, device=place)
    engine = InheritedEngine(evaluator)
    fingerprint = weights_fingerprint(supernet.network)
    images = min(calibration, len(data.train.labels))
    rule = ScoreRule(SCORE, (SCORE,), VERSION)
    settings = RunSettings.of_search(
        space,
        budget,
        rule,
        data={**data_settings(data), "size": len(data.val.labels)},
        teacher=None,
        proxies={SCORE: VERSION, **({PREDICTED: VERSION} if sample else {})},
        searcher=searcher,
        seed=seed,
        reference_size=REFERENCE_SIZE,
        scoring={"device": place.type} if place.type != "cpu" else {},
        supernet={"fingerprint": fingerprint, "calibration": images, "predictor": sample},
    )
    about: dict[str, Any] = {
        "evaluations": evaluations,
        "command": command,
        "teacher": {},
        "workers": 1,
        "supernet": about_supernet(supernet, data, fingerprint),
    }

    def drive(store: RunStore) -> list[str]:
        if not sample:
            run = SearchRun(domain, settings, rule, engine, store, evaluations, progress)
            run.run()
            return run.notes
        predicted = PredictedRun(
            domain, settings, rule, engine, store, evaluations, sample, progress
        )
        about["predictor"] = predicted.run()
        return predicted.notes

    def finish(result: SearchResult) -> None:
        keep_front(result, evaluator, data, test=test)

    return conduct(space, settings, engine, drive, about, out, notes, finish)


def data_settings(data: LabelledImages) -> dict[str, Any]:
    """What a run on a supernet says of its data: their name and fingerprint."""
    return {
        "name": data.name,
        "fingerprint": part_fingerprint(data.train) + part_fingerprint(data.val),
    }


def about_supernet(supernet: Supernet, data: LabelledImages, fingerprint: str) -> dict[str, Any]:
    """What ``run.json`` tells of a supernet beside the settings."""
    return {
        "path": None if supernet.path is None else str(supernet.path.resolve()),
        "fingerprint": fingerprint,
        "schedule": str(supernet.about.get("settings", {}).get("schedule", "")),
        "steps": supernet.about.get("next_step"),
        "mean": list(data.mean),
        "std": list(data.std),
        **({"score": AGREEMENT} if has_targets(data.train.labels) else {}),
    }


def check_data(supernet: Supernet, data: LabelledImages) -> list[str]:
    """Notes for the reader where data and supernet differ but fit together.

    Raises:
        InvalidInputError: if they do not fit, or there is nothing to choose on.
    """
    space, trained = supernet.space, supernet.about.get("data", {})
    called = "in memory" if supernet.path is None else str(supernet.path)
    wrong = [
        f"{what} {has}, data {data.name!r} {given}"
        for what, has, given in (
            ("classes:", space.num_classes, data.num_classes),
            ("pixels a side:", trained.get("resolution", space.resolution), data.resolution),
            ("channels:", space.in_channels, len(data.mean)),
        )
        if has != given
    ]
    if wrong:
        raise InvalidInputError(
            f"supernet {called} does not fit the data: {'; '.join(wrong)}; search on what it"
            f" was trained on ({trained.get('name', 'unknown')})"
        )
    if not len(data.val.labels):
        raise InvalidInputError(
            f"data {data.name!r} has no validation images to choose on; give a validation part, or"
            " data from which one can be split off"
        )
    there, here = trained.get("val"), part_fingerprint(data.val)
    if there in (None, here):
        return []
    if trained.get("name") == data.name:
        raise InvalidInputError(
            f"the validation images of data {data.name!r} are others than when supernet"
            f" {called} was trained, which may have learned some of them; use the same data"
        )
    return [
        f"The supernet was trained on {trained.get('name')!r}; it is searched and calibrated on"
        f" {data.name!r}."
    ]


def keep_front(
    result: SearchResult, evaluator: Evaluator, data: LabelledImages, *, test: bool
) -> None:
    """Keep the front's networks, and read the test part for them, once.

    The validation part, too, where their scores are no accuracies on it.
    """
    weights = FrontWeights(lambda: evaluator.network)
    tested: dict[str, float] = {}
    validated: dict[str, float] = {}
    test = test and len(data.test.labels) > 0
    began = time.monotonic()
    with one_thread(), exact_kernels():
        for candidate in result.front:
            network = evaluator.extract(candidate.arch)
            weights.keep(candidate.arch, network)
            if not result.settings.measured:
                validated[candidate.arch.key] = accuracy(network, evaluator.batches("val"))
            if test:
                tested[candidate.arch.key] = accuracy(network, evaluator.batches("test"))
    result.weights = weights
    if validated:
        result.info["val"] = validated
    result.info["seconds"] = round(result.info["seconds"] + time.monotonic() - began, 1)
    result.info["test"] = {"images": len(data.test.labels) if test else 0, "accuracy": tested}
