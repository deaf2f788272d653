"""The front of accuracy, robustness and cost: predicted, searched, and measured again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scholarch.data import load_data
from scholarch.datasets.dataset import DataSet
from scholarch.search.robust import RobustFront, _finalists, robust_front
from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.convnets.resnet_cifar import CifarResNetSpace
from scholarch.searchspace.errors import InvalidInputError
from scholarch.supernet.pretrained import Supernet
from scholarch.supernet.robust.evaluate import RobustEvaluator, Robustness

WIDTHS = [(8,), (4, 8), (8, 12, 16), (8, 12, 16)]


@pytest.fixture(scope="module")
def data() -> DataSet:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    return load_data((images, np.arange(60) % 4))


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    space = CifarResNetSpace("tiny", (1, 2, 3), WIDTHS, num_classes=4, resolution=8)
    return Supernet(space, space.supernet(seed=0).eval(), {}, Path("nowhere"))


def truth(supernet: Supernet, archs: list[Architecture]) -> np.ndarray:
    """Natural and robust accuracy as they might be; robustness costs more."""
    log = np.log(supernet.space.cost(supernet.space.encode(archs))["macs"])
    share = (log - 10.5) / 4.5
    return np.clip(np.stack([0.5 + 0.5 * share, 0.9 * share**2], axis=1), 0.0, 1.0)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, supernet: Supernet) -> list[tuple[str, str]]:
    """Measures by the truth above; the architectures and parts that were measured."""
    calls: list[tuple[str, str]] = []

    def measure(self: RobustEvaluator, arch: Architecture, part: str = "val") -> Robustness:
        calls.append((arch.key, part))
        natural, robust = truth(supernet, [arch])[0]
        return Robustness(float(natural), float(robust), 10, self.attack)

    monkeypatch.setattr(RobustEvaluator, "robustness", measure)
    return calls


def test_what_is_found_is_measured_and_inside_the_budget(
    supernet: Supernet, data: DataSet, asked: list[tuple[str, str]]
) -> None:
    told: list[tuple[int, int]] = []
    front = robust_front(
        supernet,
        data,
        {"macs": 4e5},
        evaluations=30,
        predictions=200,
        finalists=8,
        kind="ridge",
        progress=lambda done, total: told.append((done, total)),
    )
    assert front.objectives == ("macs",)
    assert len(front.evaluated) <= 38
    assert len({s.arch.key for s in front.evaluated}) == len(front.evaluated)  # none twice
    on_val = [key for key, part in asked if part == "val"]
    assert on_val == [s.arch.key for s in front.evaluated]
    assert told[-1] == (len(on_val), 38)
    on_test = [key for key, part in asked if part == "test"]
    assert on_test == [s.arch.key for s in front.students]
    new = [s for s in front.evaluated if s.predicted is not None]
    assert new
    assert all(s.costs["macs"] <= 4e5 for s in (*new, *front.students))
    for student in new:  # and the predictor had learned them
        error = np.subtract(student.predicted, truth(supernet, [student.arch])[0])
        assert np.abs(error).max() < 0.1
    macs = [s.costs["macs"] for s in front.students]
    accuracies = [s.measured.natural for s in front.students]
    assert macs == sorted(macs)
    assert accuracies == sorted(accuracies)  # here the larger is always the better
    assert all(s.test is not None for s in front.students)


def test_the_search_finds_what_was_not_measured(
    supernet: Supernet, data: DataSet, asked: list[tuple[str, str]]
) -> None:
    def find() -> RobustFront:
        return robust_front(
            supernet, data, evaluations=30, predictions=200, finalists=12, kind="ridge"
        )

    found = find()
    new = [s for s in found.students if s.predicted is not None]
    assert len(new) >= 6  # nothing beats what is larger here, so all of them are on the front
    assert 0 < found.predictions <= 200
    assert asked
    assert [s.arch.key for s in find().students] == [s.arch.key for s in found.students]


def test_finalists_are_of_the_front_new_and_apart() -> None:
    cost = np.linspace(0.0, 1.0, 101)
    front = np.column_stack([-cost, -cost, cost])
    beaten = front + 0.1
    values = np.concatenate([front[:50], front[50:], beaten])
    chosen = _finalists(values, 50, 5)  # the first fifty are measured
    assert ((chosen >= 50) & (chosen < 101)).all()
    assert min(chosen.tolist()) == 50
    assert max(chosen.tolist()) == 100
    assert np.diff(sorted(chosen.tolist())).min() >= 6
    assert len(_finalists(values, 101, 5)) == 0
    assert len(_finalists(values, 98, 5)) == 3


@pytest.mark.parametrize("option", [{"evaluations": 19}, {"finalists": 0}, {"predictions": 0}])
def test_numbers_out_of_range_are_refused(
    option: dict[str, int], supernet: Supernet, data: DataSet
) -> None:
    with pytest.raises(InvalidInputError, match=f"{next(iter(option))} = "):
        robust_front(supernet, data, **option)  # type: ignore[arg-type]


def test_a_budget_that_nothing_meets_is_refused(supernet: Supernet, data: DataSet) -> None:
    with pytest.raises(InvalidInputError, match="smallest"):
        robust_front(supernet, data, {"macs": 10})
