"""Architectures of a step."""

from __future__ import annotations

import numpy as np
import pytest

from scholarch.searchspace.extremes import largest, smallest
from scholarch.searchspace.factory import create_space, list_spaces
from scholarch.searchspace.space import SearchSpace
from scholarch.supernet.draw import Drawer
from scholarch.supernet.schedule import kind_of


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return create_space("mobilenetv3-cifar", width_mult=0.25)


@pytest.mark.parametrize("name", list_spaces())
def test_nothing_sampled_is_beyond_the_extremes(name: str) -> None:
    space = create_space(name)
    macs = space.cost(space.sample_matrix(2000, 1))["macs"]
    ends = space.cost([smallest(space), largest(space)])["macs"]
    assert ends[0] <= macs.min()
    assert macs.max() <= ends[1]


def test_what_is_not_free_stays_at_the_largest(space: SearchSpace) -> None:
    drawer = Drawer(space)
    top = space.encode([drawer.largest])[0]
    kinds = np.array([kind_of(gene.name) for gene in space.genes])
    rows = drawer.rows(500, np.random.default_rng(0), {"kernel": None, "depth": 2})
    assert (rows[:, kinds == "width"] == top[kinds == "width"]).all()
    assert set(np.unique(rows[:, kinds == "depth"])) == {1, 2}  # the two largest of three
    assert set(np.unique(rows[:, kinds == "kernel"])) == {0, 1, 2}
    spread = drawer.spread(100, np.random.default_rng(0), {"kernel": None, "depth": 2})
    assert (spread[:, kinds == "width"] == top[kinds == "width"]).all()


def test_spread_is_wider_than_uniform(space: SearchSpace) -> None:
    drawer = Drawer(space)
    rng = np.random.default_rng(0)
    macs = drawer.macs(np.concatenate([drawer.spread(1, rng) for _ in range(100)]))
    uniform = drawer.macs(drawer.rows(100, np.random.default_rng(0)))
    assert macs.std() > 1.5 * uniform.std()
    near = drawer.macs(drawer.spread(3, np.random.default_rng(3)))
    assert np.ptp(near) < 0.1 * (macs.max() - macs.min())  # three of one step cost about the same


def test_draws_repeat(space: SearchSpace) -> None:
    drawer = Drawer(space)
    for draw in (drawer.rows, drawer.spread):
        first = draw(5, np.random.default_rng((1, 2)))
        assert np.array_equal(first, draw(5, np.random.default_rng((1, 2))))
        assert not np.array_equal(first, draw(5, np.random.default_rng((1, 3))))
