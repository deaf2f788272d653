"""Distillers by name."""

from __future__ import annotations

import inspect
from typing import Any

from ...searchspace.errors import InvalidInputError
from ...searchspace.plugins import load_entry_points
from . import distillers  # noqa: F401 (importing registers)
from .distiller import DISTILLERS, Distiller, Sides

__all__ = ["check_options", "create_distiller", "describe_distiller", "list_distillers"]


def list_distillers(pattern: str = "*") -> list[str]:
    """Names of distillers that match a shell pattern."""
    load_entry_points()
    return DISTILLERS.names(pattern)


def describe_distiller(name: str) -> str:
    """What a distiller is, in a line.

    Raises:
        UnknownNameError: if no distiller has that name.
    """
    load_entry_points()
    return (inspect.getdoc(DISTILLERS[name]) or name).splitlines()[0].rstrip(".")


def check_options(name: str, options: dict[str, Any]) -> None:
    """Refuse options that a distiller does not have.

    Raises:
        UnknownNameError: if no distiller has that name.
        InvalidInputError: if it has no such option.
    """
    load_entry_points()
    known = [p for p in inspect.signature(DISTILLERS[name]).parameters if p != "sides"]
    if wrong := sorted(set(options) - set(known)):
        raise InvalidInputError(
            f"distiller {name!r} has no option {', '.join(wrong)}; it has {', '.join(known)}"
        )


def create_distiller(name: str, sides: Sides, **options: Any) -> Distiller:
    """A distiller for a student and a teacher.

    Args:
        name: registered, see :func:`list_distillers`.
        sides: shapes of both.
        **options: of the distiller; defaults are its paper's.

    Raises:
        UnknownNameError: if no distiller has that name; near ones are offered.
        InvalidInputError: if an option is unknown or out of its range, or the two networks
            cannot be compared in this way.
    """
    check_options(name, options)
    return DISTILLERS[name](sides, **options)
