"""What format a folder of data has, told by the files in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ..searchspace.errors import InvalidInputError
from .cifar import find_cifar, read_cifar
from .dataset import DataSet
from .folder import SUFFIXES, read_folder
from .hf_disk import is_hf_folder, read_hf
from .idx import find_idx, read_idx

__all__ = ["FORMATS", "Format", "read_data_folder"]

Reader = Callable[..., DataSet]

#: Folders below one that holds no data, looked through for a hint.
HINT_LIMIT = 500


class Format(NamedTuple):
    """A format of data folders.

    Attributes:
        name: in words.
        looks_for: the files that tell it.
        reader: ``f(folder)`` gives a function of ``seed`` and ``val_fraction`` that reads the
            folder, or ``None`` where it has another format.
    """

    name: str
    looks_for: str
    reader: Callable[[Path], Reader | None]


def _cifar(folder: Path) -> Reader | None:
    layout = find_cifar(folder)
    return None if layout is None else partial(read_cifar, folder, layout)


def _idx(folder: Path) -> Reader | None:
    files = find_idx(folder)
    return None if files is None else partial(read_idx, files)


def _hf(folder: Path) -> Reader | None:
    return partial(read_hf, folder) if is_hf_folder(folder) else None


def _images(folder: Path) -> Reader | None:
    classes = folder / "train" if (folder / "train").is_dir() else folder
    files = (file for child in _folders(classes) for file in child.iterdir())
    found = any(file.suffix.lower() in SUFFIXES for file in files)
    return partial(read_folder, folder) if found else None


#: Looked for in this order.
FORMATS = (
    Format("CIFAR batches", "data_batch_1 or a file train, with .bin or without", _cifar),
    Format("IDX", "train-images-idx3-ubyte, .gz or not", _idx),
    Format("Hugging Face save_to_disk", "dataset_dict.json, or state.json", _hf),
    Format("image folder", "train/<class>/*.png or <class>/*.png", _images),
)


def read_data_folder(folder: Path, *, seed: int, val_fraction: float) -> DataSet:
    """Read a folder of any format known.

    Args:
        folder: of one data set.
        seed: of the split where there is no validation part.
        val_fraction: of the training part, split off where there is no validation part.

    Raises:
        InvalidInputError: if the folder has no format that is known, or is damaged.
    """
    for kind in FORMATS:
        reader = kind.reader(folder)
        if reader is not None:
            return reader(seed=seed, val_fraction=val_fraction)
    lacks = "holds no images in its class folders" if _folders(folder) else "has no class folders"
    known = "; ".join(f"{kind.name} ({kind.looks_for})" for kind in FORMATS)
    raise InvalidInputError(
        f"data folder {str(folder)!r} {lacks} and no other format's files;{_hint(folder)} known"
        f" are {known}"
    )


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _hint(folder: Path) -> str:
    """Where to look instead: data lie in a folder below as often as not."""

    def below() -> Iterator[Path]:
        for child in _folders(folder):
            yield child
            yield from _folders(child)

    for place in islice(below(), HINT_LIMIT):
        if any(kind.reader(place) for kind in FORMATS):
            return f" did you mean {str(place)!r}?"
    archive = next((file for file in sorted(folder.glob("*.npz"))), None)
    return "" if archive is None else f" did you mean {str(archive)!r}?"
