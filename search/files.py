"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from .store import StoreError

__all__ = ["make_folder", "write_atomic"]


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write beside ``path`` and move into place, so that a reader never sees half a file.

    Raises:
        StoreError: if the disk is full or the folder cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror}; free space or rights there, then run the"
            " same command to go on"
        ) from error


def make_folder(path: Path) -> None:
    """Create a folder and its parents.

    Raises:
        StoreError: if it cannot be made, e.g. because a file stands there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot make the folder {path}: {error.strerror}; choose another"
        ) from error
