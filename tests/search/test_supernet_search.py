"""A search on a trained supernet: accuracies are what the students have, and what a run repeats."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scholarch.api import find_student
from scholarch.cli import main
from scholarch.data import load_data
from scholarch.datasets.arrays import Part
from scholarch.datasets.dataset import DataSet
from scholarch.search.inherited import SCORE, InheritedEngine
from scholarch.search.predicted import PREDICTED, SAMPLE, sample_size
from scholarch.search.result import SearchResult
from scholarch.search.run import Progress
from scholarch.search.student import Student
from scholarch.search.summary import report_html
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space
from scholarch.supernet import predictor as predictor_module
from scholarch.supernet.evaluate import Evaluator, accuracy
from scholarch.supernet.pretrained import load_supernet
from scholarch.supernet.session import TrainingRun
from scholarch.supernet.settings import TrainSettings
from scholarch.supernet.trainer import Trainer

COUNT = 40


def dataset(name: str = "patches", classes: int = 4, side: int = 8) -> DataSet:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 160, (320, side, side, 3), dtype=np.uint8)
    labels = np.arange(320) % classes
    images[np.arange(320), labels] = 255  # a bright row tells the class
    parts = [Part(images[i], labels[i]) for i in np.split(np.arange(320), (160, 240))]
    return DataSet(name, classes, *parts, mean=(0.4,) * 3, std=(0.3,) * 3)


@pytest.fixture(scope="module")
def data() -> DataSet:
    return dataset()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, data: DataSet) -> Path:
    """A supernet that was trained for a few steps."""
    torch.set_num_threads(1)
    space = create_space("resnet-cifar", num_classes=4, resolution=8, width_mult=0.25)
    settings = TrainSettings(
        schedule="sandwich", epochs=1, batch_size=16, lr=0.05, evaluations=1, calibration=32
    )
    where = tmp_path_factory.mktemp("supernet")
    TrainingRun(Trainer(space, data, settings), where).run()
    return where


@pytest.fixture(autouse=True)
def _one_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quickest predictor: which of them is best has tests of its own."""
    kinds = {"ridge": predictor_module.KINDS["ridge"]}
    monkeypatch.setattr(predictor_module, "KINDS", kinds)


@pytest.fixture(autouse=True)
def _plain_report(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second of matplotlib each; one test looks at the report."""
    if "report" not in request.node.name:
        monkeypatch.setattr("scholarch.search.summary.report_html", lambda _: "a report")


def find(folder: Path, data: Any, out: Path | None = None, **options: Any) -> SearchResult:
    options = {
        "budget": {"macs": 4e5},
        "evaluations": 20,
        "calibration": COUNT,
        "seed": 1,
    } | options
    return find_student(supernet=folder, data=data, out=out, **options)


def contents(folder: Path) -> dict[str, bytes]:
    names = ("pareto.csv", "front.safetensors", "student/model.safetensors", "student/config.json")
    return {name: (folder / name).read_bytes() for name in names}


class Interrupt(Exception):  # noqa: N818
    """Stands for whatever ends a process."""


def stop_at(phase: str, done: int) -> Callable[[Progress], None]:
    def progress(step: Progress) -> None:
        if step.phase == phase and step.done >= done:
            raise Interrupt

    return progress


# ---------------------------------------------------------------------- what is handed over


def test_students_have_the_accuracy_that_is_reported(
    folder: Path, data: DataSet, tmp_path: Path
) -> None:
    result = find(folder, data, tmp_path / "run")
    assert len(result.candidates) == 20
    assert len({candidate.score for candidate in result.candidates}) > 3
    assert all(candidate.costs["macs"] <= 4e5 for candidate in result.candidates)
    again = SearchResult.load(tmp_path / "run")
    parts = Evaluator(load_supernet(folder).network, data, calibration=2)
    assert result.pareto
    for student, read in zip(result.pareto, again.pareto, strict=True):
        assert student.trained is not None
        assert student.trained.accuracy["val"] == student.score
        for part in ("val", "test"):
            told = student.trained.accuracy[part]
            for network in (student.module(), read.module()):
                assert not network.training
                assert accuracy(network, parts.batches(part)) == told
    best = result.best
    best.save_pretrained(tmp_path / "again")
    for where in (tmp_path / "again", tmp_path / "run" / "student"):
        network = Student.from_pretrained(where)
        assert accuracy(network, parts.batches("test")) == best.trained.accuracy["test"]  # type: ignore[union-attr]
        config = json.loads((where / "config.json").read_text())
        assert config["trained"] is True
        assert config["accuracy"] == best.trained.accuracy  # type: ignore[union-attr]
        assert config["weights"]["supernet"]["calibration"] == COUNT
        assert config["weights"]["supernet"]["path"].endswith("supernet.safetensors")
        assert config["weights"]["input"]["mean"] == [0.4, 0.4, 0.4]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "run" / "pareto.csv").read_text())))
    assert [float(row["test-accuracy"]) for row in rows] == pytest.approx(
        [student.trained.accuracy["test"] for student in result.pareto],  # type: ignore[union-attr]
        rel=1e-5,
    )


def test_export_computes_what_the_student_does(folder: Path, data: DataSet, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    best = find(folder, data, evaluations=8).best
    best.export(tmp_path / "student.onnx")
    session = runtime.InferenceSession(str(tmp_path / "student.onnx"))
    parts = Evaluator(load_supernet(folder).network, data, calibration=2)
    ((images, labels),) = parts.batches("test")
    (logits,) = session.run(None, {"images": images.numpy()})
    assert best.trained is not None
    assert (logits.argmax(1) == labels.numpy()).mean() == best.trained.accuracy["test"]


def test_students_of_a_run_whose_supernet_has_gone(
    folder: Path, data: DataSet, tmp_path: Path
) -> None:
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes((folder / "supernet.safetensors").read_bytes())
    find(moved, data, tmp_path / "run", evaluations=8)
    moved.unlink()
    again = SearchResult.load(tmp_path / "run")
    with pytest.raises(InvalidInputError, match="not there any more"):
        again.best.module()
    other = TrainSettings(schedule="largest", epochs=0.1, batch_size=16, evaluations=0)
    space = create_space("resnet-cifar", num_classes=4, resolution=8, width_mult=0.25)
    TrainingRun(Trainer(space, data, other), tmp_path / "other").run()
    (tmp_path / "other" / "supernet.safetensors").rename(moved)
    with pytest.raises(InvalidInputError, match="another than the run's"):
        again.best.module()
    assert Student.from_pretrained(tmp_path / "run" / "student")


def test_the_test_part_chooses_nothing(folder: Path, data: DataSet) -> None:
    wrong = DataSet(**{**vars(data), "test": Part(data.test.images, (data.test.labels + 1) % 4)})
    one, two = find(folder, data), find(folder, wrong)
    assert [c.arch for c in one.candidates] == [c.arch for c in two.candidates]
    assert [c.score for c in one.candidates] == [c.score for c in two.candidates]
    assert one.tested.keys() == two.tested.keys()
    assert one.tested.keys() == {c.arch.key for c in one.front}
    assert one.tested != two.tested


# ---------------------------------------------------------------------- a run


@pytest.mark.parametrize("predictor", ["off", 24])
def test_a_stopped_run_ends_as_a_whole_one(
    folder: Path,
    data: DataSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    predictor: str | int,
) -> None:
    evaluated: list[str] = []
    score = InheritedEngine.score

    def counted(self: Any, archs: Any, **options: Any) -> Any:
        found = score(self, archs, **options)
        evaluated.extend(arch.key for arch in archs)
        return found

    monkeypatch.setattr(InheritedEngine, "score", counted)
    options: dict[str, Any] = {"predictor": predictor, "evaluations": 40}
    find(folder, data, tmp_path / "a", **options)
    assert len(evaluated) == len(set(evaluated))
    whole = sorted(evaluated)
    evaluated.clear()
    phase, done = ("search", 36) if predictor == "off" else ("front", 1)
    with pytest.raises(Interrupt):
        find(folder, data, tmp_path / "b", progress=stop_at(phase, done), **options)
    unfinished = SearchResult.load(tmp_path / "b")
    with pytest.raises(InvalidInputError, match="same command"):
        unfinished.best.module()
    find(folder, data, tmp_path / "b", **options)
    assert sorted(evaluated) == whole  # nothing twice
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_more_evaluations_go_on_and_other_settings_are_refused(
    folder: Path, data: DataSet, tmp_path: Path
) -> None:
    find(folder, data, tmp_path / "run", evaluations=12)
    find(folder, data, tmp_path / "run", evaluations=24)
    find(folder, data, tmp_path / "whole", evaluations=24)
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
    with pytest.raises(InvalidInputError, match=r"supernet\.calibration: 40 there, 80 here"):
        find(folder, data, tmp_path / "run", evaluations=24, calibration=80)


def test_a_latency_table_bounds_a_search(folder: Path, data: DataSet, tmp_path: Path) -> None:
    space = load_supernet(folder).space
    archs = space.sample(30, 0)
    lines = ["arch,ms", *(f"{arch.text},{i}" for i, arch in enumerate(archs, 1))]
    (tmp_path / "phone.csv").write_text("\n".join(lines))
    result = find(folder, data, tables=[tmp_path / "phone.csv"], budget={"latency:phone": 9.0})
    assert 0 < len(result.candidates) <= 10
    assert max(c.costs["latency:phone"] for c in result.candidates) <= 9.0


# ---------------------------------------------------------------------- a predictor


def test_a_predicted_front_is_evaluated(folder: Path, data: DataSet, tmp_path: Path) -> None:
    result = find(folder, data, tmp_path / "run", evaluations=300, predictor=24)
    told = result.info["predictor"]
    assert told["sample"] == 24
    assert told["searched"] == 300
    assert told["rounds"][0]["rows"] == 24
    assert 1 <= len(told["rounds"]) <= 2
    assert -1.0 <= told["rounds"][0]["spearman"] <= 1.0
    assert told["rounds"][0]["mae"] > 0.0
    assert 24 < len(result.candidates) < 300
    evaluator = Evaluator(load_supernet(folder).network, data, calibration=COUNT)
    for candidate in result.candidates[::7]:
        assert candidate.score == evaluator.accuracy(candidate.arch)
    assert all(np.isnan(c.scores[PREDICTED]) for c in result.candidates[:24])
    assert all(np.isfinite(c.scores[PREDICTED]) for c in result.candidates[24:])
    assert any(c.scores[PREDICTED] != c.score for c in result.candidates[24:])
    assert not result.failures
    header = (tmp_path / "run" / "pareto.csv").read_text().splitlines()[0].split(",")
    assert header[-3:] == [SCORE, PREDICTED, "test-accuracy"]
    macs = np.array([candidate.costs["macs"] for candidate in result.candidates[:24]])
    assert macs.max() <= 4e5
    assert macs.max() > 3 * macs.min()  # spread over the costs inside the budget


def test_what_auto_means() -> None:
    assert sample_size("auto", 4 * SAMPLE) == 0
    assert sample_size("auto", 4 * SAMPLE + 1) == SAMPLE
    assert sample_size("off", 10**6) == 0
    assert sample_size("64", 10) == 64
    for wrong in ("none", "-3", 5, True):
        with pytest.raises(InvalidInputError, match="auto, off"):
            sample_size(wrong, 100)


def test_a_small_domain_needs_no_predictor(folder: Path, data: DataSet) -> None:
    space = load_supernet(folder).space
    least = min(space.cost(space.sample(2000, 0))["macs"])
    result = find(folder, data, budget={"macs": least}, evaluations=30, predictor=2000)
    assert "predictor" not in result.info
    assert any("No predictor was needed" in note for note in result.notes)


# ---------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"space": "resnet-cifar"}, "--supernet and --space exclude"),
        ({"teacher": "resnet20-cifar10"}, "--supernet and --teacher exclude"),
        ({"workers": 2}, "one process"),
        ({"precision": "bfloat16"}, "float32"),
        ({"predictor": "some"}, "auto, off"),
        ({"calibration": 1}, "at least 2"),
        ({"budget": {"macs": 10}}, "no architecture"),
        ({"evaluations": 0}, "evaluations = 0"),
    ],
)
def test_refusals(folder: Path, data: DataSet, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words) as raised:
        find(folder, data, **options)
    assert "\n" not in str(raised.value)


def test_data_that_does_not_fit(folder: Path, data: DataSet, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="classes: 4, data 'patches' 5"):
        find(folder, dataset(classes=5))
    with pytest.raises(InvalidInputError, match="pixels a side: 8, data 'patches' 16"):
        find(folder, dataset(side=16))
    empty = Part(data.val.images[:0], data.val.labels[:0])
    with pytest.raises(InvalidInputError, match="no validation images"):
        find(folder, DataSet(**{**vars(data), "val": empty}))
    swapped = DataSet(**{**vars(data), "val": data.test, "test": data.val})
    with pytest.raises(InvalidInputError, match="may have learned some"):
        find(folder, swapped)
    renamed = DataSet(**{**vars(swapped), "name": "others"})
    result = find(folder, renamed, evaluations=4)
    assert any("trained on 'patches'" in note for note in result.notes)
    with pytest.raises(InvalidInputError, match="no validation part"):
        find(folder, data.batch(8))
    with pytest.raises(InvalidInputError, match="no supernet at"):
        find(tmp_path, data)
    (tmp_path / "supernet.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    with pytest.raises(InvalidInputError, match="damaged"):
        find(tmp_path, data)


# ---------------------------------------------------------------------- the command line


def test_the_report_and_the_command_line(
    folder: Path, data: DataSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"train": data.train, "val": data.val, "test": data.test}
    arrays = {f"x_{n}": p.images for n, p in names.items()}
    arrays |= {f"y_{n}": p.labels for n, p in names.items()}
    np.savez(tmp_path / "patches.npz", **arrays)
    words = ["search", "--supernet", str(folder), "--data", str(tmp_path / "patches.npz")]
    words += ["--max-macs", "400k", "--calibration", "40", "--out", str(tmp_path / "run")]
    assert main([*words, "--evaluations", "60", "--predictor", "24", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["score"] == SCORE
    assert told["best"]["accuracy"].keys() == {"val", "test"}
    assert told["predictor"]["sample"] == 24
    page = (tmp_path / "run" / "report.html").read_text()
    for text in (
        "Accuracy of the front",
        "The predictor",
        "The supernet",
        "was trained on its own",
    ):
        assert text in page
    assert "No candidate was trained.</b>" not in page
    assert f"{100 * told['best']['accuracy']['test']:.2f}" in page
    assert report_html(SearchResult.load(tmp_path / "run")) == page
    assert main([*words, "--space", "resnet-cifar"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --supernet and --space exclude")
    assert len(error.splitlines()) == 1
    assert main(["search", "--data", "digits", "--predictor", "off", "--out", "x"]) == 2
    assert "give --supernet" in capsys.readouterr().err


def test_a_search_on_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = create_space("resnet-cifar", num_classes=10, resolution=32, width_mult=0.25)
    settings = TrainSettings(
        schedule="sandwich", epochs=0.05, batch_size=16, evaluations=0, calibration=16
    )
    TrainingRun(Trainer(space, load_data("digits"), settings), tmp_path / "net").run()
    words = ["search", "--supernet", str(tmp_path / "net"), "--data", "digits", "--max-macs", "1M"]
    words += ["--evaluations", "6", "--calibration", "32", "--out", str(tmp_path / "run")]
    assert main([*words, "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    config = json.loads((tmp_path / "run" / "student" / "config.json").read_text())
    assert config["trained"] is True
    assert config["costs"]["macs"] <= 1e6
