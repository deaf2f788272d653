"""What every registered schedule of supernet training has to do."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from scholarch.data import load_data
from scholarch.datasets.dataset import DataSet
from scholarch.searchspace.convnets.resnet_cifar import CifarResNetSpace
from scholarch.searchspace.space import SearchSpace
from scholarch.supernet.checkpoint import restore, save_checkpoint
from scholarch.supernet.factory import create_schedule, describe_schedule
from scholarch.supernet.plan import Plan
from scholarch.supernet.schedule import SCHEDULES
from scholarch.supernet.settings import TrainSettings
from scholarch.supernet.trainer import Trainer, schedule_of
from scholarch.testing import registered

#: Steps of a run; once-for-all's six phases all get one of their own.
STEPS = 24


@cache
def data() -> DataSet:
    """48 images of 8×8 pixels; the class is where a white pixel lies."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 200, (48, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(48) % 4
    images[np.arange(48), labels, labels] = 255
    return load_data((images, labels), val_fraction=0.2)


@cache
def space() -> SearchSpace:
    """128 ResNets of three to six blocks, the largest of 10,000 parameters."""
    widths = ((4, 8), (4, 8), (8, 12), (8, 16))
    return CifarResNetSpace("tiny", (1, 2), widths, num_classes=4, resolution=8)


def new(schedule: str, macs: float) -> Trainer:
    """A trainer at its first step; of an attack's steps one is as good as ten here."""
    known = inspect.signature(SCHEDULES[schedule]).parameters
    options = {"attack_steps": 1} if "attack_steps" in known else {}
    settings = TrainSettings(schedule, options, macs=macs, batch_size=4, lr=0.02)
    return Trainer(space(), data(), settings)


class Whole(NamedTuple):
    """A finished run.

    Attributes:
        trainer: at its end.
        losses: of its steps.
        macs: that it was given.
    """

    trainer: Trainer
    losses: list[float]
    macs: float


@pytest.fixture(scope="module")
def whole() -> Callable[[str], Whole]:
    """Runs a schedule once, on a budget that is worth :data:`STEPS` steps."""

    @cache
    def run(schedule: str) -> Whole:
        probe = new(schedule, 1e12)
        phases = probe.schedule.phases
        total = math.fsum(phase.share for phase in phases)
        step = math.fsum(phase.share / total * probe.costs.expected(phase) for phase in phases)
        macs = (STEPS + 0.5) * step
        trainer = new(schedule, macs)
        losses = []
        while not trainer.done:
            losses.append(trainer.step().loss)
        return Whole(trainer, losses, macs)

    return run


@pytest.mark.parametrize("schedule", registered("schedule"))
class TestEverySchedule:
    def test_says_in_a_line_what_it_is(self, schedule: str) -> None:
        assert describe_schedule(schedule)
        assert create_schedule(schedule).name == schedule

    def test_shares_become_all_of_the_steps(self, schedule: str) -> None:
        made = create_schedule(schedule)
        shares = [phase.share for phase in made.phases]
        plan = Plan(made, 1000, lr=0.1, final=1e-3, warmup=0.02)
        steps = np.diff(plan.starts)
        assert steps.sum() == 1000
        assert steps.min() >= 1
        exact = 1000 * np.array(shares) / math.fsum(shares)
        assert np.abs(steps - exact).max() <= len(shares)
        places = [plan.at(step) for step in range(1000)]
        assert [p.index for p in places] == sorted(p.index for p in places)
        assert sum(p.first for p in places) == len(shares)
        assert all(0.0 < p.lr <= 0.1 for p in places)
        assert all(p.weight >= 0.0 for p in places)

    def test_is_plain_data(self, schedule: str) -> None:
        made = create_schedule(schedule).to_json()
        text = json.dumps(made, allow_nan=False)
        assert json.loads(json.dumps(create_schedule(schedule).to_json())) == json.loads(text)
        settings = TrainSettings(schedule=schedule, epochs=3, batch_size=8)
        assert TrainSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings

    def test_an_external_teacher_stands_in_for_the_largest(self, schedule: str) -> None:
        made = schedule_of(TrainSettings(schedule=schedule, external=True))
        assert made.sources() == {"external"}
        assert not any(phase.freeze for phase in made.phases)

    def test_trains_on_the_budget(self, schedule: str, whole: Callable[[str], Whole]) -> None:
        run = whole(schedule)
        assert len(run.losses) >= STEPS - 1
        assert np.isfinite(run.losses).all()
        assert run.trainer.flat.values.isfinite().all()
        fresh = space().supernet(seed=0).state_dict()
        moved = [n for n, t in run.trainer.network.state_dict().items() if not t.equal(fresh[n])]
        assert len(moved) > len(fresh) / 4
        assert run.trainer.macs_passed == pytest.approx(run.macs, rel=0.15)

    def test_the_same_bits_again_and_after_a_resume(
        self, schedule: str, whole: Callable[[str], Whole], tmp_path: Path
    ) -> None:
        run = whole(schedule)
        middle = run.trainer.plan.steps // 2
        again = new(schedule, run.macs)
        losses = [again.step().loss for _ in range(middle)]
        assert losses == run.losses[:middle]
        save_checkpoint(again, tmp_path / "middle.safetensors")
        resumed = new(schedule, run.macs)
        restore(resumed, tmp_path / "middle.safetensors")
        while not resumed.done:
            losses.append(resumed.step().loss)
        assert losses == run.losses
        theirs = resumed.network.state_dict()
        for name, tensor in run.trainer.network.state_dict().items():
            assert torch.equal(tensor, theirs[name]), name
        assert torch.equal(run.trainer.momentum, resumed.momentum)
        assert run.trainer.macs_passed == resumed.macs_passed
