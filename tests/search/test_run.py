"""A run goes on where it stopped, refuses what it is not, and is read back as it was."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scholarch.proxies.batch import Batch
from scholarch.proxies.ensemble import ENSEMBLES, Ensemble
from scholarch.proxies.probe import Probe
from scholarch.proxies.ranks import log_rank_sum
from scholarch.search import find as find_module
from scholarch.search.budget import Budget
from scholarch.search.domain import Domain
from scholarch.search.find import search
from scholarch.search.result import SearchResult
from scholarch.search.run import Progress
from scholarch.search.settings import ScoreRule
from scholarch.search.store import StoreError
from scholarch.search.student import Student
from scholarch.search.summary import report_data, report_html
from scholarch.searchspace.errors import InvalidInputError, ScholarchError, UnknownNameError
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.files import write_atomic
from scholarch.searchspace.space import SearchSpace

S0 = create_space("resnet-cifar-s0")
ELASTIC = create_space("resnet-cifar")
FILES = {"run.json", "candidates.sqlite", "pareto.csv", "report.html", "student", ".lock"}


def find(batch: Batch, out: Path | None = None, evaluations: int = 40, **options: Any) -> Any:
    options = {
        "space": ELASTIC,
        "budget": Budget({"macs": 60e6}),
        "proxies": ["test-late", "params"],
        "seed": 3,
    } | options
    space = options.pop("space")
    return search(space, batch, None, evaluations=evaluations, out=out, **options)


def stored(folder: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "candidates.sqlite")) as database:
        return database.execute("SELECT rowid, * FROM (SELECT * FROM scores)").fetchall()


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(autouse=True)
def _plain_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second of matplotlib each; the report has tests of its own."""
    monkeypatch.setattr("scholarch.search.summary.report_html", lambda _: "a report")


class Interrupt(Exception):  # noqa: N818
    """Stands for whatever ends a process."""


def stop_after(candidates: int) -> Callable[[Progress], None]:
    calls = 0

    def progress(_: Progress) -> None:
        nonlocal calls
        calls += 1
        if calls > candidates:
            raise Interrupt

    return progress


# ---------------------------------------------------------------------- a run's folder


def test_what_a_run_leaves(batch: Batch, tmp_path: Path) -> None:
    result = find(batch, tmp_path / "deep" / "run")
    folder = tmp_path / "deep" / "run"
    assert {path.name for path in folder.iterdir()} == FILES
    run = json.loads((folder / "run.json").read_text())
    assert run["finished"] is True
    assert run["evaluations"] == 40
    assert {"settings", "command", "versions", "host", "seconds", "threads"} <= run.keys()
    assert run["settings"]["budget"] == {"macs": 60e6}
    assert (folder / "pareto.csv").read_text() == result.pareto_csv()
    network = Student.from_pretrained(folder / "student")
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(x), result.best.module().eval()(x))


def test_pareto_csv(batch: Batch) -> None:
    result = find(batch, proxies=["macs", "test-late"])
    rows = list(csv.DictReader(io.StringIO(result.pareto_csv())))
    header = result.pareto_csv().splitlines()[0].split(",")
    assert len(header) == len(set(header))  # the proxy macs is the cost macs: one column
    assert [row["arch"] for row in rows] == [student.arch.text for student in result.pareto]
    for row, student in zip(rows, result.pareto, strict=True):
        assert float(row["macs"]) == student.costs["macs"]
        assert float(row["score"]) == pytest.approx(student.score, rel=1e-5)
        assert float(row["test-late"]) == pytest.approx(student.scores["test-late"], rel=1e-5)


def test_the_front_is_the_front(batch: Batch) -> None:
    result = find(batch, evaluations=120, budget=Budget({"macs": 60e6, "params": 6e5}))
    points = {
        c.arch.key: np.array([-c.score, c.costs["macs"], c.costs["params"]])
        for c in result.candidates
    }
    front = {
        key
        for key, point in points.items()
        if not any((q <= point).all() and (q < point).any() for q in points.values())
    }
    assert {c.arch.key for c in result.front} == front
    assert result.best.score == max(c.score for c in result.candidates)


def test_equal_scores_pick_the_cheaper(
    batch: Batch, add_proxy: Callable[[str, Callable[[Probe], float]], None]
) -> None:
    add_proxy("test-flat", lambda probe: 1.0)
    result = find(batch, proxies=["test-flat"])
    assert result.best.costs["macs"] == min(c.costs["macs"] for c in result.candidates)


def test_the_score_is_the_log_rank_sum(batch: Batch) -> None:
    result = find(batch, evaluations=100)
    with closing(sqlite3.connect(":memory:")) as database:
        database.deserialize(result.database)
        reference = [key for (key,) in database.execute("SELECT arch FROM reference")]
        value = {
            (arch, proxy): float(value)
            for arch, proxy, value in database.execute("SELECT arch, proxy, value FROM scores")
        }
    assert len(reference) == 64
    names = ("test-late", "params")
    expected = log_rank_sum(
        {n: np.array([value[c.arch.key, n] for c in result.candidates]) for n in names},
        {n: np.array([value[key, n] for key in reference]) for n in names},
    )
    np.testing.assert_array_equal([c.score for c in result.candidates], expected)
    assert all(c.costs["macs"] <= 60e6 for c in result.candidates if c.arch.key in reference)


def test_weights_reach_the_searcher_the_result_and_its_folder(
    batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaning = Ensemble("test-leaning", ("macs", "params"), 1, "of a test", (1.0, -0.5))
    monkeypatch.setitem(ENSEMBLES._items, "test-leaning", leaning)
    steps: list[Progress] = []
    result = find(batch, tmp_path / "a", proxies=["test-leaning"], progress=steps.append)
    assert steps[-1].best == result.best.score  # what the searcher saw is what is told
    rows = Domain(ELASTIC, Budget({"macs": 60e6}), seed=3).reference(64, 3)
    reference = ELASTIC.cost(rows)
    costs = {n: np.array([c.costs[n] for c in result.candidates]) for n in leaning.parts}
    expected = log_rank_sum(costs, {n: reference[n] for n in costs}, leaning.weight_of)
    np.testing.assert_array_equal([c.score for c in result.candidates], expected)
    again = SearchResult.load(tmp_path / "a")
    assert [c.score for c in again.candidates] == expected.tolist()
    assert report_data(result).run["score"] == "test-leaning = Σ log-rank of macs, -0.5 × params"
    # Other weights are another run.
    other = Ensemble("test-leaning", leaning.parts, 1, "of a test", (1.0, 0.5))
    monkeypatch.setitem(ENSEMBLES._items, "test-leaning", other)
    with pytest.raises(
        InvalidInputError, match=r"score.weights: \[1.0, -0.5\] there, \[1.0, 0.5\]"
    ):
        find(batch, tmp_path / "a", proxies=["test-leaning"])


def test_progress_counts_up_to_the_end(batch: Batch) -> None:
    steps: list[Progress] = []
    result = find(batch, evaluations=70, progress=steps.append)
    for phase, total in (("reference", 64), ("search", 70)):
        done = [step.done for step in steps if step.phase == phase]
        assert done == sorted(done)
        assert done[-1] == total
        assert {step.total for step in steps if step.phase == phase} == {total}
    assert steps[-1].best == result.best.score
    assert steps[-1].text == result.best.arch.text


# ---------------------------------------------------------------------- going on


@pytest.mark.parametrize("lengths", [(1, 2, 33, 100), (10, 64, 65), (99, 100)])
def test_a_larger_number_continues(lengths: tuple[int, ...], batch: Batch, tmp_path: Path) -> None:
    whole = find(batch, evaluations=lengths[-1])
    rows: set[tuple[Any, ...]] = set()
    for evaluations in lengths:
        find(batch, tmp_path, evaluations)
        now = {row[1:] for row in stored(tmp_path)}
        assert rows <= now  # none lost, none rewritten
        rows = now
    assert (tmp_path / "pareto.csv").read_bytes() == whole.pareto_csv().encode()


def test_the_same_again_scores_nothing(
    batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find(batch, tmp_path)
    before = contents(tmp_path)
    monkeypatch.setattr(find_module.InProcessEngine, "score", None)
    find(batch, tmp_path)
    after = contents(tmp_path)
    for name in ("pareto.csv", "student/model.safetensors", "student/config.json"):
        assert before[name] == after[name]
    run = [json.loads(files["run.json"]) for files in (before, after)]
    assert run[0]["started"] == run[1]["started"]
    assert run[0]["seconds"] <= run[1]["seconds"]  # spent on the run, not on the last look at it


@pytest.mark.parametrize("candidates", [0, 5, 63, 64, 70, 96, 97, 101])
def test_stopped_anywhere_it_goes_on(candidates: int, batch: Batch, tmp_path: Path) -> None:
    whole = find(batch, evaluations=100)
    with pytest.raises(Interrupt):
        find(batch, tmp_path, 100, progress=stop_after(candidates))
    left = {row[1:] for row in stored(tmp_path)}
    assert len({row[0] for row in left}) * 2 == len(left)
    assert not json.loads((tmp_path / "run.json").read_text())["finished"]
    again = find(batch, tmp_path, 100)
    assert left <= {row[1:] for row in stored(tmp_path)}
    assert again.pareto_csv() == whole.pareto_csv()
    assert [c.arch for c in again.candidates] == [c.arch for c in whole.candidates]


def test_groups_commit_whole(batch: Batch, tmp_path: Path) -> None:
    """The reference sample is one group; then 32 a group, the sample's feasible rows first."""
    sizes = []
    for candidates in (40, 64, 70, 100):
        folder = tmp_path / str(candidates)
        with pytest.raises(Interrupt):
            find(batch, folder, 200, progress=stop_after(candidates))
        sizes.append(len(stored(folder)) // 2)
    assert sizes[0] == 0
    # A group's candidates that the sample held already are not scored, nor stored, again.
    assert sizes == sorted(sizes)
    assert all(size >= 64 for size in sizes[1:])
    again = tmp_path / "again"
    with pytest.raises(Interrupt):
        find(batch, again, 200, progress=stop_after(70))
    assert len(stored(again)) // 2 == sizes[2]


def test_killed_before_run_json_or_the_store(
    batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was written last, the same command goes on."""
    from scholarch.search import folder as folder_module

    def dies(*args: Any, **options: Any) -> Any:
        raise Interrupt

    whole = find(batch)
    for i, name in enumerate(("write_run", "RunStore", "write_outputs")):
        where = find_module if name == "write_outputs" else folder_module
        with monkeypatch.context() as patch:
            patch.setattr(where, name, dies)
            with pytest.raises(Interrupt):
                find(batch, tmp_path / str(i))
        assert find(batch, tmp_path / str(i)).pareto_csv() == whole.pareto_csv()


def test_killed_while_writing_the_outputs(
    batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scholarch.search import folder, student
    from scholarch.searchspace import files

    whole = find(batch, tmp_path / "whole")
    for last in range(6):
        count = 0

        def dying(path: Path, content: str | bytes, last: int = last) -> None:
            nonlocal count
            count += 1
            if count > last:
                path.with_name(f".{path.name}.partial").write_bytes(b"half")
                raise Interrupt
            files.write_atomic(path, content)

        with monkeypatch.context() as patch:
            patch.setattr(folder, "write_atomic", dying)
            patch.setattr(student, "write_atomic", dying)
            with pytest.raises(Interrupt):
                find(batch, tmp_path / str(last))
        find(batch, tmp_path / str(last))
        found, expected = contents(tmp_path / str(last)), contents(tmp_path / "whole")
        assert found.keys() == expected.keys()  # and no half a file is left
        for name in ("pareto.csv", "student/model.safetensors", "student/config.json"):
            assert found[name] == expected[name]
    assert whole.out


def test_a_store_that_went_missing_is_made_again(batch: Batch, tmp_path: Path) -> None:
    find(batch, tmp_path)
    before = (tmp_path / "pareto.csv").read_bytes()
    (tmp_path / "candidates.sqlite").unlink()
    find(batch, tmp_path)
    assert (tmp_path / "pareto.csv").read_bytes() == before


def test_a_clock_that_goes_backwards(
    batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(range(1000, 0, -10))
    monkeypatch.setattr(find_module.time, "time", lambda: float(next(times)))
    assert find(batch, tmp_path).pareto_csv() == find(batch).pareto_csv()
    find(batch, tmp_path, 50)


# ---------------------------------------------------------------------- what is refused


def test_a_smaller_number_is_refused(batch: Batch, tmp_path: Path) -> None:
    find(batch, tmp_path, 40)
    before = contents(tmp_path)
    with pytest.raises(InvalidInputError, match="a run of 40 evaluations, 39 are fewer"):
        find(batch, tmp_path, 39)
    assert contents(tmp_path) == before


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"seed": 4}, "seed: 3 there, 4 here"),
    ({"searcher": "random"}, "searcher: nsga2 there, random here"),
    ({"budget": Budget({"macs": 61e6})}, "budget.macs: 60000000.0 there, 61000000.0 here"),
    ({"budget": Budget({})}, "budget.macs: 60000000.0 there, none here"),
    ({"proxies": ["test-late"]}, "proxies.params: 1 there, none here"),
    ({"proxies": ["params", "test-late"]}, "score.name: test-late+params there, params+test-late"),
    ({"space": create_space("resnet-cifar", width_mult=2.0)}, "space.width_mult: 1.0 there, 2.0"),
]


@pytest.mark.parametrize(("change", "named"), CHANGES, ids=[name for _, name in CHANGES])
def test_other_settings_are_refused(
    change: dict[str, Any], named: str, batch: Batch, tmp_path: Path
) -> None:
    find(batch, tmp_path)
    before = contents(tmp_path)
    with pytest.raises(InvalidInputError, match="holds a run with other settings") as caught:
        find(batch, tmp_path, 100, **change)
    assert named in str(caught.value)
    assert contents(tmp_path) == before


def test_another_batch_or_version_is_refused(
    batch: Batch, tmp_path: Path, add_proxy: Callable[..., None]
) -> None:
    find(batch, tmp_path)
    other = Batch(batch.images.flip(0), batch.labels, 10, batch.mean, batch.std, batch.name)
    with pytest.raises(InvalidInputError, match="data.fingerprint: "):
        find(other, tmp_path)
    add_proxy("test-late", lambda probe: 1.0, version=2)
    with pytest.raises(InvalidInputError, match="proxies.test-late: 1 there, 2 here"):
        find(batch, tmp_path)


def test_a_folder_of_something_else(batch: Batch, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InvalidInputError, match=r"is not empty \(thesis.tex\) and holds no run"):
        find(batch, tmp_path)
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError, match="cannot make the folder .*; choose another"):
            find(batch, out)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


GARBAGE = [
    "",
    "{",
    "[]",
    "5",
    "null",
    '{"settings": {}}',
    '{"settings": 5, "evaluations": 3}',
    '{"settings": {}, "evaluations": "x"}',
    "\x00\xff",
]


@pytest.mark.parametrize("text", GARBAGE)
def test_run_json_edited_to_garbage(text: str, batch: Batch, tmp_path: Path) -> None:
    find(batch, tmp_path)
    (tmp_path / "run.json").write_bytes(text.encode("latin-1"))
    store = (tmp_path / "candidates.sqlite").read_bytes()
    for action in (lambda: find(batch, tmp_path), lambda: SearchResult.load(tmp_path)):
        with pytest.raises(InvalidInputError, match=r"run\.json is damaged \(.*move the folder"):
            action()
    assert (tmp_path / "candidates.sqlite").read_bytes() == store


FIELDS = [
    "space", "data", "teacher", "score", "proxies", "searcher", "seed", "budget", "reference_size",
]  # fmt: skip


@pytest.mark.parametrize("value", [None, 5, "x", {}, [], {"name": 1}])
@pytest.mark.parametrize("field", FIELDS)
def test_settings_edited_to_garbage(
    field: str, value: Any, batch: Batch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Read or refused in words, never a crash."""
    folder = tmp_path_factory.getbasetemp() / "edited"
    path = folder / "run.json"
    if not folder.exists():
        find(batch, folder, 2, space=S0, proxies=["test-late"])
    good = path.read_text()
    run = json.loads(good)
    run["settings"][field] = value
    path.write_text(json.dumps(run))
    try:
        for action in (
            lambda: find(batch, folder, 2, space=S0, proxies=["test-late"]),
            lambda: report_data(SearchResult.load(folder)),
        ):
            with contextlib.suppress(ScholarchError):
                action()
    finally:
        path.write_text(good)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"evaluations": 0}, "evaluations = 0; need a whole number of at least 1"),
        ({"evaluations": -5}, "evaluations = -5;"),
        ({"evaluations": 2.5}, "evaluations = 2.5;"),
        ({"evaluations": True}, "evaluations = True;"),
        ({"seed": -1}, "seed = -1; need a whole number from 0"),
        ({"seed": 2**63}, "seed = 9223372036854775808;"),
        ({"seed": "0"}, "seed = '0';"),
        ({"proxies": ["ensemble", "naswot"]}, "'ensemble' is a combination already"),
        ({"proxies": ["diswot"]}, "proxy 'diswot' need a teacher; give one"),
    ],
)
def test_numbers_out_of_range(
    options: dict[str, Any], message: str, batch: Batch, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        find(batch, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_unknown_names(batch: Batch) -> None:
    with pytest.raises(UnknownNameError, match="unknown proxy 'naswt'; did you mean naswot"):
        find(batch, proxies=["naswt"])
    with pytest.raises(UnknownNameError, match="unknown searcher"):
        find(batch, searcher="nsga")


def test_proxies_given_twice_count_once(batch: Batch) -> None:
    assert ScoreRule.of(["params", "macs", "params"]).parts == ("params", "macs")
    assert ScoreRule.of("params") == ScoreRule.of(["params"])
    twice = find(batch, proxies=["params", "params"])
    assert twice.pareto_csv() == find(batch, proxies=["params"]).pareto_csv()


# ---------------------------------------------------------------------- failures


def test_failures_are_counted(batch: Batch, tmp_path: Path) -> None:
    result = find(batch, tmp_path, 100, proxies=["test-half", "params"])
    failed = [c for c in result.candidates if math.isnan(c.score)]
    assert 20 < len(failed) < 80
    assert sum(result.failures.values()) == len(failed)
    assert all(c.failures for c in failed)
    for name, count in result.failures.items():
        assert name.startswith("test-half: ")
        assert count > 0
    assert result.to_json()["failures"] == result.failures
    assert "this one breaks" in report_html(result)
    # Whatever is stored of them is not tried again.
    assert find(batch, tmp_path, 100, proxies=["test-half", "params"]).failures == result.failures


def test_a_part_that_always_fails_ranks_nothing(batch: Batch, tmp_path: Path) -> None:
    with pytest.raises(
        ScholarchError,
        match="test-never failed on all 64 architectures of the reference sample, so it ranks"
        r" nothing \(64× out of memory\); leave it out",
    ):
        find(batch, tmp_path, proxies=["test-never", "params"])


def test_best_when_all_failed(batch: Batch, tmp_path: Path) -> None:
    result = find(batch, tmp_path, proxies=["test-never"])
    with pytest.raises(ScholarchError, match="no candidate could be scored: 40× test-never: out"):
        _ = result.best
    assert result.pareto == []
    assert result.to_json()["best"] is None
    assert not (tmp_path / "student").exists()
    assert SearchResult.load(tmp_path).pick is None


# ---------------------------------------------------------------------- save and load


def same(first: SearchResult, second: SearchResult) -> None:
    assert first.settings == second.settings
    assert first.pareto_csv() == second.pareto_csv()
    assert first.notes == second.notes
    assert first.failures == second.failures
    assert first.best.to_json() == second.best.to_json()
    np.testing.assert_equal(
        [(c.arch, dict(c.costs), c.score, dict(c.scores)) for c in first.candidates],
        [(c.arch, dict(c.costs), c.score, dict(c.scores)) for c in second.candidates],
    )


@pytest.mark.parametrize("space", [S0, ELASTIC], ids=lambda s: s.name)
@pytest.mark.parametrize("on_disk", [True, False])
def test_save_and_load(space: SearchSpace, on_disk: bool, batch: Batch, tmp_path: Path) -> None:
    options: dict[str, Any] = {"space": space, "proxies": ["test-half", "test-late"]}
    result = find(batch, tmp_path / "run" if on_disk else None, 70, **options)
    result.save(tmp_path / "copy")
    loaded = SearchResult.load(tmp_path / "copy")
    same(result, loaded)
    np.testing.assert_equal(asdict(report_data(loaded)), asdict(report_data(result)))
    loaded.save(tmp_path / "copy of copy")
    same(SearchResult.load(tmp_path / "copy of copy"), result)
    if on_disk:
        same(SearchResult.load(tmp_path / "run"), result)
    # What was saved can be continued like any run.
    longer = find(batch, tmp_path / "copy", 90, **options)
    assert longer.pareto_csv() == find(batch, None, 90, **options).pareto_csv()


def test_save_refuses_what_would_be_lost(batch: Batch, tmp_path: Path) -> None:
    result = find(batch)
    (tmp_path / "note").write_text("mine")
    with pytest.raises(InvalidInputError, match="is not empty; choose another folder"):
        result.save(tmp_path)
    with pytest.raises(StoreError, match="cannot make the folder"):
        result.save(tmp_path / "note")


def test_load_what_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path, tmp_path / "file", tmp_path / "none"):
        with pytest.raises(InvalidInputError, match=r"no run in .*: run\.json is missing"):
            SearchResult.load(folder)


def test_load_a_run_that_was_killed_at_once(batch: Batch, tmp_path: Path) -> None:
    with pytest.raises(Interrupt):
        find(batch, tmp_path, progress=stop_after(0))
    result = SearchResult.load(tmp_path)
    assert result.candidates == []
    with pytest.raises(ScholarchError, match="nothing yet; run the same search to go on"):
        report_html(result)
    (tmp_path / "candidates.sqlite").unlink()
    with pytest.raises(StoreError, match="no run store at"):
        SearchResult.load(tmp_path)


# ---------------------------------------------------------------------- files


def test_write_atomic_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomic(tmp_path / "f", "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match="cannot write .*: No space left on device; free space"):
        write_atomic(tmp_path / "f", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").read_text() == "old"


def test_a_folder_name_that_is_no_utf_8(batch: Batch, tmp_path: Path) -> None:
    name = "r\udcff [b] :smile: é"
    result = find(batch, tmp_path / name, command=f"scholarch search --out '{name}'")
    assert json.loads((tmp_path / name / "run.json").read_text())["command"].endswith(f"{name}'")
    same(SearchResult.load(tmp_path / name), result)
