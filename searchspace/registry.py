"""A name → object table. A duplicate name is an error, an unknown one offers the nearest."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from typing import Generic, TypeVar

from .errors import InvalidInputError, UnknownNameError

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(Generic[T]):
    """Named objects of one kind.

    Args:
        kind: what the objects are, in the singular; used in messages.

    Example:
        >>> shapes = Registry[int]("shape")
        >>> shapes.add("square", 4)
        4
        >>> shapes["squaer"]
        Traceback (most recent call last):
        scholarch.searchspace.errors.UnknownNameError: unknown shape 'squaer'; did you mean square?
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._items: dict[str, T] = {}

    def add(self, name: str, item: T) -> T:
        """Register ``item`` and return it.

        Raises:
            InvalidInputError: if ``name`` is taken.
        """
        if name in self._items:
            raise InvalidInputError(
                f"{self.kind} {name!r} is already registered; choose another name"
            )
        self._items[name] = item
        return item

    def __getitem__(self, name: str) -> T:
        if name not in self._items:
            raise UnknownNameError(self.kind, name, self._items)
        return self._items[name]

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._items))

    def __len__(self) -> int:
        return len(self._items)

    def names(self, pattern: str = "*") -> list[str]:
        """Registered names that match a shell pattern, sorted."""
        return [name for name in self if fnmatch.fnmatchcase(name, pattern)]
