from __future__ import annotations

import pytest

from scholarch.searchspace.architecture import Architecture, Gene
from scholarch.searchspace.errors import InvalidInputError, UnknownNameError
from scholarch.searchspace.registry import Registry


def test_names_are_unique_sorted_and_suggested() -> None:
    registry = Registry[int]("thing")
    registry.add("beta", 2)
    registry.add("alpha", 1)
    assert list(registry) == ["alpha", "beta"]
    assert registry.names("a*") == ["alpha"]
    assert "beta" in registry
    assert len(registry) == 2
    with pytest.raises(InvalidInputError, match="thing 'beta' is already registered"):
        registry.add("beta", 3)
    with pytest.raises(UnknownNameError, match="did you mean alpha"):
        registry["alhpa"]
    with pytest.raises(UnknownNameError, match="known: alpha, beta"):
        registry["zzz"]


@pytest.mark.parametrize("values", [(), (1, 1)])
def test_a_gene_needs_distinct_values(values: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match="distinct values"):
        Gene("width", values)


@pytest.mark.parametrize("data", [{}, {"space": "s", "choices": ["a"], "key": "", "text": ""}])
def test_json_that_is_no_architecture_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError, match="not an architecture"):
        Architecture.from_json(data)
