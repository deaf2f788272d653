"""CIFAR-10 and CIFAR-100 as published: the Python batches and the binary ones.

Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009. The Python batches
are pickles, which are walked as data and never unpickled, see
:mod:`~scholarch.datasets.plain_pickle`. CIFAR-100 is read with its 100 fine labels.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..searchspace.errors import InvalidInputError
from .arrays import Part, as_part
from .dataset import DataSet, make_dataset
from .plain_pickle import parse_plain_pickle

__all__ = ["find_cifar", "read_cifar"]

SIDE = 32
PIXELS = 3 * SIDE * SIDE


class Layout(NamedTuple):
    """Which files hold what.

    Attributes:
        train: files of the training part, in order.
        test: file of the test part.
        names: file of the class names, which may be missing.
        classes: how many classes there are.
        label_key: of the labels in a Python batch; for a binary one the place of the label's
            byte among those before the pixels.
        names_key: of the class names in a Python batch.
        label_bytes: before the pixels of a binary image; 0 for Python batches.
    """

    train: tuple[str, ...]
    test: str
    names: str
    classes: int
    label_key: str | int
    names_key: str = ""
    label_bytes: int = 0


_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
LAYOUTS = (
    Layout(_BATCHES, "test_batch", "batches.meta", 10, "labels", "label_names"),
    Layout(("train",), "test", "meta", 100, "fine_labels", "fine_label_names"),
    Layout(
        tuple(f"{name}.bin" for name in _BATCHES),
        *("test_batch.bin", "batches.meta.txt", 10, 0),
        label_bytes=1,
    ),
    Layout(("train.bin",), "test.bin", "fine_label_names.txt", 100, 1, label_bytes=2),
)


def find_cifar(folder: Path) -> Layout | None:
    """The layout of a folder's CIFAR files, or ``None`` where it has none."""
    for layout in LAYOUTS:
        if any((folder / name).is_file() for name in (*layout.train, layout.test)):
            return layout
    return None


def read_cifar(folder: Path, layout: Layout, *, seed: int, val_fraction: float) -> DataSet:
    """Read a data set, with the training and test part as published.

    Args:
        folder: holds the files.
        layout: as :func:`find_cifar` gives it.
        seed: of the split into training and validation part.
        val_fraction: of the training part.

    Raises:
        InvalidInputError: if a file is missing, damaged, or a pickle of more than plain data.
    """
    read: Callable[[Path, Layout], Part] = _read_binary if layout.label_bytes else _read_batch
    batches = [read(folder / name, layout) for name in layout.train]
    train = Part(*(np.concatenate(arrays) for arrays in zip(*batches, strict=True)))
    return make_dataset(
        folder.resolve().name,
        train,
        None,
        read(folder / layout.test, layout),
        seed=seed,
        val_fraction=val_fraction,
        class_names=_read_names(folder / layout.names, layout),
    )


def _what(path: Path) -> str:
    return f"data file {str(path)!r}"


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InvalidInputError(f"{_what(path)} does not exist") from error


def _entry(contents: dict[str, Any], key: str, path: Path) -> Any:
    if key not in contents:
        found = ascii(", ".join(contents))[1:-1][:80]
        raise InvalidInputError(f"{_what(path)} has no {key!r} (it holds {found or 'nothing'})")
    return contents[key]


def _read_batch(path: Path, layout: Layout) -> Part:
    contents = parse_plain_pickle(_bytes(path), _what(path))
    pixels = _entry(contents, "data", path)
    labels = _entry(contents, str(layout.label_key), path)
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 2:
        raise InvalidInputError(f"{_what(path)}: data is no array of bytes, [N, {PIXELS}]")
    if pixels.shape[1] != PIXELS:
        raise InvalidInputError(
            f"{_what(path)}: images of {pixels.shape[1]} bytes; need {PIXELS}, 3x32x32"
        )
    if isinstance(labels, np.ndarray):
        labels = labels.tolist()
    # Looked at one by one, so that a list of lists cannot unfold into a huge array.
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise InvalidInputError(f"{_what(path)}: {layout.label_key} are no list of whole numbers")
    return _part(pixels, labels, path, layout)


def _read_binary(path: Path, layout: Layout) -> Part:
    raw = _bytes(path)
    size = layout.label_bytes + PIXELS
    if not raw or len(raw) % size:
        raise InvalidInputError(
            f"{_what(path)} is damaged: {len(raw):,} bytes are no multiple of {size:,}, one image"
        )
    rows = np.frombuffer(raw, np.uint8).reshape(-1, size)
    labels = rows[:, int(layout.label_key)].tolist()
    return _part(rows[:, layout.label_bytes :], labels, path, layout)


def _part(pixels: npt.NDArray[np.uint8], labels: list[int], path: Path, layout: Layout) -> Part:
    if not all(0 <= label < layout.classes for label in labels):
        raise InvalidInputError(f"{_what(path)}: a label lies outside 0 to {layout.classes - 1}")
    images = pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return as_part(images, np.array(labels, dtype=np.int64), _what(path))


def _read_names(path: Path, layout: Layout) -> tuple[str, ...] | None:
    if not path.is_file():
        return None
    if layout.label_bytes:
        names = _bytes(path).decode("utf-8", "replace").split()
    else:
        contents = parse_plain_pickle(_bytes(path), _what(path))
        given = _entry(contents, layout.names_key, path)
        names = [
            name.decode("utf-8", "replace") if isinstance(name, bytes) else name
            for name in (given if isinstance(given, list) else ())
            if isinstance(name, str | bytes)
        ]
    if len(names) != layout.classes:
        raise InvalidInputError(f"{_what(path)} names {len(names)} classes; need {layout.classes}")
    return tuple(names)
