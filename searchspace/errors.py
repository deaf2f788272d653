"""What goes wrong because of what a user gave, said in one or two plain lines.

Every message names the value, the allowed range and the way out. The command line
prints it after ``error:`` and exits with code 2; Python callers catch
:class:`ScholarchError`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["InvalidInputError", "ScholarchError", "StoreError", "UnknownNameError"]


class ScholarchError(Exception):
    """Base of every error scholarch raises on purpose."""


class InvalidInputError(ScholarchError, ValueError):
    """A value outside what is allowed: a file, a number, a format, a combination."""


class StoreError(ScholarchError):
    """A file cannot be read or written: damaged, locked, or the disk is full."""


class UnknownNameError(InvalidInputError, LookupError):
    """A name that no registry knows; the message offers the nearest ones.

    Args:
        kind: what was looked up, e.g. ``"space"``.
        name: what the user wrote.
        known: every name that would have worked.
        hint: one more sentence, appended as it is.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
        offer = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(names)}"
        super().__init__(f"unknown {kind} {name!r}; {offer}" + (f" {hint}" if hint else ""))
        self.kind = kind
        self.name = name
