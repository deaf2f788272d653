"""Data sets as folders of images, one folder a class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..searchspace.errors import InvalidInputError
from .arrays import Part
from .dataset import DataSet, make_dataset

__all__ = ["read_folder"]

SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
VALIDATION = ("val", "valid", "validation")


def read_folder(root: Path, *, seed: int, val_fraction: float) -> DataSet:
    """Read a data set into memory.

    Args:
        root: ``root/train/<class>/*.png`` and optionally ``root/val`` and ``root/test``; or
            ``root/<class>/*.png``, which is split. Classes are numbered in the order of
            their names. Grey images become three equal channels.
        seed: of the split where there is no validation part.
        val_fraction: of the training part, split off where there is no validation part.

    Raises:
        InvalidInputError: if there is no image, one cannot be read, or sizes differ.
    """
    if not (root / "train").is_dir():
        names = _classes(root)
        parts = {"train": _read(root, names)}
    else:
        names = _classes(root / "train")
        parts = {"train": _read(root / "train", names)}
        validation = next((name for name in VALIDATION if (root / name).is_dir()), None)
        for part, folder in (("val", validation), ("test", "test")):
            if folder is not None and (root / folder).is_dir():
                unknown = sorted(set(_classes(root / folder)) - set(names))
                if unknown:
                    raise InvalidInputError(
                        f"class folder {unknown[0]!r} of {str(root / folder)!r} is missing in"
                        f" {str(root / 'train')!r}"
                    )
                parts[part] = _read(root / folder, names)
    return make_dataset(
        root.resolve().name,
        parts["train"],
        parts.get("val"),
        parts.get("test"),
        seed=seed,
        val_fraction=val_fraction,
        class_names=tuple(names),
    )


def _classes(root: Path) -> list[str]:
    names = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not names:
        raise InvalidInputError(
            f"data folder {str(root)!r} has no class folders; need one folder a class, with images"
        )
    return names


def _read(root: Path, names: list[str]) -> Part:
    images: list[npt.NDArray[np.uint8]] = []
    labels: list[int] = []
    first: Path | None = None
    for label, name in enumerate(names):
        files = [p for p in sorted((root / name).glob("*")) if p.suffix.lower() in SUFFIXES]
        for file in files:
            image = _read_image(file)
            first = first or file
            if images and image.shape != images[0].shape:
                sizes = ["x".join(map(str, i.shape[1::-1])) for i in (images[0], image)]
                raise InvalidInputError(
                    f"{str(file)!r} is {sizes[1]} pixels, {str(first)!r} is {sizes[0]}; resize"
                    " all images to one size"
                )
            images.append(image)
            labels.append(label)
    if not images:
        raise InvalidInputError(
            f"data folder {str(root)!r} holds no images; known are {', '.join(sorted(SUFFIXES))}"
        )
    if images[0].shape[0] != images[0].shape[1]:
        size = "x".join(map(str, images[0].shape[1::-1]))
        raise InvalidInputError(
            f"images of {str(root)!r} are {size} pixels; need square ones, so crop or pad them"
        )
    return Part(np.stack(images), np.array(labels, dtype=np.int64))


def _read_image(path: Path) -> npt.NDArray[np.uint8]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"), dtype=np.uint8)
    # SyntaxError is what Pillow raises for a broken PNG header.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InvalidInputError(f"image {str(path)!r} cannot be read: {error}") from error
