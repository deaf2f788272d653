"""Data sets in one ``.npz`` file: ``x_train y_train``, and where there are, the other parts."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..searchspace.errors import InvalidInputError
from .arrays import Part, as_part
from .dataset import DataSet, make_dataset

__all__ = ["from_mapping", "read_npz"]

PARTS = ("train", "val", "test")
WANTED = tuple(f"{axis}_{part}" for part in PARTS for axis in "xy")

ARRAY_MAGIC = b"\x93NUMPY"
PICKLE_MAGIC = b"\x80"
ZIP_MAGIC = b"PK"
PICKLED = "holds pickled Python objects, which are never loaded; store plain arrays"
#: What a damaged archive makes numpy raise.
DAMAGE = (
    *(
        RuntimeError,
        ValueError,
        OSError,
        EOFError,
        KeyError,
        NotImplementedError,
        SyntaxError,
        MemoryError,
    ),
    *(OverflowError, struct.error, zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)


def read_npz(path: Path, *, seed: int, val_fraction: float) -> DataSet:
    """Read a data set.

    Args:
        path: holds ``x_train y_train`` and, optionally, ``x_val y_val x_test y_test``; see
            :func:`~scholarch.datasets.arrays.as_part` for types and shapes.
        seed: of the split where there is no validation part.
        val_fraction: of the training part, split off where there is no validation part.

    Raises:
        InvalidInputError: if the file is missing, damaged, pickled or holds something else.
    """
    if not path.is_file():
        raise InvalidInputError(f"data file {str(path)!r} does not exist")
    what = f"data file {str(path)!r}"
    # By its first bytes, because numpy calls every other file a pickle.
    try:
        with path.open("rb") as file:
            magic = file.read(len(ARRAY_MAGIC))
            if problem := _problem(magic):
                raise InvalidInputError(f"{what} {problem}")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                keys = list(archive.files)
                arrays = {key: archive[key] for key in WANTED if key in keys}
    except InvalidInputError:
        raise
    except DAMAGE as error:
        problem = PICKLED if "Object arrays" in str(error) else "is damaged or no .npz file"
        raise InvalidInputError(f"{what} {problem}") from error
    if not arrays:
        raise InvalidInputError(
            f"{what} holds {', '.join(keys) or 'nothing'}; need x_train, y_train"
        )
    return from_mapping(arrays, path.stem, seed=seed, val_fraction=val_fraction)


def _problem(magic: bytes) -> str | None:
    """Why a file that begins so is no ``.npz``, or ``None``."""
    if magic[: len(ZIP_MAGIC)] == ZIP_MAGIC:
        return None
    if magic == ARRAY_MAGIC:
        return "holds one array; need an .npz with x_train, y_train"
    return PICKLED if magic[:1] == PICKLE_MAGIC else "is damaged or no .npz file"


def from_mapping(
    arrays: Mapping[str, Any], name: str, *, seed: int, val_fraction: float
) -> DataSet:
    """A data set of arrays or tensors under the keys of an ``.npz`` file."""
    parts: dict[str, Part | None] = {}
    for part in PARTS:
        images, labels = arrays.get(f"x_{part}"), arrays.get(f"y_{part}")
        if (images is None) != (labels is None):
            missing = f"{'x' if images is None else 'y'}_{part}"
            raise InvalidInputError(f"data {name!r}: {missing} is missing")
        what = f"data {name!r}, {part} part"
        parts[part] = None if images is None else as_part(images, labels, what)
    train = parts["train"]
    if train is None:
        raise InvalidInputError(f"data {name!r}: x_train and y_train are missing")
    return make_dataset(
        name, train, parts["val"], parts["test"], seed=seed, val_fraction=val_fraction
    )
