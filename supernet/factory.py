"""Making schedules by name: what is registered here, by plug-ins and by installed packages."""

from __future__ import annotations

from typing import Any

from ..searchspace.errors import InvalidInputError
from ..searchspace.plugins import load_entry_points
from . import schedules  # noqa: F401 (importing registers)
from .schedule import SCHEDULES, Schedule

__all__ = ["create_schedule", "describe_schedule", "list_schedules"]


def create_schedule(name: str, **options: Any) -> Schedule:
    """A registered schedule.

    Args:
        name: see :func:`list_schedules`.
        **options: what the schedule's own factory takes.

    Raises:
        UnknownNameError: if there is none of that name.
        InvalidInputError: if it does not know an option or refuses its value.

    Example:
        >>> [phase.name for phase in create_schedule("delayed").phases]
        ['warm-up', 'ramp', 'shrink']
    """
    load_entry_points()
    factory = SCHEDULES[name]
    try:
        return factory(**options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise InvalidInputError(f"schedule {name!r}: {str(error).split('() ')[-1]}") from error


def list_schedules(pattern: str = "*") -> list[str]:
    """Names of the registered schedules that match a shell pattern."""
    load_entry_points()
    return SCHEDULES.names(pattern)


def describe_schedule(name: str) -> str:
    """First line of a schedule's docstring, without its stop.

    Raises:
        UnknownNameError: if there is none of that name.
    """
    load_entry_points()
    return (SCHEDULES[name].__doc__ or "").strip().split("\n")[0].rstrip(".:")
