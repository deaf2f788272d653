"""The one trainer with a plain network and a distiller."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from scholarch.datasets.dataset import DataSet
from scholarch.proxies.teacher import Teacher
from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.space import SearchSpace
from scholarch.supernet.checkpoint import restore, save_checkpoint
from scholarch.supernet.distil.guides import SOFT_LABELS, Guides
from scholarch.supernet.distil.run import STUDENT, StudentRun, load_best
from scholarch.supernet.distil.settings import DistilSettings
from scholarch.supernet.distil.trainer import StudentTrainer
from scholarch.supernet.fake_quant import is_fake_quantised
from scholarch.supernet.trainer import Trainer
from scholarch.supernet.world import World
from scholarch.teacher import load_teacher
from scholarch.testing import schedule_suite


@pytest.fixture(scope="module")
def data() -> DataSet:
    return schedule_suite.data()


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return schedule_suite.space()


@pytest.fixture(scope="module")
def arch(space: SearchSpace) -> Architecture:
    return space.sample(1, seed=2)[0]


@pytest.fixture(scope="module")
def teacher(space: SearchSpace) -> Teacher:
    # Its batch norm has statistics of 0 and 1: good enough for an answer to be learned.
    return load_teacher(space.build(space.sample(1, seed=7)[0], seed=7))


def recipe(distiller: str = "kd", *, options: Any = None, **given: Any) -> DistilSettings:
    own = {name: given.pop(name) for name in ("labels", "average", "int8") if name in given}
    train = {"epochs": 1, "batch_size": 4, "lr": 0.02, "evaluations": 2, "augment": "none"}
    settings = DistilSettings.recipe(**{**train, **given})
    return DistilSettings(distiller=distiller, options=options or {}, train=settings, **own)


@pytest.fixture(scope="module")
def new(space: SearchSpace, arch: Architecture, data: DataSet, teacher: Teacher) -> Any:
    def make(settings: DistilSettings, **given: Any) -> StudentTrainer:
        given.setdefault("teachers", (teacher,) if settings.teaches else ())
        return StudentTrainer(space, arch, space.build(arch, seed=0), data, settings, **given)

    return make


def run(trainer: Trainer, steps: int = 10**9) -> list[float]:
    losses = []
    while not trainer.done and trainer.next_step < steps:
        losses.append(trainer.step().loss)
    return losses


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("distiller", ["crd", "lelp", "vid"])
def test_what_is_learnt_beside_is_resumed_bit_for_bit(
    distiller: str, new: Any, tmp_path: Path
) -> None:
    """A memory of features, a classifier of parts of classes, a regression with a variance."""
    whole = new(recipe(distiller))
    losses = run(whole)
    first = new(recipe(distiller))
    before = run(first, 4)
    save_checkpoint(first, tmp_path / "last.safetensors")
    second = new(recipe(distiller))
    restore(second, tmp_path / "last.safetensors")
    assert second.next_step == 4
    assert before + run(second) == losses
    assert equal(whole.network.state_dict(), second.network.state_dict())
    assert torch.equal(whole.momentum, second.momentum)


def test_its_layers_are_trained_with_the_student_and_left_behind(new: Any, arch: Any) -> None:
    trainer = new(recipe("vid"))
    beside = copy.deepcopy(trainer.distiller.state_dict())
    assert beside
    run(trainer, 3)
    moved = trainer.distiller.state_dict()
    assert any(not torch.equal(beside[name], moved[name]) for name in beside)
    plain = trainer.best_network()
    assert set(plain.state_dict()) == set(trainer.space.build(arch).state_dict())
    assert not plain.training


def test_kept_answers_are_the_teacher_s_own(
    new: Any, data: DataSet, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = new(recipe(), folder=tmp_path)
    losses = run(kept)
    assert (tmp_path / SOFT_LABELS).is_file()
    asked = []
    plain = Guides.logits
    monkeypatch.setattr(
        Guides, "logits", lambda self, *given: asked.append(1) or plain(self, *given)
    )
    assert run(new(recipe(), folder=tmp_path)) == losses
    assert not asked  # read back
    monkeypatch.setattr(StudentTrainer, "_keeps_answers", property(lambda _: False))
    live = run(new(recipe()))
    assert len(asked) == len(live)
    assert live == pytest.approx(losses, rel=1e-5)


def test_answers_of_other_images_are_not_taken(new: Any, tmp_path: Path, teacher: Teacher) -> None:
    new(recipe(), folder=tmp_path)
    before = (tmp_path / SOFT_LABELS).read_bytes()
    other = load_teacher(copy.deepcopy(teacher.module), mean=(0.1, 0.1, 0.1), std=(0.3, 0.3, 0.3))
    new(recipe(), folder=tmp_path, teachers=(other,))
    assert (tmp_path / SOFT_LABELS).read_bytes() != before


def test_a_teacher_and_its_duplicate_are_that_teacher(new: Any, teacher: Teacher) -> None:
    one = run(new(recipe()))
    assert run(new(recipe(), teachers=(teacher, teacher))) == pytest.approx(one, rel=1e-4)


def test_no_teacher_is_moved(new: Any, teacher: Teacher) -> None:
    before = copy.deepcopy(teacher.module.state_dict())
    run(new(recipe("sp", augment="light")))
    assert equal(before, teacher.module.state_dict())
    assert not teacher.module.training


def test_labels_alone_are_the_plain_cross_entropy(new: Any) -> None:
    assert run(new(recipe("none"))) == pytest.approx(
        run(new(recipe("kd", options={"weight": 1e-9}, labels=1.0))), rel=1e-4
    )


def test_ranks_in_one_process(new: Any, space: SearchSpace, arch: Architecture) -> None:
    """Two ranks pass twice the images a step; each has its own."""
    own = float(space.cost([arch])["macs"][0])
    for ranks, steps in ((1, 9), (2, 4)):
        trainer = new(recipe(), world=World.emulated(ranks))
        assert trainer.plan.steps == steps
        before = trainer.macs_passed
        run(trainer)
        # Four images a rank, forward once and backward twice.
        assert trainer.macs_passed - before == pytest.approx(4 * ranks * steps * 3 * own)


def test_averaged_weights_are_what_is_handed_over(new: Any) -> None:
    trainer = new(recipe(average=0.9))
    run(trainer)
    plain = dict(trainer.best_network().named_parameters())
    averaged = trainer.flat.views(trainer.average)
    assert all(torch.equal(averaged[f"student.{name}"], value) for name, value in plain.items())
    last = dict(trainer.student.named_parameters())
    assert any(not torch.equal(last[name], value) for name, value in plain.items())


def test_a_run_keeps_what_is_best_by_validation(
    new: Any, space: SearchSpace, arch: Architecture, tmp_path: Path
) -> None:
    trainer = new(recipe(epochs=4, evaluations=4, lr=0.05))
    kept = StudentRun(trainer, tmp_path)
    kept.run()
    best = max(float(line["mean"]) for line in kept.history)
    again = new(recipe(epochs=4, evaluations=4, lr=0.05))
    load_best(again.student, tmp_path / STUDENT, arch)
    assert again.accuracy("val") == best
    other = space.sample(1, seed=9)[0]
    with pytest.raises(InvalidInputError, match="holds .*, not .*; give the folder of its own"):
        load_best(space.build(other), tmp_path / STUDENT, other)
    (tmp_path / STUDENT).write_bytes(b"x" * 30)
    with pytest.raises(InvalidInputError, match="no distilled student in"):
        load_best(again.student, tmp_path / STUDENT, arch)


def test_what_does_not_fit_is_refused(new: Any, teacher: Teacher) -> None:
    with pytest.raises(InvalidInputError, match="no teacher was given"):
        new(recipe(), teachers=())
    with pytest.raises(InvalidInputError, match="'none' learns from labels alone"):
        new(recipe("none"), teachers=(teacher,))
    with pytest.raises(InvalidInputError, match="compares maps and takes one teacher, not 2"):
        new(recipe("sp"), teachers=(teacher, teacher))
    with pytest.raises(InvalidInputError, match="reads maps, which a compiled network"):
        new(recipe("sp", compile=True))
    with pytest.raises(InvalidInputError, match="has 10 classes, data .* has 4"):
        new(recipe(), teachers=(load_teacher("resnet14-digits"),))


def test_int8_trains_rounded_and_hands_over_a_plain_network(new: Any, tmp_path: Path) -> None:
    plain, rounded = new(recipe()), new(recipe(int8=True))
    assert run(plain) != run(rounded)
    assert is_fake_quantised(rounded.student)
    kept = rounded.best_network()
    assert not is_fake_quantised(kept)
    assert kept.state_dict().keys() == plain.best_network().state_dict().keys()
    own = [m for m in rounded.student.modules() if hasattr(m, "observe")]
    assert {m.observe for m in own} == {rounded.plan.steps // 2}


def test_int8_is_resumed_bit_for_bit(new: Any, tmp_path: Path) -> None:
    """Ranges of inputs are in the checkpoint, and how many steps they were followed for."""
    whole = new(recipe(int8=True))
    losses = run(whole)
    first = new(recipe(int8=True))
    before = run(first, 6)
    save_checkpoint(first, tmp_path / "last.safetensors")
    second = new(recipe(int8=True))
    restore(second, tmp_path / "last.safetensors")
    assert before + run(second) == losses
    assert equal(second.network.state_dict(), whole.network.state_dict())


def test_int8_is_not_compiled() -> None:
    with pytest.raises(InvalidInputError, match="leave compile out"):
        recipe(int8=True, compile=True)
