"""The commands ``scholarch latency …`` from end to end, on a space that is quick to time."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from scholarch.cli import main

SPACE = ["--space", "resnet-cifar-s0", "--resolution", "16"]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("latency") / "here.json"
    words = ["latency", "build", *SPACE, "--device", "here", "--seconds", "1"]
    assert main([*words, "--out", str(out), "--quiet"]) == 0
    return out


def _json(words: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_build_says_what_it_measured(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(table.read_text())
    assert data["unit"] == "ms"
    assert data["setting"] == {
        "runtime": "torch",
        "threads": 1,
        "batch": 1,
        "dtype": "float32",
        "accelerator": "cpu",
    }
    assert {"device", "host", "date", "versions", "space"} <= data.keys()
    assert all(block["ms"] > 0 for block in data["blocks"].values())
    shown = _json(["latency", "show", "--table", str(table)], capsys)
    assert shown["blocks"] == len(data["blocks"]) == 7
    # Everything is there already: nothing is measured, and the same command ends at once.
    before = data["blocks"]
    words = ["latency", "build", *SPACE, "--device", "here", "--seconds", "1"]
    assert main([*words, "--out", str(table), "--quiet"]) == 0
    assert json.loads(table.read_text())["blocks"] == before


def test_check_gives_fractions_and_a_picture(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["latency", "check", "--table", str(table), "--networks", "6", "--seconds", "1"]
    found = _json([*words, "--out", str(tmp_path)], capsys)
    assert {"mape", "within5", "within10", "spearman", "retest_mape", "networks"} <= found.keys()
    assert found["networks"] == 6
    assert 0.0 <= found["within5"] <= found["within10"] <= 1.0
    assert (tmp_path / "check.png").stat().st_size > 10_000
    with (tmp_path / "check.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 6


def test_a_search_on_the_device_times_its_front(table: Path, tmp_path: Path) -> None:
    import numpy as np

    import scholarch

    images = np.random.default_rng(0).integers(0, 256, (80, 16, 16, 3), dtype=np.uint8)
    labels = np.arange(80) % 10
    file = tmp_path / "data.npz"
    np.savez(file, x_train=images, y_train=labels, x_test=images[:20], y_test=labels[:20])
    result = scholarch.find_student(
        space="resnet-cifar-s0",
        data=str(file),
        tables=[table],
        budget={"latency:here": 1e4},
        proxies=["macs"],
        evaluations=8,
        batch_size=16,
        out=tmp_path / "run",
    )
    front = sorted(result.front, key=lambda c: -c.score)[:5]
    assert [one.key for one in result.measured] == [c.arch.key for c in front]
    assert all(one.measured > 0 and one.device == "here" for one in result.measured)
    assert "Timed on this machine" in (tmp_path / "run" / "report.html").read_text()
    assert "measured" not in (tmp_path / "run" / "pareto.csv").read_text()
    again = scholarch.SearchResult.load(tmp_path / "run")
    assert again.measured == result.measured


def test_what_is_slower_than_its_budget_is_not_picked(table: Path, tmp_path: Path) -> None:
    """Whatever the table says: two of the front are said to have been timed over the bound."""
    import scholarch

    result = scholarch.find_student(
        space="resnet-cifar-s0",
        data="digits",
        budget={"macs": 1e9},
        proxies=["macs"],
        evaluations=64,
        batch_size=16,
    )
    best = sorted(result.front, key=lambda c: -c.score)
    result.settings.budget["latency:here"] = 5.0
    result.info["measured"] = [
        {
            "key": c.arch.key,
            "arch": c.arch.text,
            "device": "here",
            "predicted": 4.0,
            "measured": 6.0,
            "spread": 0.0,
        }
        for c in best[:2]
    ]
    vars(result).pop("pick", None)  # worked out once
    assert result.pick is not None
    assert result.pick.arch.key == best[2].arch.key


def test_fit_from_a_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["latency", "fit", "--space", "nasbench201"]
    networks = _json([*words, "--propose", "12"], capsys)["networks"]
    assert len(set(networks)) == 12
    file, out = tmp_path / "phone.csv", tmp_path / "phone.json"
    with file.open("w") as lines:
        lines.write("arch,latency_ms\n")
        for text in networks:
            lines.write(f"{text},{1 + 2 * text.count('conv_3x3') + text.count('conv_1x1')}\n")
    found = _json([*words, "--measurements", str(file), "--out", str(out)], capsys)
    assert found["networks"] == 12
    assert found["spearman"] > 0.8
    assert main(["latency", "fit", "--space", "nasbench201", "--propose", "3"]) == 0
    assert capsys.readouterr().out.startswith("arch,latency_ms\n|")


def test_pack_and_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    pack, out = tmp_path / "pack", tmp_path / "board.json"
    words = ["latency", "pack", *SPACE, "--networks", "4", "--out", str(pack), "--quiet"]
    assert main(words) == 0
    with (pack / "times.csv").open() as file:
        lines = list(csv.DictReader(file))
    times = tmp_path / "times.csv"
    with times.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(line | {"ms": 0.1 + 0.01 * i} for i, line in enumerate(lines))
    words = ["latency", "import", str(pack), "--results", str(times), "--device", "board"]
    found = _json([*words, "--out", str(out)], capsys)
    assert found["device"] == "board"
    assert main(["latency", "check", "--table", str(out)]) == 2
    assert "imported" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["build", "--space", "nasbench101", "--device", "x"], "latency fit"),
        (["build", "--space", "resnet-cifar-s0", "--device", "x", "--runtime", "tea"], "'tea'"),
        (["build", "--space", "resnet-cifar-s0", "--device", "x", "--threads", "999"], "999"),
        (["build", "--space", "resnet-cifar-s0", "--device", "x", "--seconds", "0"], "--seconds 0"),
        (["build", "--space", "resnet-cifar-s1", "--device", "x"], "did you mean"),
        (["fit", "--space", "nasbench201"], "--propose"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["latency", *words, "--out", str(tmp_path / "t.json"), "--quiet"]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "\n" not in error
    assert not (tmp_path / "t.json").exists()


@pytest.mark.parametrize("command", ["check", "show"])
def test_a_table_that_is_none_is_refused(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "t.json"
    for text, said in (("{", "cut short"), ('{"format": "tea"}', "'tea'"), ("[]", "None")):
        file.write_text(text)
        assert main(["latency", command, "--table", str(file)]) == 2
        assert said in capsys.readouterr().err
    assert main(["latency", command, "--table", str(tmp_path / "none.json")]) == 2
    assert "cannot read" in capsys.readouterr().err
