"""How ViT-Bench writes an architecture: a dict of numbers and lists of numbers, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InvalidInputError
from ..literals import quoted, read_dict

__all__ = ["choose", "numbers", "read", "write"]


def write(entries: Mapping[str, Any]) -> str:
    """JSON without spaces, in the order given."""
    return json.dumps(entries, separators=(",", ":"))


def read(text: str, names: Sequence[str], example: str) -> dict[str, Any]:
    """The entries of an architecture.

    Args:
        text: JSON or a Python dict.
        names: of the entries that it has to have, no others.
        example: shown where the text is something else.

    Raises:
        InvalidInputError: if it is no dict or its entries are others.
    """
    entries = read_dict(text)
    if entries is None:
        raise InvalidInputError(f"{quoted(text)} is no ViT-Bench architecture; write {example}")
    for name in names:
        if name not in entries:
            raise InvalidInputError(f"{quoted(text)} lacks {name}; write {example}")
    if len(entries) > len(names):
        extra = next(name for name in entries if name not in names)
        raise InvalidInputError(
            f"unknown entry {extra!r} in {quoted(text)}; known: {', '.join(names)}"
        )
    return entries


def numbers(name: str, entry: Any, length: int) -> list[float]:
    """An entry as a list of so many numbers; raises :class:`InvalidInputError`."""
    if not isinstance(entry, list | tuple) or len(entry) != length:
        got = f"{len(entry)} values" if isinstance(entry, list | tuple) else repr(entry)
        raise InvalidInputError(f"{name} is {got}; need a list of {length} numbers")
    return list(entry)


def choose(name: str, value: Any, allowed: Sequence[float]) -> int:
    """Index of a number among those allowed; raises :class:`InvalidInputError`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value not in allowed:
        raise InvalidInputError(
            f"{name} = {value!r} is not one of {', '.join(f'{a:g}' for a in allowed)}"
        )
    return allowed.index(value)
