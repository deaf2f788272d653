"""``find_student(calibrate=N)``: labels, resuming, what changes, what is refused."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import scholarch
from scholarch.calibrating import LABELS
from scholarch.cli import main
from scholarch.datasets.arrays import Part
from scholarch.datasets.dataset import DataSet
from scholarch.search.calibration.report import calibrated_html
from scholarch.search.result import SearchResult
from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.errors import InvalidInputError, ScholarchError
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.space import SearchSpace

FOLDER_FILES = ("calibration.json", "labels.csv", "report.html", "first", "second", "student")


SPACE: dict[str, Any] = {"num_classes": 4, "resolution": 8, "width_mult": 0.25}
BUDGET = {"params": 2e5}


class Fake:
    """Stands in for distillation: width teaches, MACs do not; says what it was asked."""

    def __init__(self, space: SearchSpace, bad: Callable[[int], str] = lambda _: "") -> None:
        self.space, self.bad = space, bad
        self.asked: list[tuple[str, int]] = []

    def __call__(self, arch: Architecture, seed: int) -> float:
        self.asked.append((arch.text, seed))
        what = self.bad(len(self.asked))
        if what == "raise":
            raise RuntimeError("the loss is no number")
        if what == "kill":
            raise KeyboardInterrupt
        if what == "nan":
            return math.nan
        noise = np.random.default_rng(int(arch.key, 16)).normal(0, 0.002)
        return 0.9 - 0.01 * depth_of(self.space, arch) + float(noise)


def depth_of(space: SearchSpace, arch: Architecture) -> float:
    return float(space.cost([arch])["depth"][0])


def dataset() -> DataSet:
    rng = np.random.default_rng(0)
    labels = np.arange(160) % 4
    images = rng.integers(0, 160, (160, 8, 8, 3), dtype=np.uint8)
    images[np.arange(160), labels] = 255
    parts = [Part(images[i], labels[i]) for i in np.split(np.arange(160), (96, 128))]
    return DataSet("patches", 4, *parts, mean=(0.4,) * 3, std=(0.3,) * 3)


def network(classes: int = 4, width: int = 8) -> nn.Module:
    """A teacher whose weights count as trained."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        module = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, classes),
        )
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.2, generator=generator)
    return module


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Fake]]:
    def install(bad: Callable[[int], str] = lambda _: "") -> list[Fake]:
        made: list[Fake] = []

        def make(space: Any, *_: Any, **__: Any) -> Fake:
            made.append(Fake(space, bad))
            return made[-1]

        monkeypatch.setattr("scholarch.calibrating.make_labeller", make)
        return made

    return install


@pytest.fixture
def no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes no pages, whose pictures take most of a small run's time."""
    monkeypatch.setattr("scholarch.search.summary.report_html", lambda _: "")
    monkeypatch.setattr("scholarch.calibrating.calibrated_html", lambda *_: "")


def find(out: Path | None, **given: Any) -> SearchResult:
    asked: dict[str, Any] = {
        "space": create_space("resnet-cifar", **SPACE),
        "data": dataset(),
        "teacher": network(),
        "proxies": ["macs"],
        "budget": BUDGET,
        "searcher": "random",
        "evaluations": 16,
        "batch_size": 8,
        "calibrate": 6,
        "calibrate_epochs": 2,
    }
    return scholarch.find_student(**(asked | given), out=out)


def labels_of(out: Path) -> list[dict[str, str]]:
    with (out / LABELS).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_search_goes_on_with_what_labels_taught(
    tmp_path: Path, fake: Callable[..., list[Fake]]
) -> None:
    made = fake()
    said: list[str] = []
    result = find(tmp_path, calibrate=12, announce=said.append)
    assert len(made[0].asked) == 12
    assert {seed for _, seed in made[0].asked} == {0}
    assert len({text for text, _ in made[0].asked}) == 12
    assert len(said) == 1
    assert "12 distillations of 2 epochs" in said[0]
    told = result.info["calibration"]
    assert told["cost"]["seconds"] > 0
    assert told["cost"]["macs"] > 0
    # These labels fall with depth, which MACs rise with.
    assert told["tau_prior"] < 0
    assert told["share"] > 0
    depth = [c.costs["depth"] for c in result.candidates]
    macs = [c.costs["macs"] for c in result.candidates]
    scores = [c.score for c in result.candidates]
    assert np.corrcoef(depth, scores)[0, 1] < np.corrcoef(depth, macs)[0, 1] - 0.5
    assert len(result.candidates) == 32
    assert told["evaluated"] == {"first": 16, "second": 32}
    assert told["front"]["second"] == len(result.front)
    for name in FOLDER_FILES:
        assert (tmp_path / name).exists()
    again = SearchResult.load(tmp_path / "second")
    assert again.pick is not None
    assert again.info["calibration"] == json.loads((tmp_path / "calibration.json").read_text())
    first = SearchResult.load(tmp_path / "first")
    page = calibrated_html(first, again, told)
    assert page == (tmp_path / "report.html").read_text()
    for row in told["labels"]:
        assert row["arch"] in page
        assert row["sd"] > 0
    assert result.pick is not None
    assert result.pick.costs["params"] <= BUDGET["params"]


def test_reports_say_what_was_trained(tmp_path: Path, fake: Callable[..., list[Fake]]) -> None:
    fake(lambda n: "raise" if n == 2 else "")
    find(tmp_path)
    top, first, second = (tmp_path / f / "report.html" for f in ("", "first", "second"))
    assert "<b>No candidate was trained.</b>" in first.read_text()
    page = second.read_text()
    assert "5 candidates that were distilled from" in page
    assert "for 2 epochs" in page
    assert "<b>No candidate was trained" not in page
    assert "The distilled student" not in top.read_text()
    assert "weights are fresh" in top.read_text()
    found = scholarch.distil_student(
        tmp_path, teacher=network(), data=dataset(), epochs=0.2, evaluations=1, batch_size=8
    )
    assert found.student.trained is not None
    reached = f"distilled: <b>test accuracy {100 * found.student.trained.accuracy['test']:.2f}"
    page = top.read_text()
    assert '<h2 id="distilled">The distilled student</h2>' in page
    assert reached in page
    assert "weights are fresh" not in page
    assert "the distilled ones are in distil/student" in page
    assert "img-src data:" in page  # without which the browser shows no curves
    # What is reported again shows it again.
    assert main(["report", str(tmp_path), "--quiet"]) == 0
    assert top.read_text() == page


@pytest.mark.usefixtures("no_pages")
def test_equal_runs_are_equal(tmp_path: Path, fake: Callable[..., list[Fake]]) -> None:
    fake()
    results = [find(tmp_path / name) for name in "ab"]
    first, second = ((tmp_path / name / "second/pareto.csv").read_bytes() for name in "ab")
    assert first == second
    assert results[0].settings == results[1].settings
    other = find(tmp_path / "c", seed=1, calibrate=3)
    assert {r["key"] for r in other.info["calibration"]["labels"]} != {
        r["key"] for r in results[0].info["calibration"]["labels"]
    }


@pytest.mark.usefixtures("no_pages")
def test_a_killed_run_goes_on_without_repeating_a_label(
    tmp_path: Path, fake: Callable[..., list[Fake]]
) -> None:
    whole = find_whole(tmp_path / "whole", fake)
    made = fake(lambda n: "kill" if n == 4 else "")
    with pytest.raises(KeyboardInterrupt):
        find(tmp_path / "cut")
    assert len(labels_of(tmp_path / "cut")) == 3
    # Killed within a line, too.
    with (tmp_path / "cut" / LABELS).open("a") as file:
        file.write("Sequential,3-")
    made = fake()
    result = find(tmp_path / "cut")
    assert len(made[0].asked) == 3
    assert result.info["calibration"]["cost"]["left"] == 3
    files = ("second/pareto.csv",)
    for name in files:
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert result.settings == whole.settings


def find_whole(out: Path, fake: Callable[..., list[Fake]]) -> SearchResult:
    fake()
    return find(out)


def test_what_fails_is_recorded_and_left_out(
    tmp_path: Path, fake: Callable[..., list[Fake]]
) -> None:
    fake(lambda n: {2: "raise", 5: "nan"}.get(n, ""))
    result = find(tmp_path)
    rows = labels_of(tmp_path)
    assert [row["failure"] for row in rows if row["failure"]] == [
        "RuntimeError: the loss is no number",
        "the accuracy is nan",
    ]
    told = result.info["calibration"]
    assert sum(row["accuracy"] is None for row in told["labels"]) == 2
    assert "the loss is no number" in (tmp_path / "report.html").read_text()
    assert result.pick is not None


@pytest.mark.usefixtures("no_pages")
def test_too_few_labels_are_refused_with_the_reasons(
    tmp_path: Path, fake: Callable[..., list[Fake]]
) -> None:
    fake(lambda n: "raise" if n > 2 else "")
    with pytest.raises(ScholarchError, match=r"2 of 6 distillations.*the loss is no number"):
        find(tmp_path)


@pytest.mark.usefixtures("no_pages")
def test_another_run_in_the_folder_is_refused(
    tmp_path: Path, fake: Callable[..., list[Fake]]
) -> None:
    fake()
    find(tmp_path, calibrate=3)
    with pytest.raises(InvalidInputError, match="calibrate: 3 there, 4 here"):
        find(tmp_path, calibrate=4)
    with pytest.raises(InvalidInputError, match="epochs: 2 there, 7 here"):
        find(tmp_path, calibrate=3, calibrate_epochs=7)
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    (stranger / "thesis.tex").write_text("mine")
    with pytest.raises(InvalidInputError, match=r"thesis\.tex"):
        find(stranger)


def without_val() -> DataSet:
    data = dataset()
    none = Part(data.val.images[:0], data.val.labels[:0])
    return DataSet("patches", 4, data.train, none, data.test, data.mean, data.std)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"calibrate": 2}, "at least 3"),
        ({"calibrate": 17}, "scored 16 candidates"),
        ({"calibrate": None}, "--calibrate-epochs without --calibrate"),
        ({"calibrate_epochs": 0}, "at least 1"),
        ({"supernet": "nowhere"}, "--supernet and --calibrate"),
        ({"data": without_val()}, "no validation images"),
        ({"data": dataset().batch(8)}, "a batch has no validation part"),
        ({"teacher": None}, "without a teacher"),
        ({"teacher": "untrained"}, "untrained teacher"),
        ({"out": None}, "give out"),
    ],
)
@pytest.mark.usefixtures("no_pages")
def test_what_cannot_be_calibrated_is_refused(
    tmp_path: Path, fake: Callable[..., list[Fake]], given: dict[str, Any], match: str
) -> None:
    fake()
    given = dict(given)
    if given.get("teacher") == "untrained":
        given["teacher"] = scholarch.load_teacher(network(), untrained=True)
    out = given.pop("out", tmp_path)
    with pytest.raises(ScholarchError, match=match):
        find(out, **given)


# ---------------------------------------------------------------------- the command


SEARCH = ("search", "--space", "resnet-cifar-s0", "--data", "digits", "--proxy", "macs",
          "--max-params", "300k", "--searcher", "random", "--evaluations", "5",
          "--batch-size", "8")  # fmt: skip


@pytest.mark.usefixtures("no_pages")
def test_the_command_calibrates(
    tmp_path: Path, fake: Callable[..., list[Fake]], capsys: pytest.CaptureFixture[str]
) -> None:
    fake()
    line = [*SEARCH, "--calibrate", "3", "--calibrate-epochs", "2", "--out", str(tmp_path)]
    assert main(line) == 0
    said = capsys.readouterr()
    assert "3 distillations of 2 epochs" in said.err
    assert "calibrated by 3 students" in said.out
    assert main([*line, "--json"]) == 0
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert told["calibration"]["cost"]["labels"] == 3
    assert not said.err


@pytest.mark.parametrize(
    ("more", "match"),
    [
        (["--calibrate", "2"], "at least 3"),
        (["--calibrate-epochs", "2"], "without --calibrate"),
        (["--calibrate", "3", "--supernet", "x"], "--calibrate and --supernet"),
        (["--calibrate", "3", "--refine", "supernet"], "--refine and --calibrate"),
    ],
)
def test_the_command_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], match: str
) -> None:
    assert main([*SEARCH, *more, "--out", str(tmp_path / "x")]) == 2
    said = capsys.readouterr().err
    assert match in said
    assert "Traceback" not in said
    assert not (tmp_path / "x").exists()
