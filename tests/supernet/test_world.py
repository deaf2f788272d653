"""Two processes compute what one computes in the place of two."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from scholarch.data import load_data
from scholarch.datasets.dataset import DataSet
from scholarch.searchspace.convnets.resnet_cifar import CifarResNetSpace
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.space import SPACES
from scholarch.supernet.checkpoint import restore, save_checkpoint
from scholarch.supernet.session import LAST, TrainingRun
from scholarch.supernet.settings import TrainSettings
from scholarch.supernet.trainer import Trainer
from scholarch.supernet.world import PATIENCE, World

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="torch was built without torch.distributed"
)

STEPS = 8
SAVED = 5
TINY = "test-tiny"
CHECKPOINT = "middle.safetensors"


def images() -> DataSet:
    """77 images to train on, 19 to validate."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (96, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(96) % 4
    pixels[np.arange(96), labels, labels] = 255
    return load_data((pixels, labels), val_fraction=0.2)


def tiny(name: str, **options: Any) -> CifarResNetSpace:
    """ResNets of three to six blocks."""
    return CifarResNetSpace(name, (1, 2), ((4, 8), (4, 8), (8, 12), (8, 16)), **options)


def trainer(world: World, schedule: str = "delayed", **settings: Any) -> Trainer:
    """Eight steps, the channels sorted before the fifth."""
    space = tiny(TINY, num_classes=4, resolution=8)
    given: dict[str, Any] = {"epochs": STEPS / 9, "batch_size": 4, "lr": 0.05, **settings}
    made = Trainer(space, images(), TrainSettings(schedule=schedule, **given), world=world)
    assert made.plan.steps == STEPS
    return made


def state(trainer: Trainer) -> dict[str, Tensor]:
    """All that a step changes."""
    return {
        "values": trainer.flat.values.clone(),
        "momentum": trainer.momentum.clone(),
        "statistics": trainer.flat.buffers.clone(),
    }


class Spy:
    """What a rank draws, and what it sends."""

    def __init__(self, trainer: Trainer) -> None:
        self.archs: list[str] = []
        self.images: list[float] = []
        self.reduced: list[int] = []
        count, batch = trainer.costs.count, trainer.loader.batch
        reduce = torch.distributed.all_reduce

        def counted(arch: Any, *passes: int) -> None:
            self.archs.append(str(arch))
            count(arch, *passes)

        def loaded(*at: int) -> tuple[Tensor, Tensor]:
            found = batch(*at)
            self.images.append(float(found[0].sum()))
            return found

        def reduced(tensor: Tensor, *args: Any) -> Any:
            self.reduced.append(tensor.numel())
            return reduce(tensor, *args)

        trainer.costs.count = counted  # type: ignore[method-assign, assignment]
        trainer.loader.batch = loaded  # type: ignore[method-assign, assignment]
        torch.distributed.all_reduce = reduced


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    SPACES._items[TINY] = tiny  # type: ignore[assignment]
    world = World.from_environment(patience=60.0)
    rank = world.shards[0]
    first = trainer(world)
    spy = Spy(first)
    while not first.done:
        if first.next_step == SAVED and world.leads:
            save_checkpoint(first, folder / CHECKPOINT)
        first.step()
    said: dict[str, Any] = {"archs": spy.archs, "images": spy.images, "reduced": [*spy.reduced]}
    world.barrier()
    second = trainer(world)
    restore(second, folder / CHECKPOINT)
    while not second.done:
        second.step()
    save_file(state(first), folder / f"straight{rank}.safetensors")
    save_file(state(second), folder / f"resumed{rank}.safetensors")
    # One rank's clock says "save" after every step, the other's never.
    run = TrainingRun(
        trainer(world, "sandwich", evaluations=4, patience=1, lr=1e-8, calibration=16),
        folder / "run",
        every=300.0 if rank else 0.0,
    )
    run.run()
    # Each rank counts its own networks' cost, and its own seconds.
    said |= {"history": [line | {"seconds": 0.0, "macs": 0.0} for line in run.history]}
    said |= {"stopped": run.trainer.next_step, "saved": (folder / "run" / LAST).exists()}
    said["told"] = world.first([float(rank), 0.1])
    said["agrees"] = [world.agrees(rank == 1), world.agrees(False)]
    (folder / f"rank{rank}.json").write_text(json.dumps(said))
    last = trainer(world)
    last.step()
    if rank:
        raise SystemExit(3)  # an error on one rank
    start = time.monotonic()
    try:
        last.step()
    except RuntimeError:
        (folder / "noticed").write_text(str(time.monotonic() - start))


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, module_fork: Callable[[Callable[[], int]], Any]
) -> Path:
    """What two processes have left."""
    folder = tmp_path_factory.mktemp("ranks")
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}

    def work(rank: int) -> int:
        os.environ.update(shared | {"RANK": str(rank)})
        main(folder)
        return 0

    ranks = [module_fork(lambda rank=rank: work(rank)) for rank in range(2)]  # type: ignore[misc]
    ended = [rank.wait() for rank in ranks]
    assert [code for code, *_ in ended] == [0, 3], ended
    return folder


@pytest.fixture(scope="module")
def said(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


def test_two_processes_equal_one_in_their_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SPACES._items, TINY, tiny)
    alone = trainer(World.emulated(2))
    sorted_at = [i for i in range(STEPS) if alone.plan.at(i).phase.sort is not None]
    assert 0 < sorted_at[0] < STEPS - 1
    start = state(alone)
    while not alone.done:
        alone.step()
    for name, expected in state(alone).items():
        assert not torch.equal(expected, start[name])
        for rank in range(2):
            found = load_file(folder / f"straight{rank}.safetensors")[name]
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_ranks_stay_equal_bit_for_bit_and_so_they_resume(folder: Path) -> None:
    names = ("straight0", "straight1", "resumed0", "resumed1")
    states = [load_file(folder / f"{name}.safetensors") for name in names]
    for other in states[1:]:
        assert all(torch.equal(tensor, other[name]) for name, tensor in states[0].items())


def test_ranks_draw_networks_and_images_of_their_own(said: list[dict[str, Any]]) -> None:
    first, second = said
    assert all(a != b for a, b in zip(first["images"], second["images"], strict=True))
    assert len(first["archs"]) == len(second["archs"]) > STEPS
    assert first["archs"] != second["archs"]


def test_one_all_reduce_a_step(said: list[dict[str, Any]]) -> None:
    assert all(len(rank["reduced"]) == STEPS for rank in said)
    assert len(set(said[0]["reduced"])) == 1


def test_a_run_ends_on_all_ranks_at_once(said: list[dict[str, Any]]) -> None:
    """Also where their clocks do not agree on when to save."""
    first, second = said
    assert first["history"] == second["history"]
    assert first["stopped"] == second["stopped"] < STEPS  # nothing was learned
    assert first["saved"]


def test_what_ranks_tell_each_other(said: list[dict[str, Any]]) -> None:
    for rank in said:
        assert rank["told"] == [0.0, 0.1]
        assert rank["agrees"] == [True, False]


def test_a_rank_that_dies_is_noticed(folder: Path) -> None:
    assert float((folder / "noticed").read_text()) < 30.0


def test_a_rank_that_hangs_is_waited_for_in_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda *args, **named: asked.update(named)
    )
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    assert World.from_environment() == World(2, (1,), distributed=True)
    assert asked == {"timeout": timedelta(seconds=PATIENCE)}


@pytest.mark.parametrize(("size", "says"), [("two", "WORLD_SIZE = 'two'"), ("2", "RANK expected")])
def test_half_an_environment_is_refused(
    monkeypatch: pytest.MonkeyPatch, size: str, says: str
) -> None:
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(InvalidInputError, match=says) as refusal:
        World.from_environment()
    assert "torchrun" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_alone() -> None:
    world = World()
    assert world.leads
    assert world.first([1.5]) == [1.5]
    assert world.agrees(True)
    assert not world.agrees(False)
    world.barrier()
    with pytest.raises(InvalidInputError, match="0 ranks"):
        World.emulated(0)
