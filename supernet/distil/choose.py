"""Which distiller: several are tried on a short budget, and the worse half left out.

Successive halving (Jamieson & Talwalkar, AISTATS 2016, Algorithm 1), with two differences. Every
rung trains anew, by a schedule that decays within its own steps: a rate that is still high says
little of where a run ends. And distillation by soft labels stays in every rung, as what the others
have to beat: it is taken unless one of them leads it by more than a standard error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ...searchspace.errors import InvalidInputError
from ..trainer import DivergedError
from .settings import NO_DISTILLER, DistilSettings

__all__ = ["CANDIDATES", "REFERENCE", "RUNGS", "Choice", "Tried", "budget_of", "choose_distiller"]

REFERENCE = "kd"
"""What is taken where nothing is better beyond noise."""

#: What is tried: labels alone, logits (whose answers are kept), then maps; the cheapest first.
CANDIDATES = (NO_DISTILLER, REFERENCE, "dkd", "dist", "pld", "sp", "diswot")

#: Share of the run's length that a try of each rung has.
RUNGS = (1 / 16, 1 / 8, 1 / 4)


@dataclass(frozen=True)
class Tried:
    """One distiller on one rung.

    Attributes:
        distiller: its name.
        rung: from 1.
        accuracy: on the validation part at the end, in [0, 1]; NaN where it failed.
        steps: that were done.
        macs: multiply-accumulates passed.
        seconds: of training.
        failure: why there is no accuracy.
    """

    distiller: str
    rung: int
    accuracy: float
    steps: int = 0
    macs: float = 0.0
    seconds: float = 0.0
    failure: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        finite = math.isfinite(self.accuracy)
        return {**asdict(self), "accuracy": self.accuracy if finite else None}


@dataclass(frozen=True)
class Choice:
    """What was picked, and why.

    Attributes:
        distiller: the name.
        why: in a sentence.
        best: the first by validation on the last rung.
        lead: its accuracy there minus the reference's, in [-1, 1].
        error: standard error of that difference.
        tries: in the order in which they were done.
        images: of the validation part.
    """

    distiller: str
    why: str
    best: str
    lead: float
    error: float
    tries: tuple[Tried, ...]
    images: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        told = {k: v if v == v else None for k, v in asdict(self).items() if k != "tries"}
        return {**told, "tries": [tried.to_json() for tried in self.tries]}


def budget_of(count: int = len(CANDIDATES), rungs: Sequence[float] = RUNGS) -> float:
    """Length of all tries together, as a multiple of the run's, known before the first.

    Example:
        >>> budget_of(7)
        1.4375
    """
    total = 0.0
    for share in rungs:
        total += count * share
        count = _survivors(count)
    return total


def choose_distiller(
    attempt: Callable[[DistilSettings, int], Tried],
    settings: DistilSettings,
    images: int,
    *,
    candidates: Sequence[str] = CANDIDATES,
    rungs: Sequence[float] = RUNGS,
) -> Choice:
    """Try distillers, halve them rung by rung, and pick one.

    Args:
        attempt: trains by settings on a rung, counted from 1, and measures validation accuracy; a
            distiller that cannot be had for these networks raises or tells of a failure.
        settings: of the run that is to come; its seed is every try's.
        images: of the validation part.
        candidates: names, the cheapest first; the reference among them.
        rungs: share of the run's length on each.

    Raises:
        InvalidInputError: if there is nothing to choose on, or every try failed.
    """
    if not images:
        raise InvalidInputError(
            "distillers are chosen on validation images, and the data have none; name one with"
            " --distiller, or give a validation part"
        )
    left, tries = list(candidates), list[Tried]()
    done: list[Tried] = []
    for rung, share in enumerate(rungs, start=1):
        done = [_try(attempt, _shortened(settings, name, share), rung) for name in left]
        tries += done
        ranked = _ranked(done, candidates)
        if not ranked:
            reasons = "; ".join(f"{one.distiller}: {one.failure}" for one in done)
            raise InvalidInputError(f"no distiller could be tried ({reasons}); name one")
        # The reference has its seat; the others compete for the rest.
        ranked.sort(key=lambda one: one.distiller != REFERENCE)
        kept = {one.distiller for one in ranked[: _survivors(len(left))]}
        left = [name for name in candidates if name in kept]
    return _decide(_ranked(done, candidates), tries, images)


def _survivors(count: int) -> int:
    """Half of them; never fewer than two, of which one is the reference."""
    return max(2, math.ceil(count / 2))


def _shortened(settings: DistilSettings, name: str, share: float) -> DistilSettings:
    """A try's settings: a share of the length, one evaluation, at the end."""
    train = settings.train
    length = {"macs": train.macs * share} if train.macs else {"epochs": (train.epochs or 0) * share}
    tried = DistilSettings(
        distiller=name,
        labels=None if name == NO_DISTILLER else settings.labels,
        average=settings.average,
        train=train,
    )
    return tried.training(**length, evaluations=1, patience=0)


def _try(
    attempt: Callable[[DistilSettings, int], Tried], settings: DistilSettings, rung: int
) -> Tried:
    try:
        return attempt(settings, rung)
    except (InvalidInputError, DivergedError) as error:
        # One that does not fit these networks, or diverges, is no reason to end the others.
        return Tried(settings.distiller, rung, math.nan, failure=str(error))


def _ranked(done: Sequence[Tried], candidates: Sequence[str]) -> list[Tried]:
    """By validation accuracy; of equals the cheaper first."""
    scored = [one for one in done if math.isfinite(one.accuracy)]
    order = {name: i for i, name in enumerate(candidates)}
    return sorted(scored, key=lambda one: (-one.accuracy, one.macs, order[one.distiller]))


def _decide(last: Sequence[Tried], tries: Sequence[Tried], images: int) -> Choice:
    best = last[0]
    reference = next((one for one in last if one.distiller == REFERENCE), None)
    if reference is None:
        # It failed: of the rest, the first.
        why = f"{best.distiller} was best on {images:,} validation images; {REFERENCE} failed"
        return Choice(best.distiller, why, best.distiller, math.nan, math.nan, tuple(tries), images)
    lead = best.accuracy - reference.accuracy
    error = _standard_error((best.accuracy, reference.accuracy), images)
    noise = f"standard error {100 * error:.2f} points on {images:,} validation images"
    if best is reference:
        second = next((one for one in last if one is not reference), None)
        beside = "" if second is None else f", {second.distiller} at {second.accuracy:.2%} next"
        chosen, why = REFERENCE, f"{REFERENCE} was best at {best.accuracy:.2%}{beside}; {noise}"
    elif lead > error:
        chosen = best.distiller
        why = f"{chosen} leads {REFERENCE} by {100 * lead:.2f} points; {noise}"
    else:
        chosen = REFERENCE
        why = (
            f"{best.distiller} leads {REFERENCE} by {100 * lead:.2f} points, which is within"
            f" noise ({noise}): {REFERENCE} is taken"
        )
    return Choice(chosen, why, best.distiller, lead, error, tuple(tries), images)


def _standard_error(accuracies: Sequence[float], images: int) -> float:
    """Of the difference of two shares, as if measured on different images.

    The images are the same, so that the true one is smaller: a cautious number. Taking what is
    simplest within one standard error is Breiman et al.'s rule (CART, 1984, §3.4.3). A share of
    0 or 1 is counted as one image off (Laplace), lest it have no error at all.
    """
    shares = [(p * images + 1) / (images + 2) for p in accuracies]
    return math.sqrt(sum(p * (1 - p) / images for p in shares))
