"""What format a folder of data has, told by the files in it."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from ..searchspace.errors import InvalidInputError
from .cifar import find_cifar, read_cifar
from .dataset import DataSet
from .folder import SUFFIXES, read_folder
from .hf_disk import is_hf_folder, read_hf
from .idx import find_idx, read_idx
from .sound import SOUND, read_sound_folder
from .text import TEXT, read_text_folder

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
        takes: further options of that function.
    """

    name: str
    looks_for: str
    reader: Callable[[Path], Reader | None]
    takes: tuple[str, ...] = ()


def _cifar(folder: Path) -> Reader | None:
    layout = find_cifar(folder)
    return None if layout is None else partial(read_cifar, folder, layout)


def _idx(folder: Path) -> Reader | None:
    files = find_idx(folder)
    return None if files is None else partial(read_idx, files)


def _hf(folder: Path) -> Reader | None:
    return partial(read_hf, folder) if is_hf_folder(folder) else None


def _images(folder: Path) -> Reader | None:
    return partial(read_folder, folder) if _below(folder, SUFFIXES) else None


def _sound(folder: Path) -> Reader | None:
    return partial(read_sound_folder, folder) if _below(folder, SOUND, flat=True) else None


def _text(folder: Path) -> Reader | None:
    return partial(read_text_folder, folder) if _below(folder, TEXT, flat=True) else None


def _below(folder: Path, suffixes: Container[str], *, flat: bool = False) -> bool:
    """Whether class folders hold such files, or the folder itself does where that is allowed."""
    part = folder / "train" if (folder / "train").is_dir() else folder
    places = [*([part] if flat else []), *_folders(part)]
    return any(file.suffix.lower() in suffixes for place in places for file in place.iterdir())


#: Looked for in this order.
FORMATS = (
    Format("CIFAR batches", "data_batch_1 or a file train, with .bin or without", _cifar),
    Format("IDX", "train-images-idx3-ubyte, .gz or not", _idx),
    Format("Hugging Face save_to_disk", "dataset_dict.json, or state.json", _hf),
    Format("image folder", "train/<class>/*.png or <class>/*.png", _images),
    Format("sound folder", "<class>/*.wav, .flac or *.wav", _sound, ("seconds",)),
    Format("text folder", "<class>/*.txt or *.txt", _text, ("tokenizer", "length")),
)


def read_data_folder(folder: Path, *, seed: int, val_fraction: float, **options: Any) -> DataSet:
    """Read a folder of any format known.

    Args:
        folder: of one data set.
        seed: of the split where there is no validation part.
        val_fraction: of the training part, split off where there is no validation part.
        **options: of text and sound; a format takes those that it knows.

    Raises:
        InvalidInputError: if the folder has no format that is known, or is damaged.
    """
    for kind in FORMATS:
        reader = kind.reader(folder)
        if reader is not None:
            taken = {name: options[name] for name in kind.takes if name in options}
            return reader(seed=seed, val_fraction=val_fraction, **taken)
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
