"""A benchmark end to end, on sixteen ResNets with invented accuracies."""

from __future__ import annotations

import csv
import json
import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scholarch
from scholarch.benchmarks import measure, saving
from scholarch.benchmarks import registry as benchmark_registry
from scholarch.benchmarks.metrics import kendall
from scholarch.benchmarks.result import BenchmarkResult
from scholarch.benchmarks.setting import rules_of
from scholarch.benchmarks.summary import STATISTICS
from scholarch.benchmarks.tables import TruthTable
from scholarch.cli import main
from scholarch.proxies import registry
from scholarch.proxies.ensemble import ensemble_for
from scholarch.proxies.probe import Probe
from scholarch.proxies.ranks import log_rank_sum
from scholarch.proxies.registry import Proxy
from scholarch.search import engine as engine_module
from scholarch.search import engine_processes
from scholarch.search.settings import ScoreRule

ARCHS = [f"{a}{b}{c}" for a in "13" for b in "13" for c in "1357"]
PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder: a table in which accuracy grows with depth, and forty tiny images."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    lines = ["arch,vanilla_acc,kd_acc"]
    for arch in ARCHS:
        accuracy = 60.0 + sum(map(int, arch)) + rng.normal()
        lines.append(f"{arch},{accuracy - 2:.2f},{accuracy:.2f}")
    (folder / "diswot_s0_resnet_cifar100.csv").write_text("\n".join(lines) + "\n")
    np.savez(
        folder / "cifar10_5k.npz",
        x_train=rng.integers(0, 256, (40, 16, 16, 3), dtype=np.uint8),
        y_train=np.arange(40) % 10,
        x_test=rng.integers(0, 256, (10, 16, 16, 3), dtype=np.uint8),
        y_test=np.arange(10),
    )
    return folder


@pytest.fixture
def cli(data: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(line: str, *more: str | Path) -> tuple[int, str, str]:
        capfd.readouterr()
        usual = {"--data": str(data), "--size": "6"}
        words = [word for pair in usual.items() if pair[0] not in line for word in pair]
        code = main(["benchmark", *shlex.split(line), *words, *map(str, more)])
        return code, *capfd.readouterr()

    return run


def small(data: Path, **options: Any) -> BenchmarkResult:
    given: dict[str, Any] = {"data": data, "seeds": 2, "size": 6} | options
    return scholarch.benchmark("resnet-cifar-s0", **given)


@pytest.fixture(scope="module")
def result(data: Path) -> BenchmarkResult:
    return small(data, proxies=["expr", "macs", "params+expr"])


# ---------------------------------------------------------------------- numbers


def test_rows(result: BenchmarkResult) -> None:
    kinds = {row.name: row.kind for row in result.rows}
    assert kinds == {
        "expr": "proxy",
        "params+expr": "ensemble",
        "params": "size",
        "macs": "size",  # once, though asked for
        "depth": "size",
        "random": "random",
    }
    assert all(set(row.numbers) == set(STATISTICS) for row in result.rows)
    assert result.archs == tuple(ARCHS)
    with pytest.raises(KeyError):
        result["naswot"]


def test_numbers_are_those_of_the_scores(result: BenchmarkResult, data: Path) -> None:
    space = scholarch.create_space("resnet-cifar-s0", resolution=16)
    archs = [space.parse(arch) for arch in ARCHS]
    columns = []
    for seed in range(2):
        batch = scholarch.load_batch(str(data / "cifar10_5k.npz"), size=6, seed=seed)
        columns.append(scholarch.score(space, archs, batch=batch, proxies=["expr"], seed=seed))
    values = [table["expr"] for table in columns]
    row = result["expr"]
    np.testing.assert_allclose(row.values, np.mean(values, axis=0))
    taus = [kendall(column, result.truth) for column in values]
    assert row.numbers["seed_tau"] == pytest.approx(np.mean(taus))
    assert row.numbers["seed_tau_sd"] == pytest.approx(np.std(taus, ddof=1))
    assert row.numbers["tau"] == pytest.approx(kendall(row.values, result.truth))
    assert row.numbers["tau_low"] < row.numbers["tau"] < row.numbers["tau_high"]
    assert 0.8 < row.numbers["self_rho"] <= 1.0
    assert row.failed == 0


def test_ensembles_are_ranked_as_the_front_door_ranks_them(data: Path) -> None:
    found = small(data, seeds=1, proxies=["macs-expr"])
    space = scholarch.create_space("resnet-cifar-s0", resolution=16)
    batch = scholarch.load_batch(str(data / "cifar10_5k.npz"), size=6, seed=0)
    archs = [space.parse(arch) for arch in ARCHS]
    expected = scholarch.score(space, archs, batch=batch, proxies=["macs-expr"])["macs-expr"]
    np.testing.assert_allclose(found["macs-expr"].values, expected)
    assert found["macs-expr"].kind == "ensemble"


@pytest.mark.parametrize("family", ["convnet", "transformer"])
def test_the_default_is_the_familys_ensemble_and_its_parts(family: str) -> None:
    ensemble = ensemble_for("ensemble", family)
    rules = rules_of(None, family)
    assert [rule.name for rule in rules] == ["ensemble", *ensemble.parts]
    assert rules[0].parts == ensemble.parts
    assert rules[0].weights == ensemble.weights


def test_sizes_are_those_of_the_networks_trained(result: BenchmarkResult) -> None:
    published = scholarch.create_space("resnet-cifar-s0", num_classes=100)
    costs = published.cost([published.parse(arch) for arch in ARCHS])
    for name in ("params", "macs", "depth"):
        assert result[name].values.tolist() == costs[name].tolist()
        assert math.isnan(result[name].numbers["seed_tau_sd"])
    assert result["depth"].numbers["tau"] > 0.8
    assert abs(result["random"].numbers["tau"]) < 0.6


def test_truth_and_limit(data: Path) -> None:
    plain = small(data, proxies=["macs"], truth="vanilla_acc", seeds=1)
    assert plain.settings["truth"] == "vanilla_acc"
    np.testing.assert_allclose(plain.truth, small(data, proxies=["macs"], seeds=1).truth - 2.0)
    few = small(data, proxies=["macs"], seeds=1, limit=7)
    assert len(few.archs) == 7
    assert set(few.archs) < set(ARCHS)


def test_alias(data: Path) -> None:
    found = scholarch.benchmark("diswot-s0", data=data, proxies=["macs"], seeds=1, size=6)
    same = small(data, proxies=["macs"], seeds=1)
    np.testing.assert_equal(found["macs"].numbers, same["macs"].numbers)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """``test-half`` fails on the shallow half, ``test-never`` on all."""

    def half(probe: Probe) -> float:
        if probe.arch.choices[0] == 0:
            raise RuntimeError("this one breaks")
        return probe.costs["depth"]

    def never(_: Probe) -> float:
        return math.nan

    for name, compute in (("test-half", half), ("test-never", never)):
        proxy = Proxy(name, compute, "of a test", "a test", frozenset())
        monkeypatch.setitem(registry._PROXIES._items, name, proxy)


@pytest.mark.usefixtures("failing")
def test_failed_candidates_rank_last_and_are_counted(
    data: Path, cli: Callable[..., tuple[int, str, str]]
) -> None:
    found = small(data, proxies=["test-half", "test-never", "test-half+macs", "test-never+macs"])
    row = found["test-half"]
    assert row.failed == 2 * 8
    filled = np.where(np.isnan(row.values), -1e9, row.values)
    assert row.numbers["tau"] == pytest.approx(kendall(filled, found.truth))
    assert found["test-half+macs"].failed == 16
    for name in ("test-never", "test-never+macs"):
        assert found[name].failed == 32
        assert math.isnan(found[name].numbers["tau"])
    assert found.failures["test-half", "RuntimeError: this one breaks"] == 16
    code, out, _ = cli("resnet-cifar-s0 --seeds 2 --proxy test-half --proxy test-never")
    assert code == 0
    assert "test-half failed 16×: RuntimeError: this one breaks." in out
    assert "Failed values, ranked last: test-half 16, test-never 32." in out


# ---------------------------------------------------------------------- controls


def test_controls(data: Path, cli: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    line = (
        "resnet-cifar-s0 --seeds 2 --proxy diswot-relation --proxy naswot --controls"
        " --teacher resnet20-cifar10 --untrained --json"
    )
    code, out, err = cli(line, "--out", tmp_path)
    assert (code, err) == (0, "")
    found = json.loads(out)
    (row,) = found["controls"]
    assert row["name"] == "diswot-relation"
    assert list(row["tau"]) == ["trained", "shuffled", "labels", "constant", "random"]
    assert len({row["tau"][name] for name in ("trained", "shuffled", "labels")}) > 1
    assert row["teacher_aware"] == (not row["holds_under"])
    assert found["take_no_teacher"] == ["naswot"]
    page = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "## What the teacher adds" in page
    assert "A score is called teacher-aware only if" in page
    with (tmp_path / "controls.csv").open(encoding="utf-8") as file:
        verdicts = {row["score"]: row["verdict"] for row in csv.DictReader(file)}
    assert list(verdicts) == ["diswot-relation"]
    assert verdicts["diswot-relation"].startswith("teacher-")


def test_a_control_replaces_the_parts_that_take_a_teacher() -> None:
    """The other parts, and what they are ranked against, stay."""
    macs, guided, control = np.array([1.0, 2.0, 3.0]), np.arange(3.0), np.arange(3.0)[::-1]
    seeded = measure.SeedScores(
        {"trained": {"macs": macs, "diswot": guided}, "labels": {"diswot": control}},
        {"trained": {"macs": macs, "diswot": guided}, "labels": {"diswot": control}},
    )
    rule = ScoreRule.of(["macs", "diswot"])
    parts = {"macs": macs, "diswot": control}
    assert seeded.score(rule, "labels").tolist() == log_rank_sum(parts, parts).tolist()
    assert seeded.score(rule).tolist() == seeded.score(ScoreRule.of(["diswot", "macs"])).tolist()
    assert np.argmax(seeded.score(rule)) == 2
    assert seeded.score(ScoreRule.of(["diswot"]), "labels").tolist() == [2.0, 1.0, 0.0]


def test_a_score_that_takes_a_teacher_needs_one(
    cli: Callable[..., tuple[int, str, str]],
) -> None:
    code, out, err = cli("resnet-cifar-s0 --seeds 1 --proxy diswot-relation")
    assert (code, out) == (2, "")
    assert "proxy 'diswot-relation' need a teacher; give one (--teacher)" in err


# ---------------------------------------------------------------------- files, resuming


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Candidates that engines were given, call by call."""
    calls: list[int] = []
    original = engine_module.InProcessEngine.score

    def score(self: Any, archs: Any, **options: Any) -> Any:
        calls.append(len(archs))
        return original(self, archs, **options)

    monkeypatch.setattr(engine_module.InProcessEngine, "score", score)
    return calls


def test_a_finished_one_measures_nothing_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = counted(monkeypatch)
    first = small(data, proxies=["expr"], out=tmp_path)
    assert sum(calls) == 2 * 16
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.[cmp]*")}
    assert set(before) == {"scores.csv", "table.csv", "table.md", "tau.png"}
    calls.clear()
    again = small(data, proxies=["expr"], out=tmp_path)
    assert calls == []
    assert again["expr"].numbers == first["expr"].numbers
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.[cmp]*")} == before
    monkeypatch.setattr(saving, "save", lambda *_: None)
    small(data, proxies=["expr", "naswot"], out=tmp_path, seeds=3)
    assert sum(calls) == 3 * 16  # naswot with two seeds, both with the third
    calls.clear()
    small(data, proxies=["expr"], out=tmp_path, size=7)
    assert sum(calls) == 2 * 16  # other images


def test_a_killed_one_goes_on(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "CHUNK", 5)
    whole = small(data, proxies=["expr"], seeds=1)
    calls = counted(monkeypatch)

    def stop(step: Any) -> None:
        if step.done >= 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small(data, proxies=["expr"], seeds=1, out=tmp_path, progress=stop)
    assert calls == [5, 5, 5]
    calls.clear()
    steps: list[int] = []
    resumed = small(
        data, proxies=["expr"], seeds=1, out=tmp_path, progress=lambda s: steps.append(s.done)
    )
    assert calls == [5, 1]
    assert steps[0] == 10
    assert steps[-1] == 16
    assert resumed["expr"].values.tolist() == whole["expr"].values.tolist()


def test_files(data: Path, tmp_path: Path, cli: Callable[..., tuple[int, str, str]]) -> None:
    line = "resnet-cifar-s0 --seeds 2 --proxy expr --proxy params+expr"
    code, out, _ = cli(line, "--out", tmp_path / "o")
    assert code == 0
    assert f"written to {tmp_path / 'o'}" in out
    with (tmp_path / "o" / "scores.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["arch"] for row in rows] == ARCHS
    scores = np.array([float(row["expr"]) for row in rows])
    truth = np.array([float(row["truth"]) for row in rows])
    with (tmp_path / "o" / "table.csv").open(encoding="utf-8") as file:
        table = {row["score"]: row for row in csv.DictReader(file)}
    assert float(table["expr"]["tau"]) == pytest.approx(kendall(scores, truth), abs=1e-4)
    page = (tmp_path / "o" / "table.md").read_text(encoding="utf-8")
    assert "scholarch benchmark resnet-cifar-s0 --seeds 2" in page
    assert "Seeds 0 to 1" in page
    assert "torch" in page
    assert "![Kendall's τ of every score](tau.png)" in page
    assert page.count("\n| `") == len(table)
    assert (tmp_path / "o" / "tau.png").read_bytes().startswith(PNG)


def test_workers_are_processes(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []

    class Pool(engine_module.InProcessEngine):
        def __init__(self, *given: Any, workers: int, **options: Any) -> None:
            opened.append(workers)
            super().__init__(*given, **options)

    monkeypatch.setattr(engine_processes, "ProcessEngine", Pool)
    small(data, proxies=["macs+expr"], seeds=1, workers=3)
    assert opened == [3]


# ---------------------------------------------------------------------- the command


def test_json_and_json_alone(cli: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = cli("resnet-cifar-s0 --seeds 1 --proxy expr --json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["settings"]["candidates"] == 16
    (row,) = [row for row in found["scores"] if row["name"] == "expr"]
    assert -1.0 <= row["tau_low"] <= row["tau"] <= row["tau_high"] <= 1.0
    assert row["self_rho"] is None  # of one seed
    assert set(found["statistics"]) <= set(row)
    assert found["command"].startswith("scholarch benchmark")


def test_the_table_is_not_cut(cli: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = cli("resnet-cifar-s0 --seeds 1 --proxy expr")
    assert code == 0
    assert "…" not in out.replace(" … ", "")  # but for intervals
    assert all(name in out for name in ("expr", "params", "macs", "depth", "random"))
    assert "seed 0" in err
    assert cli("resnet-cifar-s0 --seeds 1 --proxy expr --quiet") == (0, "", "")


def test_list_benchmarks(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "benchmarks", "--json"]) == 0
    rows = {row["name"]: row["about"] for row in json.loads(capfd.readouterr().out)}
    assert {"nasbench201", "resnet-cifar-s0", "diswot-s0", "vitbench-pit"} <= set(rows)
    assert all(rows.values())
    assert sorted(rows) == scholarch.list_benchmarks()


def test_a_benchmark_of_ones_own(monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
    monkeypatch.setattr(benchmark_registry._BENCHMARKS, "_items", {})

    @scholarch.register_benchmark("mine", space="resnet-cifar-s0", truth="accuracy")
    def mine(folder: Path) -> TruthTable:
        """Depth is all."""
        archs = ("111", "113", "335", "777")
        return TruthTable(archs, {folder.name: np.array([50.0, 60.0, 70.0, 80.0])}, "mine.csv")

    assert benchmark_registry.get_benchmark("mine").about == "Depth is all."
    found = scholarch.benchmark("mine", data=data, proxies=["macs"], seeds=1, size=6)
    assert found["depth"].numbers["tau"] == pytest.approx(1.0)
    assert found.settings["truth"] == data.name  # the only column there is
    with pytest.raises(scholarch.InvalidInputError, match="'mine' is already registered"):
        scholarch.register_benchmark("mine", space="resnet-cifar-s0", truth="a")(mine)


WORDS = [
    ("nasbench202", "unknown benchmark 'nasbench202'; did you mean nasbench201"),
    ("nasbench101", "holds no nasbench101*.csv or nasbench101*.csv.gz"),
    ("vitbench-pit", "vit_bench_cifar100.json does not exist"),
    ("resnet-cifar-s0 --data no/such", "does not exist"),
    ("resnet-cifar-s0 --truth imagenet", "unknown column of accuracies 'imagenet'"),
    ("resnet-cifar-s0 --limit 1", "limit = 1; need a whole number of at least 4"),
    ("resnet-cifar-s0 --seeds 0", "seeds = 0; need a whole number of at least 1"),
    ("resnet-cifar-s0 --seed -1", "seed = -1; need a whole number of at least 0"),
    ("resnet-cifar-s0 --workers 0", "workers = 0; need"),
    ("resnet-cifar-s0 --workers 257", "workers = 257; need a whole number up to 256"),
    ("resnet-cifar-s0 --size 1", "batch size 1; need"),
    ("resnet-cifar-s0 --half even", "tells no isomorphism groups"),
    ("resnet-cifar-s0 --half some", "unknown half 'some'"),
    ("resnet-cifar-s0 --proxy naswat", "unknown proxy 'naswat'; did you mean naswot"),
    ("resnet-cifar-s0 --proxy macs+ensemble", "'ensemble' is a combination already"),
    ("resnet-cifar-s0 --proxy macs+", "score 'macs+' lacks a proxy; write one proxy"),
    ("resnet-cifar-s0 --proxy ensemble-transformer", "convnet; write 'ensemble'"),
    ("resnet-cifar-s0 --option name=x", "option name = 'x': a benchmark is of its own space"),
    ("resnet-cifar-s0 --option patch_size", "--option 'patch_size'; write NAME=VALUE"),
    ("resnet-cifar-s0 --option patch_size=4", "patch_size"),
    ("resnet-cifar-s0 --resolution 0", "resolution = 0"),
    ("resnet-cifar-s0 --images no.npz", "no.npz"),
    ("resnet-cifar-s0 --weights no.pth", "name it with --teacher"),
]


@pytest.mark.parametrize(("line", "message"), WORDS)
def test_bad_values_are_one_plain_line(
    line: str, message: str, cli: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, out, err = cli(line, "--out", tmp_path / "o")
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "o").exists()


def test_a_folder_in_use(cli: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    from filelock import FileLock

    with FileLock(tmp_path / ".lock"):
        code, _, err = cli("resnet-cifar-s0 --seeds 1 --proxy macs", "--out", tmp_path)
    assert code == 2
    assert "another run is writing to" in err
