"""Bounds are read as meant, and refused where nothing meets them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scholarch.search.budget import ENUMERABLE, Budget, human, minimum_costs, parse_amount
from scholarch.search.domain import Domain
from scholarch.searchspace.convnets.resnet_cifar import CifarResNetSpace
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.space import Columns, Matrix

S0 = create_space("resnet-cifar-s0")
ELASTIC = create_space("resnet-cifar")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2M", 2e6),
        ("2m", 2e6),
        (" 1.5 k ", 1500.0),
        ("3G", 3e9),
        ("3b", 3e9),
        ("0.5T", 5e11),
        ("2e3", 2000.0),
        ("2e3k", 2e6),
        ("7", 7.0),
        (7, 7.0),
        (2.5e6, 2.5e6),
        (np.float64(4.0), 4.0),
        (np.int64(4), 4.0),
        ("+3", 3.0),
    ],
)
def test_amounts(text: Any, value: float) -> None:
    assert parse_amount(text) == value


BAD = ["", "M", "2X", "2MM", "-3", "0", "0k", "nan", "inf", "1e999", "1e", "two", "2,5M", "0x10"]


@pytest.mark.parametrize("text", [*BAD, -1, 0, math.nan, math.inf, None, True, [], "1_000"])
def test_what_is_no_amount_is_named(text: Any) -> None:
    with pytest.raises(InvalidInputError, match="is no amount; write a positive number"):
        parse_amount(text)
    with pytest.raises(InvalidInputError, match="budget for macs: "):
        Budget({"macs": text})


@given(st.floats(min_value=1e-3, max_value=9e14))
def test_human_reads_back_to_three_digits(value: float) -> None:
    text = human(value)
    assert "e+" not in text or value < 1e3
    assert parse_amount(text) == pytest.approx(value, rel=0.006)


@pytest.mark.parametrize(
    ("value", "text"),
    [(9_830_000, "9.83M"), (999_999, "1M"), (999.0, "999"), (1e9, "1G"), (0.5, "0.5")],
)
def test_human(value: float, text: str) -> None:
    assert human(value) == text


def test_an_empty_budget_bounds_nothing() -> None:
    budget = Budget({})
    assert budget.feasible(S0.cost(S0.enumerate_matrix())).all()
    assert budget.objectives() == ("macs",)


def test_violation_is_the_summed_relative_excess() -> None:
    budget = Budget({"macs": 100, "params": 10})
    costs = {"macs": np.array([100.0, 150.0, 50.0]), "params": np.array([10.0, 20.0, 10.1])}
    np.testing.assert_allclose(budget.violation(costs), [0.0, 1.5, 0.01])
    assert budget.feasible(costs).tolist() == [True, False, False]


def test_flops_and_macs_are_one_objective() -> None:
    assert Budget({"flops": "2M", "macs": "1M", "params": 5}).objectives() == ("macs", "params")


@pytest.mark.parametrize("space", [S0, ELASTIC], ids=lambda s: s.name)
@pytest.mark.parametrize("name", ["latency:cpu", "MACs", "accuracy"])
def test_unknown_cost(space: Any, name: str) -> None:
    with pytest.raises(InvalidInputError, match="no cost .* to bound; .* knows params, macs"):
        Budget({name: 5}).check(space)


def test_minimum_costs_equal_enumeration() -> None:
    costs = S0.cost(S0.enumerate_matrix())
    assert minimum_costs(S0) == {name: column.min() for name, column in costs.items()}


def test_minimum_costs_of_a_large_space_equal_enumeration() -> None:
    costs = ELASTIC.cost(ELASTIC.enumerate_matrix(limit=ELASTIC.size))
    assert minimum_costs(ELASTIC) == {name: column.min() for name, column in costs.items()}


@pytest.mark.parametrize("space", [S0, ELASTIC], ids=lambda s: s.name)
@pytest.mark.parametrize("name", S0.cost_names)
def test_unreachable_alone_names_every_minimum(space: Any, name: str) -> None:
    smallest = minimum_costs(space)
    Domain(space, Budget({name: smallest[name]}))  # the bound itself is inside
    with pytest.raises(InvalidInputError) as caught:
        Domain(space, Budget({name: smallest[name] * (1 - 1e-9)}))
    message = str(caught.value)
    for cost, value in smallest.items():
        assert f"{cost} {value:,.0f}" in message
    # The bound is told as exactly as it was given, or it would look reachable.
    assert f"{smallest[name] * (1 - 1e-9):,.12g}" in message


class Opposed(CifarResNetSpace):
    """Where fewer MACs mean more parameters, so that bounds can exclude each other."""

    def _cost(self, matrix: Matrix, resolution: int) -> Columns:
        columns = super()._cost(matrix, resolution)
        return columns | {"params": 1e7 - columns["params"]}


def test_unreachable_together_in_an_enumerable_space() -> None:
    space = Opposed("opposed", (1, 3, 5, 7), ((16,), (16,), (32,), (64,)))
    smallest = minimum_costs(space)
    bounds = {"params": smallest["params"] + 1, "macs": smallest["macs"] + 1}
    for name, bound in bounds.items():
        assert Domain(space, Budget({name: bound})).size == 1
    with pytest.raises(InvalidInputError, match=r"together \(all 64 architectures\)") as caught:
        Domain(space, Budget(bounds))
    message = str(caught.value)
    assert "the closest has macs" in message
    assert message.endswith("relax a bound")
    assert all(f"{name} ≤ {bound:,.0f}" in message for name, bound in bounds.items())


def test_unreachable_together_in_a_large_space() -> None:
    widths = ((8, 16, 32), (8, 16, 32), (16, 32, 64), (32, 64, 128))
    space = Opposed("opposed", tuple(range(1, 25)), widths)
    assert space.size > ENUMERABLE
    smallest = minimum_costs(space)
    bounds = {"params": smallest["params"] * 1.01, "macs": smallest["macs"] * 1.01}
    with pytest.raises(InvalidInputError, match=r"together \(a search over [\d,]+ draws and desc"):
        Domain(space, Budget(bounds))


def test_minimum_costs_of_a_large_space_with_opposed_costs() -> None:
    widths = ((8, 16, 32), (8, 16, 32), (16, 32, 64), (32, 64, 128))
    space = Opposed("opposed", tuple(range(1, 25)), widths)
    costs = space.cost(space.enumerate_matrix(limit=space.size))
    assert minimum_costs(space) == {name: column.min() for name, column in costs.items()}
