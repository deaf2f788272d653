"""``train_supernet`` and what it leaves in a folder."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import scholarch
from scholarch.datasets import debian
from scholarch.datasets.dataset import DataSet
from scholarch.searchspace.convnets.resnet_cifar import CifarResNetSpace
from scholarch.searchspace.errors import InvalidInputError, StoreError, UnknownNameError
from scholarch.searchspace.space import SPACES, SearchSpace
from scholarch.supernet.evaluate import Evaluator
from scholarch.supernet.history import read_history
from scholarch.supernet.session import BEST, LAST
from scholarch.supernet.trainer import DivergedError, StepLog, Trainer
from scholarch.training import TrainedSupernet, train_supernet

SPACE = "test-tiny"


def tiny(name: str, **options: Any) -> SearchSpace:
    """ResNets of three to six blocks."""
    return CifarResNetSpace(name, (1, 2), ((4, 8), (4, 8), (8, 12), (8, 16)), **options)


@pytest.fixture(autouse=True)
def _space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SPACES._items, SPACE, tiny)


@pytest.fixture(autouse=True)
def _plain_curves(request: pytest.FixtureRequest) -> None:
    """Two tests look at the picture, or at what is left of it on a full disk."""
    if "full_disk" not in request.node.name and "what_is_told" not in request.node.name:
        request.getfixturevalue("plain_curves")


@pytest.fixture(scope="module")
def data() -> DataSet:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 128, (80, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(80) % 4
    images[np.arange(80), labels] = 255
    return scholarch.load_data((images, labels), val_fraction=0.25)


def train(data: Any, **given: Any) -> TrainedSupernet:
    """Seven steps an epoch."""
    settings = {"epochs": 3, "batch_size": 8, "lr": 0.02, "evaluations": 3, "calibration": 16}
    return train_supernet(**{"space": SPACE, "data": data, **settings, **given})


def same(a: scholarch.Supernet, b: scholarch.Supernet) -> bool:  # type: ignore[name-defined]
    pairs = zip(a.network.state_dict().values(), b.network.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_in_memory_and_in_a_folder(data: DataSet, tmp_path: Path) -> None:
    memory = train(data)
    kept = train(data, out=tmp_path / "a")
    assert memory.path is None
    assert memory.to_json()["paths"] == {}
    assert same(memory, kept)
    assert same(kept, scholarch.load_supernet(tmp_path / "a"))
    assert not kept.network.training
    assert kept.space.spec() == tiny(SPACE, num_classes=4, resolution=8).spec()
    assert [one.name for one in kept.landmarks] == ["smallest", "between1", "between2", "largest"]
    macs = [one.macs for one in kept.landmarks]
    assert macs == sorted(macs)
    assert macs[-1] == kept.space.cost([kept.landmarks[-1].arch])["macs"][0]
    assert not same(memory, train(data, seed=1))


def test_what_is_told_is_what_the_network_does(data: DataSet, tmp_path: Path) -> None:
    trained = train(data, out=tmp_path / "a")
    assert len(trained.history) == 3
    best = max(trained.history, key=lambda line: line["mean"])
    assert trained.best_mean == best["mean"]
    evaluator = Evaluator(trained.network, data, calibration=16)
    for one in trained.landmarks:
        assert evaluator.accuracy(one.arch) == one.accuracy == best[one.name]
    assert trained.steps == 21
    assert trained.macs_passed == trained.history[-1]["macs"]
    losses = [line["loss"] for line in read_history(tmp_path / "a")]
    assert losses == pytest.approx([line["loss"] for line in trained.history], rel=1e-5)
    told = json.loads((tmp_path / "a" / "train.json").read_text())
    assert told["finished"] is True
    assert told["settings"]["epochs"] == 3
    assert told["data"]["train"] == len(data.train.labels)
    assert {"host", "versions", "threads", "command", "seconds", "schedule"} <= told.keys()
    assert f"scholarch train --space {SPACE}" in told["command"]
    svg = (tmp_path / "a" / "curves.svg").read_text()
    assert svg.count("<svg") == 1
    for path in trained.to_json()["paths"].values():
        assert Path(path).is_file()


def test_ctrl_c_keeps_the_step_and_resume_ends_with_the_same_bits(
    data: DataSet, tmp_path: Path
) -> None:
    whole = train(data, out=tmp_path / "whole")
    for number in (signal.SIGINT, signal.SIGTERM):
        out = tmp_path / number.name

        def stop(progress: Any, number: int = number) -> None:
            if progress.step == 9:
                os.kill(os.getpid(), number)

        handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
        with pytest.raises(KeyboardInterrupt):
            train(data, out=out, progress=stop)
        assert handlers == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
        told = json.loads((out / "train.json").read_text())
        assert (told["finished"], told["steps_done"]) == (False, 9)
        with pytest.raises(InvalidInputError, match="unfinished run .*; add --resume to go on"):
            train(data, out=out)
        with pytest.raises(InvalidInputError, match="other settings .lr is 0.02 there and 0.03"):
            train(data, out=out, lr=0.03, resume=True)
        steps: list[int] = []
        again = train(data, out=out, resume=True, progress=lambda p: steps.append(p.step))  # noqa: B023
        assert steps == list(range(10, 22))
        assert same(whole, again)
        plain = [[{**line, "seconds": 0} for line in one.history] for one in (whole, again)]
        assert plain[0] == plain[1]


def test_a_finished_run_is_read(data: DataSet, tmp_path: Path) -> None:
    first = train(data, out=tmp_path / "a")
    kept = (tmp_path / "a" / LAST).stat().st_mtime_ns
    steps: list[int] = []
    for resume in (False, True):
        again = train(data, out=tmp_path / "a", resume=resume, progress=steps.append)
        assert same(first, again)
        assert again.to_json() == first.to_json()
    assert not steps
    assert (tmp_path / "a" / LAST).stat().st_mtime_ns == kept


def test_resume_where_nothing_is_begins(data: DataSet, tmp_path: Path) -> None:
    assert train(data, out=tmp_path / "a", resume=True).steps == 21
    # Killed before its first checkpoint, a run has nothing to lose, whatever its settings were.
    (tmp_path / "a" / LAST).unlink()
    assert train(data, out=tmp_path / "a", epochs=1).steps == 7


def test_outside_the_main_thread(data: DataSet, tmp_path: Path) -> None:
    found: list[TrainedSupernet] = []
    thread = threading.Thread(target=lambda: found.append(train(data, out=tmp_path / "a")))
    thread.start()
    thread.join()
    assert found[0].steps == 21


def test_a_teacher(data: DataSet, tmp_path: Path) -> None:
    torch_module = tiny(SPACE, num_classes=4, resolution=8)
    module = torch_module.build(torch_module.sample(1, 0)[0])
    teacher = scholarch.load_teacher(module, mean=data.mean, std=data.std)
    taught = train(data, teacher=teacher, schedule="sandwich", out=tmp_path / "a")
    told = json.loads((tmp_path / "a" / "train.json").read_text())
    assert told["settings"]["external"] is True
    assert told["teacher"]["fingerprint"] == teacher.fingerprint
    assert not same(taught, train(data, schedule="sandwich"))
    with pytest.raises(InvalidInputError, match="teacher is .* there and None here"):
        train(data, schedule="sandwich", out=tmp_path / "a")
    wrong = tiny(SPACE, num_classes=7, resolution=8)
    seven = scholarch.load_teacher(wrong.build(wrong.sample(1, 0)[0]))
    with pytest.raises(InvalidInputError, match="has 7 classes, data 'tensors' has 4"):
        train(data, teacher=seven)


def test_without_a_validation_part(data: DataSet, tmp_path: Path) -> None:
    part = data.train
    bare = scholarch.load_data(
        {"x_train": part.images, "y_train": part.labels,
         "x_test": data.test.images, "y_test": data.test.labels},
        val_fraction=0.0,
    )  # fmt: skip
    trained = train(bare, out=tmp_path / "a")
    assert math.isnan(trained.best_mean)
    assert trained.to_json()["best_mean"] is None
    assert (tmp_path / "a" / "curves.svg").is_file()
    with pytest.raises(InvalidInputError, match="patience = 2 needs a validation part"):
        train(bare, patience=2, out=tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_divergence_leaves_what_was_best(data: DataSet, tmp_path: Path) -> None:
    out = tmp_path / "a"
    steps: list[int] = []
    with pytest.raises(DivergedError, match=r"(loss is|weights overflowed).* smaller lr"):
        train(data, out=out, lr=1e6, evaluations=21, progress=lambda p: steps.append(p.step))
    if (out / BEST).is_file():
        state = scholarch.load_supernet(out).network.state_dict().values()
        assert all(bool(t.isfinite().all()) for t in state)
    with pytest.raises(DivergedError) as caught:
        train(data, lr=1e6)
    assert "checkpoint" not in str(caught.value)


def test_a_diverged_run_says_what_to_do(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a"

    class Poisoned(Trainer):
        def step(self) -> StepLog:
            log = super().step()
            if self.next_step == 10:
                self.flat.values.fill_(math.nan)
            return log

    monkeypatch.setattr("scholarch.training.Trainer", Poisoned)
    with pytest.raises(DivergedError, match="the last checkpoint, .*last.safetensors, is as it"):
        train(data, out=out)
    for resume in (True, False):
        with pytest.raises(InvalidInputError, match="--resume would only repeat") as caught:
            train(data, out=out, resume=resume)
        assert "a smaller --lr" in str(caught.value)
        assert BEST in str(caught.value)
    assert scholarch.load_supernet(out).space.size == 128


def test_a_full_disk(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever file it is full at: one line, and a resume ends as if it had not been."""
    whole = train(data, out=tmp_path / "whole")
    real = Path.open
    for name in (LAST, BEST, "history.csv", "curves.svg"):
        out = tmp_path / name
        writes = 0

        def full(path: Path, mode: str = "r", *rest: Any, name: str = name, **more: Any) -> Any:
            nonlocal writes
            if "w" in mode and path.name == f".{name}.partial":
                writes += 1
                if writes == 2:
                    raise OSError(errno.ENOSPC, "No space left on device")
            return real(path, mode, *rest, **more)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", full)
            patch.setattr("scholarch.search.conducted._LIVE", 0.0)  # a picture an evaluation
            with pytest.raises(StoreError, match=f"cannot write .*{name}: No space left"):
                train(data, out=out, lr=0.02)
        assert same(whole, train(data, out=out, resume=True))


def test_folders_of_others(data: DataSet, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InvalidInputError, match=r"not empty \(notes.txt\) and holds no training"):
        train(data, out=tmp_path)
    file = tmp_path / "notes.txt"
    with pytest.raises(StoreError, match="cannot make the folder"):
        train(data, out=file / "a")
    out = tmp_path / "run"
    train(data, out=out)
    (out / LAST).write_bytes((out / LAST).read_bytes()[:500])
    with pytest.raises(InvalidInputError, match="damaged"):
        train(data, out=out, resume=True)
    (out / "train.json").write_text("{")
    with pytest.raises(InvalidInputError, match=r"train.json is damaged .*; move the folder away"):
        train(data, out=out)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"schedule": "delaid"}, "unknown schedule 'delaid'; did you mean delayed"),
        ({"learning_rate": 1}, "unknown training setting 'learning_rate'"),
        ({"lr": 0.0}, "lr = 0; need a number above 0"),
        ({"lr": math.nan}, "lr = nan"),
        ({"macs": 1e9}, "epochs or macs, not both"),
        ({"batch_size": 1000}, "batch size 1000 with 56 images"),
        ({"device": "cuda"}, "no GPU here"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"precision": "int8"}, "precision 'int8'"),
        ({"augment": "mixup"}, "unknown augmentation 'mixup'"),
        ({"epochs": 0.1}, "1 steps for the 3 phases"),
        ({"space": "resnet-cifra"}, "did you mean resnet-cifar"),
        ({"space_options": {"width_mult": 99}}, "width_mult = 99"),
    ],
)
def test_bad_input(given: dict[str, Any], said: str, data: DataSet, tmp_path: Path) -> None:
    if given.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(InvalidInputError, match=said) as caught:
        train(data, out=tmp_path / "a", **given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a").exists()


def test_fashion_mnist_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "FOLDER", tmp_path / "system")
    monkeypatch.setenv("SCHOLARCH_DATA", str(tmp_path / "own"))
    with pytest.raises(InvalidInputError, match="apt-get install dataset-fashion-mnist") as caught:
        scholarch.load_data("fashion-mnist")
    assert "--data DIR" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(UnknownNameError, match="did you mean fashion-mnist"):
        scholarch.load_data("fashion_mnist")
    for place, label in (("system", 1), ("own", 2)):  # one's own comes first
        folder = tmp_path / place / "fashion-mnist"
        folder.mkdir(parents=True)
        for part, count in (("train", 40), ("t10k", 10)):
            images = np.zeros((count, 28, 28), dtype=np.uint8)
            labels = np.arange(count, dtype=np.uint8) % (label + 1)
            for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
                head = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">i4").tobytes()
                (folder / f"{part}-{kind}-ubyte").write_bytes(head + array.tobytes())
        data = scholarch.load_data("fashion-mnist")
        assert data.name == "fashion-mnist"
        assert data.num_classes == label + 1
        assert len(data.train.labels) + len(data.val.labels) == 40
        assert len(data.test.labels) == 10
