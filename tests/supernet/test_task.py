from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from scholarch.data import DataSet, labelled
from scholarch.datasets.arrays import Part
from scholarch.datasets.dataset import make_dataset
from scholarch.distilling import distil_student
from scholarch.proxies.teacher import Teacher
from scholarch.search.student import Student
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.inputs import PADDING, pack_tokens, token_ids
from scholarch.searchspace.space import SearchSpace
from scholarch.supernet.augment import Augment, augment_for
from scholarch.supernet.evaluate import accuracy
from scholarch.supernet.losses import DIVERGENCES, cross_entropy
from scholarch.supernet.robust.evaluate import RobustEvaluator
from scholarch.supernet.settings import TrainSettings
from scholarch.supernet.targets import combined, with_targets
from scholarch.supernet.task import (
    Classes,
    Targets,
    cosine_divergence,
    label_loss,
    meter_of,
    task_of,
)
from scholarch.supernet.trainer import Trainer
from scholarch.teacher import load_teacher
from scholarch.training import train_supernet

VOCABULARY, LENGTH, WIDTH = 20, 8, 6


def sentences(n: int = 60, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Of 2 to 8 tokens, each one only once."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(1, VOCABULARY, (n, LENGTH))
    rows[np.arange(LENGTH) >= rng.integers(2, LENGTH + 1, n)[:, None]] = PADDING
    return pack_tokens(torch.from_numpy(rows)).numpy()


@pytest.fixture
def data() -> DataSet:
    images = sentences()
    part = Part(images, np.zeros((len(images), 0), dtype=np.float32))
    return make_dataset("toy", part, None, None, seed=0, val_fraction=0.2, modality="text")


def space(outputs: int = WIDTH, vocabulary: int = VOCABULARY) -> SearchSpace:
    return create_space(
        "autodistil-tiny",
        num_classes=outputs,
        resolution=LENGTH,
        width_mult=0.25,
        vocabulary=vocabulary,
        positions=2 * LENGTH,
    )


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    made = space()
    return load_teacher(made.build(made.sample(1, seed=3)[0], seed=3).eval())


def cosines(x: Tensor) -> list[float]:
    """Of all pairs, one by one."""
    rows = [row / row.norm() for row in x.double()]
    return [float(a @ b) for a, b in itertools.combinations(rows, 2)]


# ---------------------------------------------------------------------- the task


def test_labels_tell_the_task() -> None:
    assert isinstance(task_of(np.zeros(3, dtype=np.int64)), Classes)
    assert isinstance(task_of(torch.zeros(3, 2)), Targets)
    with pytest.raises(InvalidInputError, match=r"^data 'x' has no labels: give a teacher.*$"):
        task_of(np.zeros((3, 0), dtype=np.float32), "x")


def test_classes_are_as_they_were() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(9, 4, generator=generator)
    labels = torch.arange(9) % 4
    task = task_of(labels)
    assert torch.equal(label_loss(logits, labels, 0.1), cross_entropy(logits, labels, 0.1))
    assert task.divergence("alpha") is DIVERGENCES["alpha"]
    meter = task.meter()
    meter.add(logits[:5], labels[:5])
    meter.add(logits[5:], labels[5:])
    assert meter.value() == float((logits.argmax(1) == labels).double().mean())


def test_targets_are_directions() -> None:
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(5, 3, generator=generator, requires_grad=True)
    target = torch.randn(5, 3, generator=generator)
    by_hand = [1 - float(s @ t) / math.sqrt(float(s @ s) * float(t @ t)) for s, t in
               zip(student.detach().double(), target.double(), strict=True)]  # fmt: skip
    loss = label_loss(student, target, 0.3)
    assert float(loss.detach()) == pytest.approx(np.mean(by_hand), abs=1e-6)
    assert float(label_loss(7.0 * target, target)) == pytest.approx(0.0, abs=1e-6)
    assert float(label_loss(-target, target)) == pytest.approx(2.0, abs=1e-6)
    for name in DIVERGENCES:
        assert task_of(target).divergence(name) is cosine_divergence
    taught = target.requires_grad_()
    cosine_divergence(student, taught, 3.0).backward()
    assert taught.grad is None
    # A step along the gradient changes a direction, never a length.
    assert student.grad is not None
    assert torch.allclose((student.grad * student).sum(1), torch.zeros(5), atol=1e-6)


def test_agreement_is_the_correlation_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scholarch.supernet.task._ROWS", 4)  # several blocks
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(11, 5, generator=generator)
    answer = target @ torch.randn(5, 3, generator=generator) + 0.3
    expected = np.corrcoef(cosines(answer), cosines(target))[0, 1]
    meter = meter_of(target)
    for rows in (slice(0, 3), slice(3, 11)):
        meter.add(answer[rows], target[rows])
    assert meter.value() == pytest.approx(expected, abs=1e-6)


def test_answers_that_say_nothing_agree_with_nothing() -> None:
    target = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    for answer in (torch.ones(9, 4), torch.full((9, 4), math.nan), torch.zeros(9, 4)):
        meter = meter_of(target)
        meter.add(answer, target)
        assert meter.value() == 0.0
    meter = meter_of(target)
    meter.add(3.0 * target, target)
    assert meter.value() == pytest.approx(1.0, abs=1e-6)


# ---------------------------------------------------------------------- a teacher's answers


class Spy(nn.Module):
    """Mean embedding of the real tokens; counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        rows = torch.randn(VOCABULARY, WIDTH, generator=torch.Generator().manual_seed(1))
        self.table = nn.Embedding.from_pretrained(rows)
        self.asked = 0

    def forward(self, x: Tensor) -> Tensor:
        ids = token_ids(x)
        self.asked += len(ids)
        real = (ids != PADDING).float()[..., None]
        return (self.table(ids) * real).sum(1) / real.sum(1).clamp(min=1)


def spied(teacher: Teacher) -> tuple[Teacher, Spy]:
    from dataclasses import replace

    spy = Spy().eval()
    return replace(teacher, name="spy", module=spy), spy


def test_answers_become_targets(data: DataSet, teacher: Teacher) -> None:
    guide, spy = spied(teacher)
    assert data.unlabelled
    assert labelled(data, [guide]).num_classes == WIDTH
    taught = with_targets(data, guide)
    assert (taught.num_classes, taught.unlabelled) == (WIDTH, False)
    for part in ("train", "val", "test"):
        images = getattr(taught, part).images
        assert np.array_equal(images, getattr(data, part).images)
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            # Each row belongs to its sentence, although they are answered by length.
            assert torch.allclose(torch.from_numpy(getattr(taught, part).labels), spy(x), atol=1e-6)
    assert accuracy(spy, [(x, torch.from_numpy(taught.test.labels))]) == pytest.approx(1.0)


def test_answers_to_many_inputs_are_kept(
    data: DataSet, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guide, spy = spied(teacher)
    first = with_targets(data, guide, folder=tmp_path)
    assert not list(tmp_path.iterdir())  # few are computed again
    monkeypatch.setattr("scholarch.supernet.targets._KEPT", 10)
    with_targets(data, guide, folder=tmp_path)
    asked = spy.asked
    again = with_targets(data, guide, folder=tmp_path)
    assert spy.asked == asked
    assert np.array_equal(first.train.labels, again.train.labels)
    for file in tmp_path.iterdir():
        file.write_bytes(b"damaged")
    with_targets(data, guide, folder=tmp_path)
    assert spy.asked > asked
    asked = spy.asked
    with torch.no_grad():
        spy.table.weight += 1.0
    other, _ = spied(teacher)
    from dataclasses import replace

    with_targets(data, replace(other, module=spy), folder=tmp_path)  # another teacher
    assert spy.asked > asked


def test_a_teacher_that_overflows_is_named(data: DataSet, teacher: Teacher) -> None:
    guide, spy = spied(teacher)
    with torch.no_grad():
        spy.table.weight.fill_(math.inf)
    with pytest.raises(InvalidInputError, match="spy gives answers that are not finite"):
        with_targets(data, guide)


def test_a_teacher_of_another_tokenizer_is_refused(data: DataSet) -> None:
    made = space(vocabulary=9)
    guide = load_teacher(made.build(made.sample(1, seed=3)[0], seed=3).eval())
    for ask in (lambda: with_targets(data, guide), lambda: guide.observe(data.batch(8, 0))):
        with pytest.raises(InvalidInputError, match="tokens up to 1., teacher .* knows 9"):
            ask()


def test_a_teacher_of_short_texts_is_refused(data: DataSet, teacher: Teacher) -> None:
    images = np.concatenate([data.train.images] * 3, axis=2)  # 24 tokens, and 16 positions
    part = Part(images, data.train.labels)
    long = make_dataset("long", part, None, None, seed=0, val_fraction=0, modality="text")
    with pytest.raises(InvalidInputError, match="16"):
        with_targets(long, teacher)


def test_several_teachers_count_alike() -> None:
    a, b = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 0.1]])
    assert torch.allclose(combined([a, b]), torch.tensor([[0.5, 0.5]]))
    with pytest.raises(InvalidInputError, match="2, 3 numbers"):
        combined([a, torch.ones(1, 3)])


# ---------------------------------------------------------------------- training


def test_text_is_never_augmented(data: DataSet) -> None:
    assert augment_for(data, "auto") == augment_for(data, "none") == Augment()
    for name in ("light", "strong"):
        with pytest.raises(InvalidInputError, match="is for images, data 'toy' is text"):
            augment_for(data, name)


def test_what_does_not_fit_is_said_in_one_line(data: DataSet, teacher: Teacher) -> None:
    taught = with_targets(data, teacher)
    settings = TrainSettings(epochs=1, batch_size=8)
    for made, given, words in (
        (space(), data, "has no labels: give a teacher"),
        (space(5), taught, "5 outputs.*6 target values.*num_classes=6"),
        (space(vocabulary=9), taught, "tokens up to 19, space .* knows 9.*--tokenizer"),
        (create_space("resnet-cifar", num_classes=WIDTH), taught, "takes images.*is text"),
    ):
        with pytest.raises(InvalidInputError, match=words):
            Trainer(made, given, settings)
    with pytest.raises(InvalidInputError, match="moves pixels"):
        Trainer(space(), taught, TrainSettings(schedule="robust", epochs=1, batch_size=8))
    with pytest.raises(InvalidInputError, match="moved pixels"):
        RobustEvaluator(space().supernet(), taught)
    with pytest.raises(InvalidInputError, match="has no labels"):
        train_supernet(space="autodistil-tiny", data=data)


def test_a_supernet_learns_its_teachers_answers(data: DataSet, teacher: Teacher) -> None:
    calls = []
    trained = train_supernet(
        space=space(),
        data=data,
        teacher=teacher,
        schedule="sandwich",
        epochs=6,
        batch_size=8,
        lr=0.05,
        evaluations=2,
        progress=calls.append,
    )
    losses = [line["loss"] for line in trained.history]
    assert losses[1] < 0.9 * losses[0] < 0.9
    assert all(-1.0 <= line["mean"] <= 1.0 for line in trained.history)
    assert calls[-1].score == "agreement"
    # The teacher's answers are learned once, whether they are called labels or the teacher's.
    assert float(losses[0]) < 1.3


def test_a_student_of_text_is_distilled(data: DataSet, teacher: Teacher, tmp_path: Path) -> None:
    made = space()
    arch = made.sample(1, seed=1)[0]
    costs = {name: float(column[0]) for name, column in made.cost([arch]).items()}
    student = Student(arch, made, costs, 0.0)
    given = {"teacher": teacher, "data": data, "batch_size": 8, "lr": 0.05, "evaluations": 1}
    found = distil_student(student, epochs=8, out=tmp_path / "a", **given)
    assert found.distiller == "cosine"  # what kd is where there are no classes
    assert found.student.trained is not None
    reached = found.student.trained.accuracy
    assert set(reached) == {"val", "test"}
    assert found.teachers[teacher.name]["test"] == pytest.approx(1.0, abs=1e-6)
    assert found.history[-1]["loss"] < 0.9
    # Labels are the same answers, so that none but labels is as good a way.
    alone = distil_student(student, epochs=1, distiller="none", **given)
    assert alone.distiller == "none"
    for wrong in ({"distiller": "auto"}, {"options": {"temperature": 2.0}}):
        with pytest.raises(InvalidInputError, match="cosine"):
            distil_student(student, epochs=1, **given, **wrong)


def test_a_run_of_text_resumes_with_equal_bits(
    data: DataSet, teacher: Teacher, tmp_path: Path
) -> None:
    taught = with_targets(data, teacher)
    settings = TrainSettings(schedule="sandwich", epochs=1, batch_size=8, evaluations=0)
    whole = Trainer(space(), taught, settings)
    while not whole.done:
        whole.step()
    from scholarch.supernet.checkpoint import restore, save_checkpoint

    first = Trainer(space(), taught, settings)
    first.step()
    save_checkpoint(first, tmp_path / "c.safetensors", state={})
    second = Trainer(space(), taught, settings)
    restore(second, tmp_path / "c.safetensors")
    while not second.done:
        second.step()
    assert torch.equal(whole.flat.values, second.flat.values)
