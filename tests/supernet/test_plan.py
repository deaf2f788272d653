"""Schedules laid out in steps."""

from __future__ import annotations

import itertools
import math

import pytest

from scholarch.searchspace.errors import InvalidInputError, UnknownNameError
from scholarch.supernet.factory import create_schedule, list_schedules
from scholarch.supernet.plan import Plan
from scholarch.supernet.schedule import Pass, Phase, Schedule, kind_of


def plan(schedule: Schedule, steps: int = 1000) -> Plan:
    return Plan(schedule, steps, lr=0.8, final=0.001, warmup=0.02)


def test_delayed_has_its_papers_proportions() -> None:
    laid = plan(create_schedule("delayed"), 270)
    assert laid.starts == [0, 130, 135, 270]  # 270 epochs, a warm-up of 135, 5 of them the ramp
    assert [len(p.passes) for p in laid.schedule.phases] == [1, 3, 3]
    assert sum(p.count for p in laid.schedule.phases[2].passes) == 4


def test_progressive_has_its_papers_proportions() -> None:
    laid = plan(create_schedule("progressive"), 605)
    assert laid.starts == [0, 180, 305, 330, 455, 480, 605]
    assert [p.passes[0].count for p in laid.schedule.phases] == [1, 1, 2, 2, 4, 4]
    peaks = [max(laid.at(s).lr for s in range(a, b)) for a, b in itertools.pairwise(laid.starts)]
    assert peaks == pytest.approx(
        [0.8 * x for x in (1, 0.375, 1 / 32, 3 / 32, 1 / 32, 3 / 32)], rel=0.02
    )


def test_one_cosine_runs_through_phases_without_a_peak() -> None:
    laid = plan(create_schedule("delayed"))
    rates = [laid.at(step).lr for step in range(1000)]
    assert max(rates) == pytest.approx(0.8)
    assert rates.index(max(rates)) <= 20
    assert all(a >= b for a, b in itertools.pairwise(rates[20:]))
    assert rates[-1] == pytest.approx(0.0008, rel=0.01)
    middle = 20 + 490
    assert rates[middle] == pytest.approx(0.5 * (0.8 + 0.0008), rel=0.01)


def test_the_ramp_moves_linearly_whatever_the_rate_does() -> None:
    laid = plan(create_schedule("delayed", warmup=0.5, ramp=0.2))
    start, end = laid.starts[1:3]
    moved = [laid.at(s).weight * laid.at(s).lr for s in range(start, end)]
    reference = laid.at(end).lr
    assert moved == pytest.approx([reference * n / (end - start) for n in range(end - start)])
    assert laid.at(end).weight == 1.0


def test_every_step_has_a_phase_and_phases_a_step() -> None:
    for name in list_schedules():
        phases = len(create_schedule(name).phases)
        laid = plan(create_schedule(name), phases)
        assert [laid.at(s).index for s in range(phases)] == list(range(phases))
        assert all(laid.at(s).first and math.isfinite(laid.at(s).lr) for s in range(phases))
        if phases > 1:
            with pytest.raises(InvalidInputError, match=f"{phases - 1} steps for the {phases}"):
                plan(create_schedule(name), phases - 1)


def test_kinds_of_genes() -> None:
    names = ("kernel1.2", "depth3", "d0", "layers2", "expand1.1", "width0", "e3", "w1", "op01")
    assert [kind_of(n) for n in names] == ["kernel", *["depth"] * 3, *["width"] * 5]


def test_bad_schedules_are_refused_in_a_line() -> None:
    with pytest.raises(UnknownNameError, match="did you mean delayed"):
        create_schedule("delaied")
    with pytest.raises(InvalidInputError, match="warmpu"):
        create_schedule("delayed", warmpu=0.3)
    with pytest.raises(InvalidInputError, match="0 < ramp < warmup < 1"):
        create_schedule("delayed", warmup=1.5)
    with pytest.raises(InvalidInputError, match="draw = 'any'"):
        Pass("any", labels=1.0)
    with pytest.raises(InvalidInputError, match="one above"):
        Pass("random")
    with pytest.raises(InvalidInputError, match="its own answers"):
        Pass("largest", soft=1.0)
    with pytest.raises(InvalidInputError, match="kinds are kernel, depth, width"):
        Phase("a", 1.0, (Pass("random", labels=1.0),), free={"kernels": None})
