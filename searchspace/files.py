"""Files that are there whole or not at all, and folders that one process writes to."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import InvalidInputError, StoreError

__all__ = ["held", "make_folder", "refuse_strangers", "write_atomic"]

_LOCK = ".lock"


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write beside ``path`` and move into place, so that a reader never sees half a file.

    Raises:
        StoreError: if the disk is full or the folder cannot be written.
    """
    # A file name that is no UTF-8 reaches us as lone surrogates; written as \udcff, which JSON
    # reads back.
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        _remove(partial)
        raise StoreError(
            f"cannot write {path}: {error.strerror}; free space or rights there, then run the"
            " same command to go on"
        ) from error


def _remove(path: Path) -> None:
    """Leave no half a file on a full disk."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


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


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """A folder, made if it is not there, that no other process writes to until the block ends.

    Raises:
        StoreError: if another process holds it or it cannot be written.
    """
    make_folder(folder)
    try:
        lock = FileLock(folder / _LOCK, timeout=0)
        lock.acquire()
    except Timeout as error:
        raise StoreError(
            f"another run is writing to {folder}; wait for it, or choose another --out"
        ) from error
    except OSError as error:
        raise StoreError(f"cannot write to {folder}: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def refuse_strangers(folder: Path, what: str) -> None:
    """Refuse a folder that holds anything but hidden files, before anything is written there.

    Args:
        folder: that exists.
        what: of which there is none in it, for the message.

    Raises:
        InvalidInputError: naming the first few.
    """
    strangers = sorted(item.name for item in folder.iterdir() if not item.name.startswith("."))
    if strangers:
        raise InvalidInputError(
            f"{folder} is not empty ({', '.join(strangers[:3])}) and holds no {what}; choose"
            " another --out"
        )
