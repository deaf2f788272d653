"""The hand-made network of a pick's size."""

from __future__ import annotations

import numpy as np
import pytest

from scholarch.search.hand_made import hand_made, uniform_rows
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.narrow import narrow


@pytest.mark.parametrize(
    "name",
    ["resnet-cifar", "mobilenetv3-cifar", "resnet50", "vitbench-autoformer", "nasbench-macro"],
)
def test_uniform_not_above_and_nearest(name: str) -> None:
    space = create_space(name)
    rows, positions = uniform_rows(space)
    assert space.valid(rows).all()
    assert len(set(space.keys(rows))) == len(rows) == len(positions)
    macs = space.cost(rows)["macs"]
    for pick in space.sample(5, seed=1):
        limit = space.cost([pick])["macs"][0]
        found = hand_made(space, pick)
        assert found.key in space.keys(rows)
        assert found.key != pick.key
        own = space.cost([found])["macs"][0]
        assert own <= limit
        # Nothing that fits is nearer by more than what counts as equal.
        others = np.array([key != pick.key for key in space.keys(rows)])
        assert own >= macs[others & (macs <= limit)].max() - 0.05 * limit


def test_all_of_a_kind_stand_at_one_place() -> None:
    space = create_space("resnet-cifar")
    rows, _ = uniform_rows(space)
    depths = rows[:, :3]
    assert (depths == depths[:, :1]).all()
    widths = rows[:, 4:] / (np.array([len(gene.values) for gene in space.genes[4:]]) - 1)
    assert (np.ptp(widths, axis=1) == 0).all()


def test_of_near_equals_the_most_balanced() -> None:
    space = create_space("resnet-cifar")
    # Half the depth and half the width: the middle, though deep and slim ones cost as much.
    middle = space.parse("16-20x5-40x5-80x5")
    limit = space.cost([middle])["macs"][0]
    pick = next(
        arch
        for arch in space.sample(5000, seed=0)
        if 0 <= space.cost([arch])["macs"][0] - limit < 0.01 * limit
    )
    assert hand_made(space, pick) == middle


def test_of_one_cost_the_nearest_in_depth() -> None:
    space = create_space("resnet-cifar-s0")
    assert str(hand_made(space, space.parse("357"))) == "555"
    # The pick is not its own baseline.
    assert str(hand_made(space, space.parse("555"))) == "333"


def test_a_narrowed_space_keeps_to_its_values() -> None:
    space = narrow(create_space("resnet-cifar"), {"depth1": [2, 3], "width3": [64, 80, 96]})
    pick = space.sample(1, seed=2)[0]
    space.encode([hand_made(space, pick)])  # raises for another value


def test_where_all_are_larger() -> None:
    space = create_space("resnet-cifar")
    smallest = space.decode(np.zeros((1, len(space.genes)), dtype=np.int64))[0]
    with pytest.raises(InvalidInputError, match=r"no hand-made network as small as '.*--baseline"):
        hand_made(space, smallest)
