"""What is checked of every file of times: numbers, and how damage is said."""

from __future__ import annotations

import math
from typing import Any

from ..errors import InvalidInputError

__all__ = ["damage", "milliseconds"]


def milliseconds(value: Any, what: str) -> float:
    """A time in ms.

    Args:
        value: of a file.
        what: whose time, and where it stands; begins the message.

    Raises:
        InvalidInputError: if it is no finite number of at least 0.
    """
    try:
        ms = float(value)
    except (TypeError, ValueError):
        ms = math.nan
    if not (math.isfinite(ms) and ms >= 0.0):
        raise InvalidInputError(f"{what} takes {value!r}; need milliseconds of at least 0")
    return ms


def damage(error: Exception) -> str:
    """What is wrong with a file whose parts could not be read, behind its name."""
    return f"lacks {error}" if isinstance(error, KeyError) else f"is damaged: {error}"
