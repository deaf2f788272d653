"""Networks cut into blocks on shapes alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space, list_spaces
from scholarch.searchspace.latency.cut import cut, describe
from scholarch.searchspace.latency.plan import plan_blocks

#: Spaces whose blocks depend on too many genes at once, or whose plan takes long.
_WHOLE = {"nasbench101"}
_FEW = {
    "compofa": 35,  # 5 alone, and 5 stages of 3 ratios, first and later blocks
    "nasbench-macro": 18,
    "nasbench201": 18,
    "resnet-cifar-s0": 7,
}


def test_equal_blocks_have_equal_keys_and_others_do_not() -> None:
    def key(*layers: nn.Module) -> str:
        return describe(nn.Sequential(*layers))

    with torch.device("meta"):  # draws no weights
        _compare(key)


def _compare(key: Callable[..., str]) -> None:
    conv = nn.Conv2d(8, 16, 3, 2, 1, bias=False)
    assert key(conv, nn.ReLU()) == "conv3x3/2 8-16, relu"
    assert key(nn.Conv2d(8, 8, 5, 1, 2, groups=8)) == "dwconv5x5 8-8 bias"
    others = {
        key(nn.Conv2d(8, 16, 3, 1, 1, bias=False)),
        key(nn.Conv2d(8, 16, 3, 2, 0, bias=False)),
        key(nn.Conv2d(8, 16, 3, 2, 1)),
        key(nn.Conv2d(8, 16, 3, 2, 2, dilation=2, bias=False)),
        key(nn.Conv2d(8, 16, 3, 2, 1, groups=2, bias=False)),
        key(conv),
    }
    assert len(others) == 6


def test_an_activation_belongs_to_the_convolution_before_it() -> None:
    with torch.device("meta"):
        network = nn.Sequential(
            nn.Conv2d(3, 4, 3, 1, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)
        )
    chunks = cut(network, (3, 8, 8))
    assert [chunk.path for chunk in chunks] == ["0+1+2", "3"]
    assert chunks[0].key == "3x8x8 conv3x3 3-4 bias, bn, relu"
    assert chunks[1].key == "4x8x8 maxpool2/2 pad0"


def test_a_module_called_twice_is_two_blocks() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(self.conv(x))  # type: ignore[no-any-return]

    with torch.device("meta"):
        network = Twice()
    chunks = cut(network, (4, 8, 8))
    assert [chunk.path for chunk in chunks] == ["conv", "conv#2"]
    assert [chunk.key[:5] for chunk in chunks] == ["4x8x8", "4x4x4"]
    assert [chunk.calls for chunk in chunks] == [[1], [2]]


def test_shapes_alone_are_those_of_a_real_pass() -> None:
    space = create_space("mobilenetv3", resolution=33, width_mult=0.25)
    arch = space.sample(1, 3)[0]
    with torch.device("meta"):
        shapes = cut(space.build(arch), (3, 33, 33))
    real = cut(space.build(arch), (3, 33, 33))
    assert [chunk.key for chunk in shapes] == [chunk.key for chunk in real]


@pytest.mark.parametrize("name", sorted(_FEW))
def test_every_architecture_is_cut_as_the_plan_says(name: str) -> None:
    space = create_space(name, resolution=16)
    plan = plan_blocks(space)
    assert len(plan.blocks) == _FEW[name]
    rows = space.sample_matrix(6, seed=99)
    indices = plan.indices(rows)
    for row, found in zip(rows, indices, strict=True):
        with torch.device("meta"):
            network = space.build(space.decode(row[None])[0])
        keys = [chunk.key for chunk in cut(network, (3, 16, 16), plan.finer)]
        assert [plan.blocks[i].key for i in found if i >= 0] == keys
    counts = plan.counts(rows)
    assert np.array_equal(counts.sum(axis=1), (indices >= 0).sum(axis=1))
    values = np.arange(1.0, len(plan.blocks) + 1)
    assert np.allclose(plan.total(values, rows), counts @ values)


def test_cells_that_hang_on_all_genes_at_once_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"cannot be cut.*latency fit"):
        plan_blocks(create_space("nasbench101", width_mult=0.125))


def test_every_space_is_named() -> None:
    assert set(_FEW) | _WHOLE <= set(list_spaces())
