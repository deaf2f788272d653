"""DisWOT's space against its published sizes, and the elastic one."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from scholarch.searchspace.errors import InvalidInputError, UnknownNameError
from scholarch.searchspace.factory import create_space, list_spaces


def test_sizes() -> None:
    assert create_space("resnet-cifar-s0").size == 64
    assert create_space("resnet-cifar").size == 9**3 * 5 * 7**3 >= 10**6


def test_s0_params_equal_the_published_table(data_dir: Path) -> None:
    space = create_space("resnet-cifar-s0", num_classes=100)
    with (data_dir / "diswot_s0_resnet_cifar100.csv").open() as file:
        rows = list(csv.DictReader(file))
    archs = [space.parse(row["arch"]) for row in rows]
    assert len({arch.key for arch in archs}) == 64
    expected = [float(row["params_derived"]) for row in rows]
    assert np.array_equal(space.cost(archs)["params"], expected)


def test_s0_notation_and_golden_costs() -> None:
    space = create_space("resnet-cifar-s0", num_classes=100)
    arch = space.parse("111")
    assert str(arch) == "111"
    assert {name: column[0] for name, column in space.cost([arch]).items()} == {
        "params": 83_892.0,
        "macs": 12_507_392.0,
        "flops": 25_014_784.0,
        "depth": 8.0,
        "peak_memory": 131_072.0,
        "weight_memory": 335_568.0,
    }
    with pytest.raises(InvalidInputError, match="depth2 = 2 is not one of 1, 3, 5, 7"):
        space.parse("321")


def test_elastic_notation() -> None:
    space = create_space("resnet-cifar")
    text = "16-16x9-32x9-64x9"  # ResNet-56
    assert str(space.parse(text)) == text
    assert space.cost([space.parse(text)])["depth"][0] == 56


def test_width_mult_scales_to_multiples_of_four() -> None:
    half = create_space("resnet-cifar", width_mult=0.5)
    widths = [gene.values for gene in half.genes if gene.name.startswith("width")]
    assert all(value % 4 == 0 and value >= 4 for values in widths for value in values)
    full = create_space("resnet-cifar-s0")
    thin = create_space("resnet-cifar-s0", width_mult=0.5)
    assert thin.cost([thin.parse("333")])["macs"] < full.cost([full.parse("333")])["macs"] / 3


def test_an_unknown_space_offers_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean resnet-cifar"):
        create_space("resnet-cifr")
    assert list_spaces("*s0") == ["resnet-cifar-s0"]
