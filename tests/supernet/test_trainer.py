"""The trainer's steps, ranks and runs; what every schedule has to do is in the shipped suite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scholarch.data import load_data
from scholarch.datasets.dataset import DataSet
from scholarch.searchspace.convnets.resnet_cifar import CifarResNetSpace
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.space import SPACES, SearchSpace
from scholarch.supernet.checkpoint import restore, save_checkpoint
from scholarch.supernet.evaluate import Evaluator, accuracy
from scholarch.supernet.pretrained import load_supernet
from scholarch.supernet.session import BEST, LAST, TrainingRun
from scholarch.supernet.settings import TrainSettings
from scholarch.supernet.trainer import DivergedError, Trainer
from scholarch.supernet.world import World

TINY = "test-tiny"


def tiny(name: str, **options: Any) -> SearchSpace:
    """ResNets of three to six blocks."""
    return CifarResNetSpace(name, (1, 2), ((4, 8), (4, 8), (8, 12), (8, 16)), **options)


@pytest.fixture(scope="module")
def data() -> DataSet:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (96, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(96) % 4
    images[np.arange(96), labels, labels] = 255
    return load_data((images, labels), val_fraction=0.2)


@pytest.fixture
def space(monkeypatch: pytest.MonkeyPatch) -> SearchSpace:
    monkeypatch.setitem(SPACES._items, TINY, tiny)
    return create_space(TINY, num_classes=4, resolution=8)


def trainer(space: SearchSpace, data: DataSet, schedule: str, **settings: object) -> Trainer:
    world = settings.pop("world", None)
    given = {"epochs": 2, "batch_size": 8, "lr": 0.02, **settings}
    return Trainer(space, data, TrainSettings(schedule=schedule, **given), world=world)  # type: ignore[arg-type]


def test_passes_of_the_delayed_schedule(space: SearchSpace, data: DataSet) -> None:
    runner = trainer(space, data, "delayed", epochs=8, options={"ramp": 0.1})
    logs = [runner.step() for _ in range(runner.plan.steps)]
    phases = [log.phase for log in logs]
    assert phases == sorted(phases, key=["warm-up", "ramp", "shrink"].index)
    assert {(log.phase, log.forwards, log.backwards) for log in logs} >= {
        ("warm-up", 1, 1),
        ("shrink", 4, 4),
    }
    ramp = [log for log in logs if log.phase == "ramp"]
    moved = [log.weight * log.lr for log in ramp]
    steps = np.diff(moved)
    assert moved[0] == 0.0
    assert np.allclose(steps, steps[0])  # β(t) · lr(t) grows linearly
    end = moved[-1] + steps[0]
    first = next(log for log in logs if log.phase == "shrink")
    assert end == pytest.approx(first.lr)


def test_two_ranks_are_emulated_by_one_process(space: SearchSpace, data: DataSet) -> None:
    alone = trainer(space, data, "sandwich", world=World.emulated(1))
    plain = trainer(space, data, "sandwich")
    two = trainer(space, data, "sandwich", world=World.emulated(2))
    for runner in (alone, plain, two):
        for _ in range(2):
            runner.step()
    assert torch.equal(alone.flat.values, plain.flat.values)
    assert not torch.equal(two.flat.values, plain.flat.values)


def test_what_is_extracted_is_what_was_measured(space: SearchSpace, data: DataSet) -> None:
    runner = trainer(space, data, "sandwich")
    while not runner.done:
        runner.step()
    evaluator = Evaluator(runner.network, data, calibration=64)
    for arch in space.sample(3, 0):
        found = evaluator.accuracy(arch)
        assert found == accuracy(evaluator.extract(arch), evaluator.batches("val"))


def test_a_run_goes_on_and_stops_early(space: SearchSpace, data: DataSet, tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    def kill(progress: object) -> None:
        if progress.step == 25:  # type: ignore[attr-defined]
            raise KilledError

    settings = {"epochs": 5, "evaluations": 5, "calibration": 16}
    whole = TrainingRun(trainer(space, data, "delayed", **settings), tmp_path / "a")
    whole.run()
    half = TrainingRun(trainer(space, data, "delayed", **settings), tmp_path / "b", progress=kill)
    with pytest.raises(KilledError):
        half.run()
    again = TrainingRun(trainer(space, data, "delayed", **settings), tmp_path / "b")
    assert 0 < again.trainer.next_step <= 25
    again.run()
    a, b = load_supernet(tmp_path / "a"), load_supernet(tmp_path / "b")
    for x, y in zip(a.network.state_dict().values(), b.network.state_dict().values(), strict=True):
        assert torch.equal(x, y)
    strip = [{k: v for k, v in line.items() if k != "seconds"} for line in whole.history]
    assert strip == [{k: v for k, v in line.items() if k != "seconds"} for line in again.history]
    assert len(whole.history) == 5
    early = TrainingRun(trainer(space, data, "delayed", lr=1e-9, patience=2, **settings))
    early.run()
    assert early.trainer.next_step < early.trainer.plan.steps


def test_divergence_is_one_line_and_leaves_the_checkpoint(
    space: SearchSpace, data: DataSet, tmp_path: Path
) -> None:
    run = TrainingRun(trainer(space, data, "sandwich", epochs=10, evaluations=10), tmp_path)

    def poison(progress: object) -> None:
        if progress.step == 9:  # type: ignore[attr-defined]
            run.trainer.flat.values.fill_(float("nan"))

    run._progress = poison
    with pytest.raises(DivergedError, match=r"the loss is nan at step 9 .* last checkpoint") as e:
        run.run()
    assert "\n" not in str(e.value)
    again = TrainingRun(trainer(space, data, "sandwich", epochs=10, evaluations=10), tmp_path)
    assert torch.isfinite(again.trainer.flat.values).all()
    assert (tmp_path / BEST).exists()


def test_checkpoints_of_other_runs_are_refused(
    space: SearchSpace, data: DataSet, tmp_path: Path
) -> None:
    path = tmp_path / LAST
    save_checkpoint(trainer(space, data, "sandwich"), path)
    with pytest.raises(InvalidInputError, match="batch_size is 8 there and 16 here"):
        restore(trainer(space, data, "sandwich", batch_size=16), path)
    other = create_space("resnet-cifar-s0", num_classes=4, resolution=8)
    with pytest.raises(InvalidInputError, match="name is 'test-tiny' there"):
        restore(trainer(other, data, "sandwich"), path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InvalidInputError, match="damaged"):
        restore(trainer(space, data, "sandwich"), path)
    with pytest.raises(InvalidInputError, match="create the space with num_classes=4"):
        trainer(create_space(TINY, num_classes=10), data, "sandwich")
