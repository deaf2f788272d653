"""A Hugging Face data set on disk: what ``datasets``' ``save_to_disk`` wrote.

Needs the library ``datasets``, the extra ``hf``. Nothing is downloaded and no code of the data
set's is run: the folder holds Arrow files and JSON.
"""

from __future__ import annotations

import io
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..searchspace.errors import InvalidInputError
from .arrays import Part
from .dataset import DataSet, make_dataset
from .folder import VALIDATION

__all__ = ["is_hf_folder", "read_hf"]

#: Which to take where several columns hold labels, as CIFAR-100's do.
LABELS = ("label", "labels", "fine_label")


class _Columns(NamedTuple):
    image: str
    label: str
    classes: tuple[str, ...]


def is_hf_folder(folder: Path) -> bool:
    """Whether ``save_to_disk`` wrote the folder: a ``DatasetDict`` or a single ``Dataset``."""
    single = ("state.json", "dataset_info.json")
    is_dict = (folder / "dataset_dict.json").is_file()
    return is_dict or all((folder / name).is_file() for name in single)


def read_hf(folder: Path, *, seed: int, val_fraction: float) -> DataSet:
    """Read a data set into memory.

    Args:
        folder: of a ``DatasetDict`` with a split ``train`` and optionally ``validation`` and
            ``test``, or of a single ``Dataset``, which is split. The columns are found by
            their features: one ``Image``, one ``ClassLabel``.
        seed: of the split where there is no validation part.
        val_fraction: of the training part, split off where there is no validation part.

    Raises:
        InvalidInputError: if the library is missing, the folder damaged, a column not to be
            found, or an image cannot be read or has another size.
    """
    what = f"data folder {str(folder)!r}"
    library = _library(what)
    try:
        loaded = library.load_from_disk(str(folder), keep_in_memory=False)
        is_dict = isinstance(loaded, library.DatasetDict)
        splits: dict[str, Any] = {**loaded} if is_dict else {"train": loaded}
    # pyarrow's errors are subclasses of these; a damaged JSON file is a ValueError.
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InvalidInputError(f"{what} is a damaged Hugging Face data set: {line}") from error
    if "train" not in splits:
        raise InvalidInputError(
            f"{what} has the splits {', '.join(splits) or 'none'}; need one called train"
        )
    columns = _find_columns(library, splits["train"].features, what)
    parts: dict[str, Part | None] = {}
    for part, names in (("train", ("train",)), ("val", VALIDATION), ("test", ("test",))):
        name = next((name for name in names if name in splits), None)
        if name is None:
            parts[part] = None
        else:
            parts[part] = _read(library, splits[name], columns, f"{what}, {name}")
    train = parts["train"]
    if train is None:
        raise RuntimeError("the training part was looked for above")
    return make_dataset(
        folder.resolve().name,
        train,
        parts["val"],
        parts["test"],
        seed=seed,
        val_fraction=val_fraction,
        class_names=columns.classes,
    )


def _library(what: str) -> Any:
    """The library; as a value, since this package's own ``datasets`` misleads type checkers."""
    try:
        library = import_module("datasets")
    except ImportError as error:
        raise InvalidInputError(
            f"{what} is a Hugging Face data set, for which the library 'datasets' is missing;"
            " install it with: pip install 'scholarch[hf]'"
        ) from error
    if not hasattr(library, "load_from_disk"):
        place = next(iter(getattr(library, "__path__", [])), "the working folder")
        raise InvalidInputError(
            f"{what} is a Hugging Face data set, and the library 'datasets' is hidden by {place};"
            " start from another folder"
        )
    return library


def _find_columns(library: Any, features: Any, what: str) -> _Columns:
    """The image and the label column, by the types of their features."""

    def find(kind: type[Any], wanted: tuple[str, ...], hint: str) -> str:
        found = [name for name, feature in features.items() if isinstance(feature, kind)]
        chosen = found if len(found) == 1 else [name for name in wanted if name in found][:1]
        if not chosen:
            held = ", ".join(f"{name} ({_kind(feature)})" for name, feature in features.items())
            how_many = f"{len(found)} columns" if found else "no column"
            raise InvalidInputError(
                f"{what} has {how_many} of the feature type {kind.__name__}; need one, {hint}"
                f" (it has {held})"
            )
        return chosen[0]

    image = find(library.Image, ("image", "img"), "see cast_column and remove_columns")
    label = find(library.ClassLabel, LABELS, "see class_encode_column and remove_columns")
    return _Columns(image, label, tuple(features[label].names))


def _kind(feature: Any) -> str:
    return str(getattr(feature, "dtype", type(feature).__name__))


def _read(library: Any, split: Any, columns: _Columns, what: str) -> Part:
    for name in (columns.image, columns.label):
        if name not in split.features:
            raise InvalidInputError(f"{what} has no column {name!r}, which the split train has")
    # Undecoded, so that a broken image is told by its number and none is fetched from afar.
    rows = split.select_columns([columns.image, columns.label]).with_format(None)
    rows = rows.cast_column(columns.image, library.Image(decode=False))
    images: list[npt.NDArray[np.uint8]] = []
    labels: list[int] = []
    for i, row in enumerate(rows):
        where = f"{what}, image {i} of column {columns.image!r}"
        image = _decode(row[columns.image], where)
        if image.shape[0] != image.shape[1] or (images and image.shape != images[0].shape):
            size = "x".join(map(str, image.shape[1::-1]))
            raise InvalidInputError(
                f"{where} is {size} pixels; need square images of one size, so resize or crop"
            )
        label = row[columns.label]
        if label is None or not 0 <= label < len(columns.classes):
            raise InvalidInputError(
                f"{what}, row {i}: {columns.label} = {label}; need 0 to {len(columns.classes) - 1}"
            )
        images.append(image)
        labels.append(int(label))
    if not images:
        raise InvalidInputError(f"{what} holds no images")
    return Part(np.stack(images), np.array(labels, dtype=np.int64))


def _decode(stored: Any, where: str) -> npt.NDArray[np.uint8]:
    from PIL import Image

    raw = stored.get("bytes") if isinstance(stored, dict) else None
    if raw is None:
        raise InvalidInputError(f"{where} is not stored in the data set")
    try:
        with Image.open(io.BytesIO(raw)) as image:
            return np.asarray(image.convert("RGB"), dtype=np.uint8)
    # SyntaxError is what Pillow raises for a broken PNG header.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        # Without Pillow's words, which tell an address in memory.
        raise InvalidInputError(f"{where} cannot be read") from error
