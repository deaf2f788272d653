"""Narrowed spaces, fine-tuning, and the whole way from a search without training to a student."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scholarch.cli import main
from scholarch.data import load_data
from scholarch.datasets.arrays import Part
from scholarch.datasets.dataset import DataSet
from scholarch.refining import Refined, refine_student
from scholarch.search.outcome import Candidate, SearchOutcome
from scholarch.search.run import Progress
from scholarch.search.student import Student
from scholarch.search.survivors import survivors
from scholarch.searchspace.errors import InvalidInputError, UnknownNameError
from scholarch.searchspace.extremes import largest, smallest
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.narrow import narrow
from scholarch.searchspace.space import SearchSpace
from scholarch.supernet.evaluate import accuracy
from scholarch.supernet.finetune import FinetuneSettings, finetune, part_batches
from scholarch.supernet.sort import sort_channels

RESNET: dict[str, Any] = {"num_classes": 4, "resolution": 8, "width_mult": 0.25}
VIEWS = {
    "resnet-cifar": {"depth1": [1, 2], "depth2": [2], "width1": [4], "width2": [4, 8]},
    "mobilenetv3-cifar": {"depth1": [2, 3], "kernel1.1": [3], "expand1.2": [3, 4], "depth4": [4]},
    "resnet50": {"d1": [0, 1], "e0": [20], "w1": [0, 1], "w2": [0]},
}


def view(name: str) -> tuple[SearchSpace, SearchSpace]:
    resolution = 32 if name == "resnet50" else 8
    space = create_space(name, num_classes=4, resolution=resolution, width_mult=0.25)
    return space, narrow(space, VIEWS[name])


def dataset() -> DataSet:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 160, (320, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(320) % 4
    images[np.arange(320), labels] = 255
    parts = [Part(images[i], labels[i]) for i in np.split(np.arange(320), (160, 240))]
    return DataSet("patches", 4, *parts, mean=(0.4,) * 3, std=(0.3,) * 3)


# ---------------------------------------------------------------------- a narrowed space


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_stays_inside_and_keeps_keys(name: str) -> None:
    space, left = view(name)
    rng = np.random.default_rng(0)
    rows = left.sample_matrix(300, 1)
    children = left.mutate(rows, rng)
    crossed = left.crossover(rows, children, rng)
    genes = [gene.name for gene in space.genes]
    for matrix in (rows, children, crossed):
        assert left.valid(matrix).all()
        assert space.valid(matrix).all()
        assert left.keys(matrix) == space.keys(matrix)
        fixed = genes.index(next(iter(VIEWS[name])))
        values = {space.genes[fixed].values[i] for i in matrix[:, fixed]}
        assert values == set(VIEWS[name][genes[fixed]])
    moved = [a != b for a, b in zip(left.keys(rows), left.keys(children), strict=True)]
    assert np.mean(moved) > 0.6
    assert not left.valid(space.sample_matrix(300, 2)).all()
    outside = next(a for a in space.sample(50, 3) if not left.valid(space.encode([a]))[0])
    with pytest.raises(InvalidInputError):
        left.parse(outside.text)
    arch = left.sample(1, 4)[0]
    assert left.parse(arch.text) == arch == space.parse(arch.text)
    assert {k: v.tolist() for k, v in left.cost([arch]).items()} == {
        k: v.tolist() for k, v in space.cost([arch]).items()
    }
    again = create_space(**json.loads(json.dumps(left.spec())))
    assert again.spec() == left.spec()
    assert np.array_equal(again.sample_matrix(20, 5), left.sample_matrix(20, 5))
    assert isinstance(left, type(space))
    assert left.size < space.size or name != "resnet-cifar"


def test_a_view_lists_all_of_its_rows() -> None:
    space, left = view("resnet-cifar")
    rows = left.enumerate_matrix()
    counts = [len(VIEWS["resnet-cifar"].get(g.name, g.values)) for g in space.genes]
    assert len(rows) == left.size == np.prod(counts)
    assert set(left.keys(rows)) == set(left.keys(left.sample_matrix(40_000, 0)))
    twice = narrow(left, {"depth3": [1]})
    assert twice.size == left.size // 9
    assert not left.valid(rows).all() or twice.valid(rows).sum() == twice.size


@pytest.mark.parametrize("name", VIEWS)
def test_a_sort_leaves_a_narrowed_supernet_as_it_is(name: str) -> None:
    space, left = view(name)
    network, whole = left.supernet(seed=3).eval(), space.supernet(seed=3).eval()
    drawn = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, left.resolution, left.resolution, generator=drawn)
    top = largest(left)
    with torch.no_grad():
        for arch in (top, smallest(left), *left.sample(4, 0)):
            assert torch.equal(network(image, arch), whole(image, arch)), arch
        before = network(image, top)
        sort_channels(network)
        torch.testing.assert_close(network(image, top), before, rtol=1e-3, atol=1e-4)
        # Of the whole space's network untrained channels would come to the front.
        sort_channels(whole)
        assert not torch.allclose(whole(image, top), before, rtol=1e-3, atol=1e-4)


def test_what_cannot_be_narrowed() -> None:
    space = create_space("resnet-cifar")
    with pytest.raises(UnknownNameError, match="did you mean"):
        narrow(space, {"depth11": [1]})
    with pytest.raises(InvalidInputError, match=r"need some of \[1, 2"):
        narrow(space, {"depth1": [0]})
    with pytest.raises(InvalidInputError, match="need some"):
        create_space("resnet-cifar", only={"depth1": []})


def test_values_of_the_best_and_of_the_front_survive() -> None:
    space = create_space("resnet-cifar")
    column = [gene.name for gene in space.genes].index("depth1")
    rows = space.sample_matrix(100, 0)
    rows[:, column] = np.arange(100) % 9
    archs = space.decode(rows)
    macs = space.cost(rows)["macs"]
    # Depth 5 (index 4) is best, but the cheapest of all, on the front, has another.
    cheapest = int(macs.argmin())
    score = np.where(rows[:, column] == 4, 10.0, 0.0) + np.arange(100) * 1e-3
    rest = {"scores": {}, "failures": {}}
    candidates = [
        Candidate(i, arch, {"macs": float(macs[i])}, float(score[i]), **rest)
        for i, arch in enumerate(archs)
    ]
    candidates[50] = Candidate(50, archs[50], {"macs": 1.0}, float("nan"), **rest)
    result = SearchOutcome(space, None, candidates, ("macs",))  # type: ignore[arg-type]
    (found,) = [one for one in survivors(result) if one.gene == "depth1"]
    assert 5 in found.kept
    assert space.genes[column].values[rows[cheapest, column]] in found.kept
    assert len(found.kept) < 9
    assert sum(found.shares) == pytest.approx(1.0)
    left = narrow(space, {one.gene: one.kept for one in survivors(result)})
    assert left.valid(space.encode([c.arch for c in result.front])).all()


# ---------------------------------------------------------------------- fine-tuning


class Interrupt(Exception):  # noqa: N818
    """Stands for whatever ends a process."""


def test_fine_tuning_keeps_the_better_and_goes_on(tmp_path: Path) -> None:
    data = dataset()
    space = create_space("resnet-cifar", **RESNET)
    arch = smallest(space)
    settings = FinetuneSettings(epochs=4, batch_size=16, lr=0.05, augment="none")
    whole = finetune(space.build(arch), data, settings)
    assert whole.kept == "after"
    assert whole.after > whole.before
    assert accuracy(whole.network, part_batches(data, "val")) == whole.after

    def stop(done: int, total: int) -> None:
        assert total == 40
        if done == 25:
            raise Interrupt

    path = tmp_path / "f.safetensors"
    with pytest.raises(Interrupt):
        finetune(space.build(arch), data, settings, checkpoint=path, progress=stop)
    steps: list[int] = []
    again = finetune(
        space.build(arch),
        data,
        settings,
        checkpoint=path,
        progress=lambda done, _: steps.append(done),
    )
    assert steps == list(range(21, 41))
    for a, b in zip(
        whole.network.state_dict().values(), again.network.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b)
    with pytest.raises(InvalidInputError, match="another fine-tuning"):
        finetune(space.build(arch), data, FinetuneSettings(epochs=3), checkpoint=path)
    path.write_bytes(b"nonsense")
    with pytest.raises(InvalidInputError, match="damaged"):
        finetune(space.build(arch), data, settings, checkpoint=path)


def test_fine_tuning_that_harms_is_not_kept() -> None:
    data = dataset()
    space = create_space("resnet-cifar", **RESNET)
    good = finetune(
        space.build(smallest(space)),
        data,
        FinetuneSettings(epochs=4, batch_size=16, lr=0.05, augment="none"),
    )
    shuffled = Part(data.train.images, (data.train.labels + 1) % 4)
    wrong = DataSet(**{**vars(data), "train": shuffled})
    kept = {name: tensor.clone() for name, tensor in good.network.state_dict().items()}
    after = finetune(
        good.network, wrong, FinetuneSettings(epochs=2, batch_size=16, lr=0.05, augment="none")
    )
    assert after.kept == "before"
    assert after.after < after.before == good.after
    for name, tensor in after.network.state_dict().items():
        assert torch.equal(tensor, kept[name]), name
    none = finetune(good.network, data, FinetuneSettings(epochs=0))
    assert (none.kept, none.before) == ("before", good.after)


# ---------------------------------------------------------------------- the whole way


def refine(out: Path, progress: Callable[[Progress], None] | None = None, **more: Any) -> Refined:
    options: dict[str, Any] = {
        "space": create_space("resnet-cifar", **RESNET),
        "data": dataset(),
        "proxies": ["params"],
        "budget": {"macs": 4e5},
        "evaluations": 12,
        "batch_size": 8,
        "calibration": 40,
        "refine_epochs": 1,
        "finetune_epochs": 1,
        "train_settings": {"batch_size": 16, "evaluations": 2},
    }
    return refine_student(out=out, progress=progress, **{**options, **more})


@pytest.fixture
def _no_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five seconds of torch's exporter; another test sees to it."""
    monkeypatch.setattr("scholarch.refining._exported", lambda *_: None)


@pytest.mark.usefixtures("_no_onnx")
def test_a_refined_search_goes_on_from_every_stage(tmp_path: Path) -> None:
    whole = refine(tmp_path / "a")
    data = dataset()
    assert whole.best.trained is not None
    network = whole.best.module()
    for part, told in whole.best.trained.accuracy.items():
        assert accuracy(network, part_batches(data, part)) == told
    read = Student.from_pretrained(tmp_path / "a" / "student")
    assert accuracy(read, part_batches(data, "test")) == whole.best.trained.accuracy["test"]
    config = json.loads((tmp_path / "a" / "student" / "config.json").read_text())
    assert config["trained"] is True
    assert "only" not in config["space"]
    left = whole.second.space
    assert left.valid(left.encode([c.arch for c in whole.second.candidates])).all()
    assert left.valid(left.encode([c.arch for c in whole.first.front])).all()
    assert not whole.second.tested  # the one look is at the student
    assert whole.told["finetune"]["test"] == whole.best.trained.accuracy["test"]
    page = (tmp_path / "a" / "report.html").read_text()
    for text in ("Without training", "What was left", "Training the supernet", "The student"):
        assert text in page
    assert f"{100 * whole.told['finetune']['before']:.2f}" in page
    assert "data:image/svg+xml;base64," in page

    for phase, done in (("search", 10), ("supernet", 8), ("again", 10), ("finetune", 3)):

        def stop(step: Progress, phase: str = phase, done: int = done) -> None:
            if step.phase == phase and step.done >= done:
                raise Interrupt

        with pytest.raises(Interrupt):
            refine(tmp_path / "b", progress=stop)
    seen: set[str] = set()
    again = refine(tmp_path / "b", progress=lambda step: seen.add(step.phase))
    assert seen <= {"search", "again", "finetune"}
    for name in ("first/pareto.csv", "second/pareto.csv", "student/model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert again.told["finetune"] == whole.told["finetune"]
    with pytest.raises(InvalidInputError, match="other settings.*refine_epochs: 1 there, 2 here"):
        refine(tmp_path / "b", refine_epochs=2)


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search = ["search", "--data", "digits", "--out", str(tmp_path / "x")]
    for words, said in (
        (["--refine-epochs", "3"], "--refine-epochs without --refine"),
        (["--refine", "other"], "there is: supernet"),
        (["--refine", "supernet", "--supernet", "y"], "exclude each other"),
        (["--refine", "supernet", "--finetune-epochs", "-1"], "at least 0"),
        (["--refine", "supernet", "--proxy", "nonsense"], "unknown proxy"),
        (["--refine", "supernet", "--max-macs", "1"], "no architecture"),
    ):
        assert main([*search, *words]) == 2, words
        error = capsys.readouterr().err
        assert said in error
        assert len(error.splitlines()) == 1, error
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    with pytest.raises(InvalidInputError, match="not empty"):
        refine(tmp_path / "full")
    empty = DataSet(
        **{**vars(dataset()), "val": Part(np.zeros((0, 8, 8, 3), np.uint8), np.zeros(0, np.int64))}
    )
    with pytest.raises(InvalidInputError, match="no validation images"):
        refine(tmp_path / "y", data=empty)


@pytest.mark.usefixtures("_no_onnx")
def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = dataset()
    names = {"train": data.train, "val": data.val, "test": data.test}
    arrays = {f"x_{n}": p.images for n, p in names.items()}
    arrays |= {f"y_{n}": p.labels for n, p in names.items()}
    np.savez(tmp_path / "patches.npz", **arrays)
    assert load_data(tmp_path / "patches.npz").resolution == 8
    out = tmp_path / "run"
    words = ["search", "--space", "resnet-cifar", "--data", str(tmp_path / "patches.npz")]
    words += ["--proxy", "params", "--max-params", "20k", "--evaluations", "10", "--refine"]
    words += ["supernet", "--refine-epochs", "2", "--finetune-epochs", "0", "--out", str(out)]
    words += ["--calibration", "40", "--batch-size", "8"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "narrowed to" in said
    assert f"weights: {out}/student" in said
    before = (out / "report.html").read_text()
    assert main(["report", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["finetune"]["kept"] == "before"
    assert (out / "report.html").read_text() == before
    assert main(["search", "--data", "digits", "--out", str(out)]) == 2
    assert "holds no run" in capsys.readouterr().err
