"""Which distiller is picked, by what is tried."""

from __future__ import annotations

import math
from typing import Any

import pytest

from scholarch.searchspace.errors import InvalidInputError
from scholarch.supernet.distil.choose import (
    CANDIDATES,
    RUNGS,
    Choice,
    Tried,
    budget_of,
    choose_distiller,
)
from scholarch.supernet.distil.factory import list_distillers
from scholarch.supernet.distil.settings import DistilSettings
from scholarch.supernet.trainer import DivergedError

SETTINGS = DistilSettings(train=DistilSettings.recipe(epochs=16, seed=3, patience=2))


def choose(
    accuracies: dict[str, float], images: int = 10_000, macs: dict[str, float] | None = None
) -> tuple[Choice, list[tuple[str, int, float]]]:
    """By accuracies that do not change from rung to rung; what was asked for, in order."""
    asked = []

    def attempt(settings: DistilSettings, rung: int) -> Tried:
        name = settings.distiller
        train = settings.train
        assert (train.seed, train.evaluations, train.patience) == (3, 1, 0)
        asked.append((name, rung, train.epochs or 0.0))
        found = accuracies.get(name, 0.5)
        if math.isnan(found):
            raise DivergedError("the loss is nan")
        return Tried(name, rung, found, 10, (macs or {}).get(name, 1.0))

    return choose_distiller(attempt, SETTINGS, images), asked


def test_the_candidates_are_there() -> None:
    assert set(CANDIDATES) - {"none"} <= set(list_distillers())


def test_halves_of_the_better_on_schedules_of_their_own() -> None:
    choice, asked = choose({"dist": 0.9, "dkd": 0.8, "sp": 0.7})
    rungs = [[name for name, rung, _ in asked if rung == i] for i in (1, 2, 3)]
    assert rungs == [list(CANDIDATES), ["kd", "dkd", "dist", "sp"], ["kd", "dist"]]
    assert [epochs for _, _, epochs in asked] == [1.0] * 7 + [2.0] * 4 + [4.0] * 2
    assert sum(epochs for _, _, epochs in asked) == budget_of() * 16
    assert choice.distiller == choice.best == "dist"
    assert choice.lead == pytest.approx(0.4)
    assert "dist leads kd by 40.00 points" in choice.why
    assert len(RUNGS) == 3


@pytest.mark.parametrize(("images", "picked"), [(100, "kd"), (40_000, "dkd")])
def test_within_noise_kd_is_taken(images: int, picked: str) -> None:
    choice, _ = choose({"kd": 0.90, "dkd": 0.91}, images)
    assert choice.best == "dkd"
    assert choice.distiller == picked
    # Of two shares on n images each.
    variance = (0.9 * 0.1 + 0.91 * 0.09) / images
    assert choice.error == pytest.approx(math.sqrt(variance), rel=0.05)
    assert ("within noise" in choice.why) == (picked == "kd")


def test_all_right_is_no_certainty() -> None:
    choice, _ = choose({"kd": 0.99, "dkd": 1.0}, 100)
    assert choice.error > 0.0
    assert choice.distiller == "kd"


def test_of_equals_the_cheaper() -> None:
    equal = dict.fromkeys(CANDIDATES, 0.5) | {"kd": 0.4}
    choice, _ = choose(equal, 10**6)
    assert choice.distiller == "none"
    dear = dict.fromkeys(CANDIDATES, 2.0) | {"pld": 1.0}
    choice, _ = choose(equal, 10**6, dear)
    assert choice.distiller == "pld"


def test_a_failure_is_no_end() -> None:
    choice, asked = choose({"diswot": math.nan, "dist": 0.9})
    failed = [one for one in choice.tries if one.failure]
    assert [one.distiller for one in failed] == ["diswot"]
    assert ("diswot", 2) not in [(name, rung) for name, rung, _ in asked]
    assert choice.distiller == "dist"
    choice, _ = choose({"kd": math.nan, "dkd": 0.8})
    assert choice.distiller == "dkd"
    assert "kd failed" in choice.why
    told: dict[str, Any] = choice.to_json()
    assert told["lead"] is None
    with pytest.raises(InvalidInputError, match="no distiller could be tried"):
        choose(dict.fromkeys(CANDIDATES, math.nan))


def test_without_validation_images_there_is_nothing_to_choose_on() -> None:
    with pytest.raises(InvalidInputError, match="validation images"):
        choose({}, 0)
