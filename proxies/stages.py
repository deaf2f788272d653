"""Stages of networks of tokens, whose resolution is one: evenly spaced layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

__all__ = ["LAYERS", "evenly_spaced"]

T = TypeVar("T")

#: Most layers that are taken for stages.
LAYERS = 4


def evenly_spaced(layers: Sequence[T]) -> list[T]:
    """Up to :data:`LAYERS` of some layers, evenly spaced, the last of them always.

    Example:
        >>> evenly_spaced(range(1, 13)), evenly_spaced(range(1, 7)), evenly_spaced([1, 2])
        ([3, 6, 9, 12], [2, 3, 5, 6], [1, 2])
    """
    count = min(LAYERS, len(layers))
    return [layers[-(-(i + 1) * len(layers) // count) - 1] for i in range(count)]
