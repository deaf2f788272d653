"""Every space and every searcher, by registration alone; with one of them on real images."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import scholarch
from scholarch.datasets.arrays import Part
from scholarch.datasets.dataset import DataSet
from scholarch.search import find as find_module
from scholarch.search.budget import Budget
from scholarch.search.domain import Domain
from scholarch.searchspace.space import SearchSpace
from scholarch.testing.light import inputs_for, light_space

EVALUATIONS = 7


@pytest.fixture(autouse=True)
def _small_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 5 architectures, so that the searchers ask for the other two themselves."""
    monkeypatch.setattr(find_module, "REFERENCE_SIZE", 5)


@cache
def bounded(name: str) -> tuple[SearchSpace, float]:
    """A space for the data, and MACs that a third of its networks stay under."""
    space = light_space(name, num_classes=10, resolution=32)
    macs = space.cost(space.sample_matrix(1000, 0))["macs"]
    macs.sort()
    return space, float(macs[333])


def data_for(space: SearchSpace) -> str | DataSet:
    """The digits, or made-up text or sound."""
    if space.modality == "image":
        return "digits"
    images = (inputs_for(space, 40) * 255.0).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    labels = np.arange(40) % 10
    parts = [Part(images[rows], labels[rows]) for rows in np.split(np.arange(40), (20, 30))]
    return DataSet("made up", 10, *parts, (0.0, 0.0), (1.0, 1.0), modality=space.modality)


def search(name: str, searcher: str, **options: Any) -> scholarch.SearchResult:
    """What every search has to come to."""
    space, bound = bounded(name)
    result = scholarch.find_student(
        space=space,
        data=data_for(space),
        budget={"macs": bound},
        searcher=searcher,
        evaluations=EVALUATIONS,
        batch_size=4,
        seed=1,
        **options,
    )
    inside = Domain(space, Budget({"macs": bound})).size
    expected = EVALUATIONS if inside is None else min(EVALUATIONS, inside)
    assert len({c.arch.key for c in result.candidates}) == len(result.candidates) == expected
    assert all(c.costs["macs"] <= bound for c in result.candidates)
    assert not result.failures
    return result


def pairs() -> list[tuple[str, str]]:
    """All spaces with one searcher; with all of them, one space of each class.

    A searcher sees rows of integers, and costs by the class's one formula.
    """
    found, classes = [], set()
    for name in scholarch.list_spaces():
        searchers = scholarch.list_searchers()
        kind = type(light_space(name))
        found += [(name, one) for one in (["nsga2"] if kind in classes else searchers)]
        classes.add(kind)
    return found


@pytest.mark.parametrize(("name", "searcher"), pairs())
def test_a_search_ends_inside_its_budget(name: str, searcher: str) -> None:
    search(name, searcher, proxies=["depth", "params"])  # no network is run


@pytest.mark.parametrize("name", scholarch.list_spaces())
def test_a_search_scores_inputs_beside_a_teacher(name: str) -> None:
    space, _ = bounded(name)
    images = space.modality == "image"
    teacher: Any = "resnet14-digits" if images else space.build(space.sample(1, 0)[0])
    result = search(name, "nsga2", proxies=["macs", "expr"], teacher=teacher)
    assert result.best.module() is not None
    assert "diswot-relation" in result.best.scores
