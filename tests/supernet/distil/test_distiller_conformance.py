"""Every registered distiller passes the shipped suite; and one that a file registers."""

from __future__ import annotations

from pathlib import Path

import pytest

import scholarch
from scholarch.searchspace.errors import UnknownNameError
from scholarch.supernet.distil.distiller import DISTILLERS, Shapes, Sides
from scholarch.supernet.distil.factory import (
    create_distiller,
    describe_distiller,
    list_distillers,
)
from scholarch.testing.distiller_suite import TestEveryDistiller  # noqa: F401 (collected here)

PLUGIN = '''
from scholarch.supernet.distil.distiller import Distiller, register_distiller

@register_distiller("test-mean")
class Mean(Distiller):
    """Equal means of the features (Nobody, 2024).

    Args:
        sides: shapes.
    """

    def __init__(self, sides):
        super().__init__()

    def forward(self, pair):
        return (pair.student.pooled.mean() - pair.teacher.pooled.detach().mean()).square()
'''

SIDES = Sides(Shapes((), (8, 2, 2), 8, 5), Shapes((), (8, 2, 2), 8, 5), 24, 0)


def test_registered_by_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DISTILLERS, "_items", dict(DISTILLERS._items))
    file = tmp_path / "mean.py"
    file.write_text(PLUGIN)
    scholarch.load_plugin(file)
    assert "test-mean" in list_distillers("test-*")
    assert describe_distiller("test-mean") == "Equal means of the features (Nobody, 2024)"
    assert create_distiller("test-mean", SIDES).labels == 1.0


def test_unknown_names_are_refused_with_near_ones() -> None:
    with pytest.raises(UnknownNameError, match="unknown distiller 'dks'; did you mean dkd"):
        create_distiller("dks", SIDES)
