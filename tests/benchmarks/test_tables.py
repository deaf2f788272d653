"""Each benchmark's file is read as it is, and what is wrong with one is named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

import scholarch
from scholarch.benchmarks.registry import get_benchmark
from scholarch.benchmarks.setting import select, spaces_of
from scholarch.benchmarks.tables import TruthTable
from scholarch.proxies.batch import Batch
from scholarch.searchspace.errors import InvalidInputError, UnknownNameError

CELLS = (
    "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
    "|none~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|none~1|none~2|",
    "|nor_conv_1x1~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_3x3~2|",
)


def write(path: Path, text: str) -> Path:
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def read(name: str, folder: Path) -> TruthTable:
    return get_benchmark(name).read(folder)


class TestNasBench201:
    def test_files_become_one_table(self, tmp_path: Path) -> None:
        a, b, c = CELLS
        write(
            tmp_path / "nasbench201_a_half.csv.gz",
            f"idx,arch_str,iso_group,params,macs,cifar10\n0,{a},4,10,20,91.5\n1,{b},5,10,20,88\n",
        )
        write(tmp_path / "nasbench201_b_half.csv", f"arch_str,iso_group,cifar10\n{c},7,90\n")
        write(tmp_path / "nasbench201_more.csv", f"arch_str,ImageNet16-120\n{a},40.25\n{c},\n")
        write(tmp_path / "nasbench201_latency_half.csv.gz", "idx,raspi4\n0,3.5\n")
        table = read("nasbench201", tmp_path)
        assert table.archs == CELLS
        assert list(table.truths) == ["cifar10", "ImageNet16-120"]
        assert table.truths["cifar10"].tolist() == [91.5, 88, 90]
        np.testing.assert_equal(table.truths["ImageNet16-120"], [40.25, np.nan, np.nan])
        assert table.groups is not None
        assert table.groups.tolist() == [4, 5, 7]
        assert "nasbench201_a_half.csv.gz" in table.source

    def test_no_file_holds_cells(self, tmp_path: Path) -> None:
        with pytest.raises(
            InvalidInputError, match=r"holds no nasbench201_\*\.csv or nasbench201_"
        ):
            read("nasbench201", tmp_path)
        write(tmp_path / "nasbench201_latency_half.csv", "idx,raspi4\n0,3.5\n")
        with pytest.raises(
            InvalidInputError, match="latency_half.csv in .* has a column 'arch_str'"
        ):
            read("nasbench201", tmp_path)

    def test_the_real_table(self, data_dir: Path) -> None:
        table = read("nasbench201", data_dir)
        assert len(table.archs) == 7905
        assert {"cifar10", "cifar100"} <= set(table.truths)
        assert table.groups is not None
        assert 90 < np.nanmax(table.truths["cifar10"]) < 95


@pytest.mark.parametrize(
    ("name", "file"), [("nasbench101", "nasbench101_x"), ("nasbench-macro", "nasbench_macro_x")]
)
class TestFractions:
    def test_are_read_as_percent(self, name: str, file: str, tmp_path: Path) -> None:
        write(tmp_path / f"{file}.csv.gz", "arch,accuracy,params\nfirst,0.91,7\nsecond,0.905,8\n")
        table = read(name, tmp_path)
        assert table.archs == ("first", "second")
        assert list(table.truths) == ["accuracy"]
        assert table.truths["accuracy"].tolist() == [91.0, 90.5]
        assert table.groups is None

    def test_the_missing_file_is_named(self, name: str, file: str, tmp_path: Path) -> None:
        with pytest.raises(InvalidInputError, match=rf"holds no {file[:-2]}\*\.csv"):
            read(name, tmp_path)
        with pytest.raises(InvalidInputError, match="does not exist"):
            read(name, tmp_path / "none")


class TestVitBench:
    def test_rows_of_one_space(self, tmp_path: Path) -> None:
        rows = [
            {"space": "pit", "arch": {"base_dim": 16}, "cifar100_kd": 70.5, "flowers_kd": 60},
            {"space": "autoformer", "arch": {"depth": 12}, "cifar100_kd": 76},
            {"space": "pit", "arch": {"base_dim": 24}, "cifar100_kd": 71},
        ]
        write(tmp_path / "vit_bench_cifar100.json", json.dumps(rows))
        table = read("vitbench-pit", tmp_path)
        assert table.archs == ('{"base_dim": 16}', '{"base_dim": 24}')
        np.testing.assert_equal(table.truths["flowers_kd"], [60, np.nan])
        assert read("vitbench-autoformer", tmp_path).truths["cifar100_kd"].tolist() == [76]

    @pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"space": "pit"}]', "[]"])
    def test_what_is_no_table(self, text: str, tmp_path: Path) -> None:
        write(tmp_path / "vit_bench_cifar100.json", text)
        with pytest.raises(InvalidInputError, match="vit_bench_cifar100.json"):
            read("vitbench-pit", tmp_path)

    @pytest.mark.parametrize("name", ["vitbench-autoformer", "vitbench-pit"])
    def test_the_real_table_is_of_the_space(self, name: str, data_dir: Path) -> None:
        table = read(name, data_dir)
        space = scholarch.create_space(get_benchmark(name).space)
        assert len({space.parse(arch).key for arch in table.archs}) == len(table.archs) == 100


class TestS0:
    def test_columns(self, tmp_path: Path) -> None:
        text = "arch,vanilla_acc,kd_acc,gain\n111,60,61,1\n333,70,72,2\n"
        write(tmp_path / "diswot_s0_resnet_cifar100.csv", text)
        table = read("diswot-s0", tmp_path)
        assert table.archs == ("111", "333")
        assert {name: column.tolist() for name, column in table.truths.items()} == {
            "kd_acc": [61, 72],
            "vanilla_acc": [60, 70],
        }

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "no column 'arch'"),
            ("arch,kd_acc\n111,60\n", "no column 'vanilla_acc'; its columns: arch, kd_acc"),
            ("arch,vanilla_acc,kd_acc\n111,60\n", "line 2: not 3 fields"),
            ("arch,vanilla_acc,kd_acc\n111,60,61,62\n", "line 2: not 3 fields"),
            ("arch,vanilla_acc,kd_acc\n111,60,many\n", "row 1: kd_acc = 'many'"),
            ("arch,vanilla_acc,kd_acc\n111,60,101\n", "row 1: kd_acc = '101'"),
            ("arch,vanilla_acc,kd_acc\n111,60,-1\n", "row 1: kd_acc = '-1'"),
        ],
    )
    def test_what_is_wrong_is_named(self, text: str, message: str, tmp_path: Path) -> None:
        write(tmp_path / "diswot_s0_resnet_cifar100.csv", text)
        with pytest.raises(InvalidInputError, match=message):
            read("diswot-s0", tmp_path)

    def test_bytes_that_are_no_text(self, tmp_path: Path) -> None:
        (tmp_path / "diswot_s0_resnet_cifar100.csv").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(InvalidInputError, match="cannot read"):
            read("diswot-s0", tmp_path)


# ---------------------------------------------------------------------- what is ranked


class TestSelect:
    SPACE = scholarch.create_space("nasbench201")
    #: The first two are one function; half of the groups are even.
    TABLE = TruthTable(
        (*CELLS, *(str(arch) for arch in SPACE.sample(6, seed=5))),
        {"a": np.arange(50.0, 59.0), "b": np.array([50.0, *[np.nan] * 7, 51.0])},
        "cells.csv",
        np.array([2, 2, 3, 4, 5, 6, 7, 8, 9]),
    )

    def pick(self, truth: str = "a", **options: object) -> object:
        return select(self.TABLE, truth, self.SPACE, self.SPACE, **options)  # type: ignore[arg-type]

    def test_all_rows(self) -> None:
        got = select(self.TABLE, "a", self.SPACE, self.SPACE)
        assert [arch.text for arch in got.archs] == list(self.TABLE.archs)
        assert got.truth.tolist() == self.TABLE.truths["a"].tolist()
        assert got.rows == 9
        assert got.clusters[0] == got.clusters[1] != got.clusters[2]
        expected = self.SPACE.cost(list(got.archs))["macs"]
        assert got.costs["macs"].tolist() == expected.tolist()

    def test_halves(self) -> None:
        even = select(self.TABLE, "a", self.SPACE, self.SPACE, half="even")
        odd = select(self.TABLE, "a", self.SPACE, self.SPACE, half="odd")
        assert even.truth.tolist() == [50, 51, 53, 55, 57]
        assert odd.truth.tolist() == [52, 54, 56, 58]

    def test_one_an_isomorphism_class(self) -> None:
        got = select(self.TABLE, "a", self.SPACE, self.SPACE, unique=True)
        assert len(got.archs) == len(set(got.clusters)) == 8
        assert got.truth[:2].tolist() == [50.5, 52]
        assert got.rows == 9

    def test_limit_draws_by_seed(self) -> None:
        draws = [
            select(self.TABLE, "a", self.SPACE, self.SPACE, limit=5, seed=seed).truth.tolist()
            for seed in (0, 0, 1)
        ]
        assert len(draws[0]) == 5
        assert draws[0] == draws[1] != draws[2]
        assert len(select(self.TABLE, "a", self.SPACE, self.SPACE, limit=100).archs) == 9

    def test_refusals(self) -> None:
        with pytest.raises(UnknownNameError, match="unknown column of accuracies 'c'"):
            self.pick("c")
        with pytest.raises(UnknownNameError, match="unknown half 'third'"):
            self.pick(half="third")
        with pytest.raises(InvalidInputError, match="limit = 1; need"):
            self.pick(limit=1)
        with pytest.raises(InvalidInputError, match="leaves 2 candidates"):
            self.pick("b")
        bare = TruthTable(self.TABLE.archs, self.TABLE.truths, "cells.csv")
        with pytest.raises(InvalidInputError, match="tells no isomorphism groups"):
            select(bare, "a", self.SPACE, self.SPACE, half="odd")
        wrong = TruthTable(("x", *CELLS), {"a": np.ones(4)}, "cells.csv")
        with pytest.raises(InvalidInputError, match="cells.csv, row 1"):
            select(wrong, "a", self.SPACE, self.SPACE)


def test_sizes_are_quoted_as_trained_and_networks_scored_for_the_images() -> None:
    batch = scholarch.load_batch("digits", size=4)
    assert isinstance(batch, Batch)
    scored, quoted = spaces_of(get_benchmark("vitbench-pit"), batch, None, None)
    assert (scored.num_classes, scored.resolution, scored.spec()["patch_size"]) == (10, 32, 4)
    assert (quoted.num_classes, quoted.resolution, quoted.spec()["patch_size"]) == (100, 224, 16)
    as_trained, _ = spaces_of(get_benchmark("vitbench-pit"), batch, 224, {"patch_size": 16})
    assert (as_trained.resolution, as_trained.spec()["patch_size"]) == (224, 16)
    with pytest.raises(InvalidInputError, match="no_such"):
        spaces_of(get_benchmark("resnet-cifar-s0"), batch, None, {"no_such": 1})
