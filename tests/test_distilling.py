"""``distil_student``: from a run's folder to a student, and what is kept on the way."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import scholarch
from scholarch.datasets.arrays import Part
from scholarch.datasets.dataset import DataSet
from scholarch.distilling import distil_student
from scholarch.proxies.teacher import Teacher
from scholarch.search.distilled import Distilled
from scholarch.search.student import Student, TrainedWeights
from scholarch.searchspace.convnets.resnet_cifar import CifarResNetSpace
from scholarch.searchspace.errors import InvalidInputError, UnknownNameError
from scholarch.searchspace.space import SPACES, SearchSpace
from scholarch.supernet.checkpoint import read_checkpoint
from scholarch.supernet.distil.distiller import DISTILLERS, Distiller, Pair, Sides
from scholarch.supernet.distil.trainer import StudentTrainer
from scholarch.supernet.session import LAST
from scholarch.supernet.trainer import DivergedError, StepLog, Trainer
from scholarch.supernet.world import World

SPACE = "test-distil"

pytestmark = pytest.mark.usefixtures("plain_curves")


def tiny(name: str, **options: Any) -> SearchSpace:
    """ResNets of three to six blocks."""
    return CifarResNetSpace(name, (1, 2), ((4, 8), (4, 8), (8, 12), (8, 16)), **options)


class Learnt(Distiller):
    """Regresses the teacher's pooled features, and counts in a buffer how often."""

    labels = 1.0
    zero_at_teacher = False

    def __init__(self, sides: Sides, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight
        self.layer = torch.nn.utils.skip_init(
            torch.nn.Linear, sides.student.pooled, sides.teacher.pooled
        )
        generator = torch.Generator().manual_seed(sides.seed)
        with torch.no_grad():
            for parameter in self.layer.parameters():
                parameter.uniform_(-0.1, 0.1, generator=generator)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, pair: Pair) -> Tensor:
        self.count += 1
        difference = self.layer(pair.student.pooled) - pair.teacher.pooled
        return self.weight * (1 + 0.01 * self.count) * difference.square().mean()


@pytest.fixture(scope="module", autouse=True)
def _registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SPACES._items, SPACE, tiny)
        patch.setitem(DISTILLERS._items, "test-learnt", Learnt)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``data.npz``: 80 images in four classes; ``teacher``: a folder of a student."""
    folder = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 128, (104, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(104) % 4
    images[np.arange(104), labels] = 255
    cuts = {"train": slice(0, 64), "val": slice(64, 84), "test": slice(84, 104)}
    parts = {f"x_{name}": images[cut] for name, cut in cuts.items()}
    np.savez(folder / "data.npz", **parts, **{f"y_{n}": labels[c] for n, c in cuts.items()})
    space = tiny(SPACE, num_classes=4, resolution=8)
    arch = space.sample(1, seed=5)[0]
    plain = Student(arch, space, {}, 0.0)
    found = distil_student(plain, data=folder / "data.npz", distiller="none", epochs=3, **QUICK)
    found.student.save_pretrained(folder / "teacher")
    return folder


QUICK: dict[str, Any] = {"batch_size": 8, "lr": 0.05, "evaluations": 3}
"""Eight steps an epoch."""


@pytest.fixture(scope="module")
def searched(place: Path) -> Path:
    """A search's folder."""
    out = place / "run"
    scholarch.find_student(
        space=SPACE,
        data=place / "data.npz",
        teacher=place / "teacher",
        proxies=["macs"],
        evaluations=6,
        batch_size=8,
        budget={"macs": 150_000},
        out=out,
    )
    return out


@pytest.fixture(scope="module")
def data(place: Path) -> DataSet:
    return scholarch.load_data(place / "data.npz")


@pytest.fixture(scope="module")
def teacher(place: Path) -> Teacher:
    return scholarch.load_teacher(place / "teacher")


@pytest.fixture(scope="module")
def student(searched: Path) -> Student:
    return scholarch.SearchResult.load(searched).best


def distil(student: Student | Path, **given: Any) -> Distilled:
    return distil_student(student, **{"epochs": 2, **QUICK, **given})


def state(found: Distilled) -> dict[str, Tensor]:
    return found.student.module().state_dict()


def same(a: Distilled, b: Distilled) -> bool:
    pairs = zip(state(a).values(), state(b).values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def close(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    for name, value in a.items():
        assert torch.allclose(value.float(), b[name].float(), atol=1e-4), name


def test_a_run_s_folder_alone_is_enough(
    searched: Path, place: Path, student: Student, tmp_path: Path
) -> None:
    found = distil(searched)
    out = searched / "distil"
    assert found.out == out
    assert found.student.arch == student.arch
    names = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    assert names == {
        "distil.json",
        "last.safetensors",
        "best.safetensors",
        "history.csv",
        "curves.svg",
        "report.html",
        "student",
    }
    told = json.loads((out / "distil.json").read_text())
    assert told["finished"] is True
    assert list(told["teachers"]) == [str(place / "teacher")]
    trained = found.student.trained
    assert trained is not None
    assert trained.accuracy == {part: told["student"][part] for part in ("val", "test")}
    # What is handed over is what was best, and what was measured.
    assert trained.accuracy["val"] == max(line["mean"] for line in found.history)
    again = Student.from_pretrained(out / "student")
    pairs = zip(again.state_dict().values(), state(found).values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert set(found.teachers) == {str(place / "teacher")}
    assert "distilled:" in (searched / "report.html").read_text()
    page = (out / "report.html").read_text()
    assert "The distilled student" in page
    assert '<tr class="picked"><th scope="row">student</th>' in page
    # A finished run is returned as it is, with and without --resume.
    for resume in (False, True):
        before = {path: path.stat().st_mtime_ns for path in out.glob("*.safetensors")}
        assert same(found, distil(searched, resume=resume, progress=lambda _: pytest.fail("step")))
        assert before == {path: path.stat().st_mtime_ns for path in out.glob("*.safetensors")}
    with pytest.raises(InvalidInputError, match="other settings .epochs is 2 there and 3 here"):
        distil(searched, epochs=3, resume=True)
    with pytest.raises(InvalidInputError, match="seed is 0 there and 1 here"):
        distil(searched, seed=1)


def test_a_student_in_memory(student: Student, teacher: Teacher, data: DataSet) -> None:
    found = student.distil(teacher, data, epochs=2, **QUICK)
    assert found.out is None
    assert found.student.trained is not None
    assert set(found.student.trained.accuracy) == {"val", "test"}
    assert same(found, distil(student, teacher=teacher, data=data))
    assert not same(found, distil(student, teacher=teacher, data=data, seed=1))
    with pytest.raises(InvalidInputError, match="give --data and --teacher"):
        distil(student)


class Counting:
    """A data set that counts how often each image of the test part is read."""

    def __init__(self, data: DataSet) -> None:
        self._data, self.read = data, np.zeros(len(data.test.labels), dtype=int)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    @property
    def test(self) -> Any:
        counts, part = self.read, self._data.test

        class Images(np.ndarray):
            def __getitem__(self, chosen: Any) -> Any:
                counts[chosen] += 1
                return np.asarray(self)[chosen]

        return Part(part.images.view(Images), part.labels)


def test_the_test_part_is_read_once(
    student: Student, teacher: Teacher, data: DataSet, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    counting = Counting(data)
    monkeypatch.setattr("scholarch.distilling.load_data", lambda _: counting)
    given: dict[str, Any] = {"teacher": [teacher, teacher], "data": "x", "out": tmp_path / "a"}

    def stop(step: Any) -> None:
        if step.stage == "hand-made":
            assert not counting.read.any()
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        distil(student, **given, baseline=True, progress=stop)
    found = distil(student, **given, baseline=True, resume=True)
    assert counting.read.tolist() == [1] * len(data.test.labels)
    assert found.baseline is not None
    # It is stored: nothing reads it again.
    distil(student, **given, baseline=True)
    assert counting.read.tolist() == [1] * len(data.test.labels)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_goes_on_bit_for_bit(
    number: int, student: Student, teacher: Teacher, data: DataSet, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"teacher": teacher, "data": data, "distiller": "test-learnt"}
    whole = distil(student, **given, average=0.9)

    def stop(step: Any) -> None:
        if step.done == 7:
            os.kill(os.getpid(), number)

    given |= {"out": tmp_path / "a", "average": 0.9}
    with pytest.raises(KeyboardInterrupt):
        distil(student, **given, progress=stop)
    assert json.loads((tmp_path / "a" / "distil.json").read_text())["steps_done"] == 7
    with pytest.raises(InvalidInputError, match="unfinished run .*; add --resume to go on"):
        distil(student, **given)
    steps: list[int] = []
    again = distil(student, **given, resume=True, progress=lambda step: steps.append(step.done))
    assert steps == list(range(8, 17))
    assert same(whole, again)
    plain = [[{**line, "seconds": 0} for line in one.history] for one in (whole, again)]
    assert plain[0] == plain[1]
    # What was learnt beside the student and what it counted are in the checkpoint.
    tensors, _ = read_checkpoint(tmp_path / "a" / LAST)
    assert tensors["net.beside.count"] == 16


def test_killed_it_goes_on_bit_for_bit(
    fork: Any, student: Student, teacher: Teacher, data: DataSet, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"teacher": teacher, "data": data, "evaluations": 8}
    whole = distil(student, **given)

    def run() -> int:
        def die(step: Any) -> None:
            if step.done == 11:
                os.kill(os.getpid(), signal.SIGKILL)

        distil(student, **given, out=tmp_path / "a", progress=die)
        return 0

    code, _, _ = fork(run).wait()
    assert code == -signal.SIGKILL
    assert same(whole, distil(student, **given, out=tmp_path / "a", resume=True))


def test_several_teachers_and_kept_answers(
    student: Student, teacher: Teacher, data: DataSet, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    given: dict[str, Any] = {"data": data, "augment": "none"}
    one = distil(student, teacher=teacher, **given, out=tmp_path / "a")
    assert (tmp_path / "a" / "soft-labels.safetensors").is_file()
    # Asked at every step in place of once: the same answers.
    monkeypatch.setattr(StudentTrainer, "_keeps_answers", property(lambda _: False))
    live = distil(student, teacher=teacher, **given, out=tmp_path / "b")
    assert not (tmp_path / "b" / "soft-labels.safetensors").exists()
    assert live.told["macs_passed"] > one.told["macs_passed"]
    monkeypatch.undo()
    close(state(one), state(live))
    # A teacher and its duplicate are that teacher.
    two = distil(student, teacher=[teacher, teacher], **given)
    close(state(one), state(two))
    assert len(two.teachers) == 3


def test_the_hand_made_network_by_the_same_recipe(
    student: Student, teacher: Teacher, data: DataSet, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"teacher": teacher, "data": data, "out": tmp_path / "a"}
    alone = distil(student, **given)
    assert alone.baseline is None
    # Asked for afterwards it is trained then, and nothing else is.
    stages: set[str] = set()
    both = distil(student, **given, baseline=True, progress=lambda step: stages.add(step.stage))
    assert stages == {"hand-made"}
    assert same(alone, both)
    rival = both.baseline
    assert rival is not None
    assert rival.trained is not None
    assert rival.arch.key != student.arch.key
    assert rival.costs["macs"] <= student.space.cost([student.arch])["macs"][0]
    by_itself = distil(replace(student, arch=rival.arch), teacher=teacher, data=data)
    pairs = zip(state(by_itself).values(), rival.module().state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    page = (tmp_path / "a" / "report.html").read_text()
    assert rival.arch.text in page
    assert page.count("data:image/svg+xml") == 2


def test_auto_says_what_it_picked_and_why(
    student: Student, teacher: Teacher, data: DataSet, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"teacher": teacher, "data": data, "distiller": "auto"}
    given |= {"out": tmp_path / "a"}

    def stop(step: Any) -> None:
        if step.stage.startswith("rung 2"):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        distil(student, **given, progress=stop)
    with pytest.raises(InvalidInputError, match="add --resume"):
        distil(student, **given)
    first: list[str] = []
    found = distil(student, **given, resume=True, progress=lambda step: first.append(step.stage))
    assert first[0].startswith("rung 2")  # the first is not done again
    choice = found.told["choice"]
    assert found.told["distiller"] == choice["distiller"]
    assert choice["why"]
    counts = [sum(one["rung"] == rung for one in choice["tries"]) for rung in (1, 2, 3)]
    assert counts == [7, 4, 2]
    for one in choice["tries"]:
        # One that does not fit 2×2 pixels is left out, with its reason.
        assert (one["accuracy"] is None) == bool(one["failure"])
    assert "kd" in {one["distiller"] for one in choice["tries"] if one["rung"] == 3}
    assert not (tmp_path / "a" / "choose").exists()
    named = distil(student, **{**given, "distiller": choice["distiller"], "out": None})
    assert same(found, named)
    assert f"Why {choice['distiller']}" in (tmp_path / "a" / "report.html").read_text()


def test_from_other_weights(student: Student, teacher: Teacher, data: DataSet, place: Path) -> None:
    given: dict[str, Any] = {"teacher": teacher, "data": data}
    with pytest.raises(InvalidInputError, match="no trained weights"):
        distil(student, **given, init="trained")
    with pytest.raises(InvalidInputError, match="--init 'warm'; one of scratch, trained, teacher"):
        distil(student, **given, init="warm")
    first = distil(student, **given)
    more = distil(first.student, **given, init="trained", epochs=0.5, lr=1e-6)
    for name, value in state(first).items():
        if "running" not in name and "tracked" not in name:
            assert torch.allclose(value, state(more)[name], atol=1e-3)
    space = student.space
    largest = space.decode(np.array([[len(gene.values) - 1 for gene in space.genes]]))[0]
    large = TrainedWeights(lambda: space.build(largest, seed=3), {}, {})
    guide = scholarch.load_teacher(large.module())
    inherited = distil(student, teacher=guide, data=data, init="teacher", epochs=0.2, lr=1e-6)
    assert inherited.told["start"]["init"] == "teacher"
    assert inherited.told["start"]["share"] > 0.5


def test_two_ranks_in_one_process_are_one_run(
    student: Student, teacher: Teacher, data: DataSet, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"teacher": teacher, "data": data, "epochs": 1, "batch_size": 4}
    found = distil(student, **given, world=World.emulated(2), out=tmp_path / "a")
    assert found.told["world"] == 2
    assert found.told["steps_done"] == 8
    assert found.told["student"]["val"] is not None


class TestRefusals:
    """One clear line each."""

    def test_no_run(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInputError, match="no student in .*no run and no student"):
            distil(tmp_path)
        with pytest.raises(InvalidInputError, match="is no folder"):
            distil(tmp_path / "a")

    def test_names(self, searched: Path) -> None:
        with pytest.raises(UnknownNameError, match="unknown distiller 'kdd'; did you mean kd"):
            distil(searched, distiller="kdd")
        with pytest.raises(InvalidInputError, match="has no option tau"):
            distil(searched, options={"tau": 4})
        with pytest.raises(InvalidInputError, match="auto with options"):
            distil(searched, distiller="auto", options={"temperature": 4})
        with pytest.raises(UnknownNameError, match="distillation setting 'momentun'"):
            distil(searched, momentun=0.5)

    def test_other_classes(self, student: Student, data: DataSet, searched: Path) -> None:
        with pytest.raises(InvalidInputError, match="has 10 classes, data .* has 4"):
            distil(student, teacher="resnet14-digits", data=data)
        with pytest.raises(InvalidInputError, match="has 4 classes, data 'digits' has 10"):
            distil(searched, data="digits")

    def test_data_that_cannot_be_had_again(self, searched: Path, place: Path) -> None:
        there = place / "data.npz"
        content = there.read_bytes()
        there.rename(place / "away.npz")
        try:
            with pytest.raises(InvalidInputError, match="cannot be had again.*give --data"):
                distil(searched, out=place / "x")
            with np.load(place / "away.npz") as parts:
                changed = {name: parts[name].copy() for name in parts.files}
            changed["x_train"][:] = 255 - changed["x_train"]
            np.savez(there, **changed)
            with pytest.raises(InvalidInputError, match="are others than those with which"):
                distil(searched, out=place / "x")
            there.write_bytes(content[:100])
            with pytest.raises(InvalidInputError, match="give --data"):
                distil(searched, out=place / "x")
        finally:
            (place / "away.npz").replace(there)
        assert not (place / "x").exists()

    def test_a_teacher_that_cannot_be_had_again(self, searched: Path, place: Path) -> None:
        (place / "teacher").rename(place / "gone")
        try:
            with pytest.raises(InvalidInputError, match="cannot be had again.*give --teacher"):
                distil(searched, out=place / "x")
        finally:
            (place / "gone").rename(place / "teacher")
        run = json.loads((searched / "run.json").read_text())
        kept = (searched / "run.json").read_text()
        run["settings"]["teacher"]["fingerprint"] = "0" * 16
        (searched / "run.json").write_text(json.dumps(run))
        try:
            with pytest.raises(InvalidInputError, match="is another than in the search"):
                distil(searched, out=place / "x")
        finally:
            (searched / "run.json").write_text(kept)

    def test_others_folders(
        self, student: Student, teacher: Teacher, data: DataSet, tmp_path: Path
    ) -> None:
        (tmp_path / "thesis.tex").write_text("x")
        with pytest.raises(InvalidInputError, match="not empty .thesis.tex. .* no distillation"):
            distil(student, teacher=teacher, data=data, out=tmp_path)


def test_what_diverges_keeps_what_was_best(
    student: Student, teacher: Teacher, data: DataSet, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    given: dict[str, Any] = {"teacher": teacher, "data": data, "out": tmp_path / "a"}
    step = Trainer.step

    def broken(self: Trainer) -> StepLog:
        if self.next_step == 12:
            raise DivergedError("the loss is nan at step 12")
        return step(self)

    monkeypatch.setattr(Trainer, "step", broken)
    with pytest.raises(DivergedError, match="the last checkpoint, .*, is as it was"):
        distil(student, **given)
    monkeypatch.undo()
    assert (tmp_path / "a" / "best.safetensors").is_file()
    with pytest.raises(InvalidInputError, match="diverged, and --resume would only repeat it"):
        distil(student, **given, resume=True)
