"""What goes wrong with a run's files; light, so that a report needs no torch to be written."""

from __future__ import annotations

from ..searchspace.errors import ScholarchError

__all__ = ["StoreError"]


class StoreError(ScholarchError):
    """The store cannot be read or written: damaged, locked, or the disk is full."""
