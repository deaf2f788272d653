"""Latency tables with a line an architecture."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import pytest

import scholarch
from scholarch.search.budget import parse_latency
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.latency import load_table
from scholarch.searchspace.space import SearchSpace

SPACES = ("111", "113", "335", "777")


@pytest.fixture
def space() -> SearchSpace:
    return create_space("resnet-cifar-s0")


def write(path: Path, rows: dict[str, object], header: str = "arch,latency_ms") -> Path:
    path.write_text("\n".join([header, *(f"{k},{v}" for k, v in rows.items())]) + "\n")
    return path


def test_reads_and_costs(space: SearchSpace, tmp_path: Path) -> None:
    table = load_table(write(tmp_path / "pixel3.csv", {"111": 1.5, "335": 4}), space)
    space.attach(table)
    assert space.cost_names[-1] == "latency:pixel3"
    archs = [space.parse(text) for text in ("335", "111", "777")]
    column = space.cost(archs)["latency:pixel3"]
    assert column[:2].tolist() == [4.0, 1.5]
    assert math.isnan(column[2])
    rows = space.known_rows()
    assert rows is not None
    assert {str(arch) for arch in space.decode(rows)} == {"111", "335"}
    with pytest.raises(InvalidInputError, match="two latency tables of device 'pixel3'"):
        space.attach(table)
    space.attach(load_table(write(tmp_path / "b.csv", {"335": 2, "777": 3}), space))
    rows = space.known_rows()
    assert rows is not None
    assert [str(arch) for arch in space.decode(rows)] == ["335"]


def test_other_headers_and_gzip(space: SearchSpace, tmp_path: Path) -> None:
    one = write(tmp_path / "a.csv", {"111": 2}, "architecture,raspi4")
    assert load_table(one, space).device == "a"
    packed = tmp_path / "b.csv.gz"
    packed.write_bytes(gzip.compress(one.read_bytes()))
    assert load_table(packed, space).device == "b"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "one has to be arch"),
        ("name,latency_ms\n111,1\n", "one has to be arch"),
        ("arch,a,b\n111,1,2\n", "call the latency latency_ms"),
        ("arch,latency_ms\n", "has no line"),
        ("arch,latency_ms\n111,fast\n", "line 2: latency 'fast' is no number"),
        ("arch,latency_ms\n111,-1\n", "need positive ms"),
        ("arch,latency_ms\n111,nan\n", "need positive ms"),
        ("arch,latency_ms\n111,1\n111,2\n", "stands there twice"),
        ("arch,latency_ms\n16-16x3-32x3-64x5,1\n", "no table of space 'resnet-cifar-s0'"),
        ("arch,latency_ms\n111\n", "line 2: latency None is no number|is no number"),
    ],
)
def test_bad_tables_are_refused(
    space: SearchSpace, tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(InvalidInputError, match=message):
        load_table(path, space)
    with pytest.raises(InvalidInputError, match="cannot read"):
        load_table(tmp_path / "none.csv", space)


def test_a_search_stays_inside_the_table(tmp_path: Path) -> None:
    space = create_space("resnet-cifar-s0")
    archs = space.decode(space.enumerate_matrix())[:40]
    times = {str(arch): 1.0 + i / 10 for i, arch in enumerate(archs)}
    table = write(tmp_path / "cpu.csv", times)
    result = scholarch.find_student(
        space="resnet-cifar-s0",
        data="digits",
        proxies=["macs"],
        tables=[table],
        budget={"latency:cpu": 2.0, "macs": 80e6},
        evaluations=64,
        batch_size=4,
        out=tmp_path / "run",
    )
    assert 0 < len(result.candidates) <= 11
    for candidate in result.candidates:
        assert candidate.costs["latency:cpu"] == times[str(candidate.arch)] <= 2.0
    assert "latency:cpu" in result.pareto_csv().splitlines()[0]
    loaded = scholarch.SearchResult.load(tmp_path / "run")
    assert loaded.pareto_csv() == result.pareto_csv()
    with pytest.raises(InvalidInputError, match=r"latency:cpu ≤ 0.5"):
        scholarch.find_student(
            space="resnet-cifar-s0",
            data="digits",
            proxies=["macs"],
            tables=[table],
            budget={"latency:cpu": 0.5},
        )
    with pytest.raises(InvalidInputError, match="no cost 'latency:gpu'"):
        scholarch.find_student(
            space="resnet-cifar-s0",
            data="digits",
            proxies=["macs"],
            tables=[table],
            budget={"latency:gpu": 5.0},
        )


def test_latency_amounts() -> None:
    assert parse_latency("5ms") == parse_latency(5) == parse_latency("0.005s") == 5.0
    assert parse_latency("250us") == 0.25
    for wrong in ("5m", "-1ms", "fast", "nan", "0"):
        with pytest.raises(InvalidInputError, match="no latency"):
            parse_latency(wrong)


def test_costs_of_many_rows(space: SearchSpace, tmp_path: Path) -> None:
    space.attach(load_table(write(tmp_path / "d.csv", dict.fromkeys(SPACES, 1)), space))
    column = space.cost(space.enumerate_matrix())["latency:d"]
    assert np.isfinite(column).sum() == len(SPACES)


def test_isomorphic_cells_have_latencies_of_their_own(tmp_path: Path) -> None:
    space = create_space("nasbench201")
    live = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
    dead = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|none~1|none~2|"
    other = "|none~0|+|nor_conv_1x1~0|none~1|+|skip_connect~0|none~1|none~2|"
    archs = [space.parse(text) for text in (live, dead, other)]
    assert len({arch.key for arch in archs}) == 1
    path = tmp_path / "phone.csv"
    path.write_text(f"arch,latency_ms\n{dead},5.0\n{live},2.0\n", encoding="utf-8")
    space.attach(load_table(path, space))
    assert space.cost(archs)["latency:phone"].tolist() == [2.0, 5.0, 2.0]
