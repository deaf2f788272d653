"""Dicts that architectures are written as: JSON or Python, from anyone, so never executed."""

from __future__ import annotations

import ast
import json
from typing import Any

__all__ = ["quoted", "read_dict"]

_LONGEST = 4096  # characters; the parsers below should never see a book
_SHOWN = 80


def quoted(text: str) -> str:
    """The text as an error quotes it, cut where it is long."""
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "…")


def read_dict(text: str) -> dict[Any, Any] | None:
    """The dict that a text is, as JSON or a Python literal; ``None`` of anything else."""
    if text.startswith("{") and len(text) <= _LONGEST:
        for parse in (json.loads, ast.literal_eval):
            try:
                entries = parse(text)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
            if isinstance(entries, dict):
                return entries
    return None
