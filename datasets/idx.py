"""Data sets in the four IDX files of MNIST and Fashion-MNIST, gzipped or not.

Format: http://yann.lecun.com/exdb/mnist (two zero bytes, type, rank, sizes, data).
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..searchspace.errors import InvalidInputError
from .arrays import as_part
from .dataset import DataSet, make_dataset

__all__ = ["find_idx", "read_idx"]

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
UINT8 = 8


def find_idx(folder: Path) -> list[Path] | None:
    """The four files in a folder, or ``None`` where it has no training images in IDX."""
    found = [
        next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), folder / name)
        for name in FILES
    ]
    return found if found[0].is_file() else None


def read_idx(files: list[Path], *, seed: int, val_fraction: float) -> DataSet:
    """Read a data set; its grey images become three equal channels.

    Args:
        files: as :func:`find_idx` gives them.
        seed: of the split into training and validation part.
        val_fraction: of the training part.

    Raises:
        InvalidInputError: if a file is missing or damaged.
    """
    x_train, y_train, x_test, y_test = (_read(path) for path in files)
    name = files[0].resolve().parent.name
    return make_dataset(
        name,
        as_part(x_train, y_train, f"data {name!r}, train part"),
        None,
        as_part(x_test, y_test, f"data {name!r}, test part"),
        seed=seed,
        val_fraction=val_fraction,
    )


def _read(path: Path) -> npt.NDArray[np.uint8]:
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except FileNotFoundError as error:
        raise InvalidInputError(f"data file {str(path)!r} does not exist") from error
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidInputError(f"data file {str(path)!r} is damaged: {error}") from error
    rank = raw[3] if len(raw) > 3 else 0
    start = 4 + 4 * rank
    shape = np.frombuffer(raw[4:start], dtype=">i4").astype(np.int64) if len(raw) >= start else None
    if (
        raw[:3] != bytes((0, 0, UINT8))
        or shape is None
        or (shape < 0).any()
        or len(raw) - start != int(np.prod(shape))
    ):
        raise InvalidInputError(f"data file {str(path)!r} is damaged or no IDX file of bytes")
    return np.frombuffer(raw, dtype=np.uint8, offset=start).reshape(shape.tolist())
