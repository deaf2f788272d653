"""Data sets and batches: names, ``.npz`` files, folders of several formats, tensors."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from .datasets.arrays import Part, as_part
from .datasets.dataset import DataSet, make_dataset
from .datasets.debian import load_fashion_mnist
from .datasets.detect import read_data_folder
from .datasets.digits import load_digits
from .datasets.npz import from_mapping, read_npz
from .proxies.batch import Batch
from .searchspace.errors import InvalidInputError, UnknownNameError
from .searchspace.registry import Registry

__all__ = ["DataSet", "Part", "list_data", "load_batch", "load_data", "register_data"]

DataSpec: TypeAlias = str | os.PathLike[str] | tuple[Any, Any] | Mapping[str, Any] | DataSet
DataFactory = Callable[..., DataSet]

DATA: Registry[DataFactory] = Registry("data set")
VAL_FRACTION = 0.1


def register_data(name: str) -> Callable[[DataFactory], DataFactory]:
    """Register ``f(*, seed, val_fraction) -> DataSet`` under ``name``."""

    def register(factory: DataFactory) -> DataFactory:
        return DATA.add(name, factory)

    return register


@register_data("digits")
def _digits(*, seed: int, val_fraction: float) -> DataSet:  # noqa: ARG001 (its split is fixed)
    return load_digits()


@register_data("fashion-mnist")
def _fashion_mnist(*, seed: int, val_fraction: float) -> DataSet:
    return load_fashion_mnist(seed=seed, val_fraction=val_fraction)


def list_data(pattern: str = "*") -> list[str]:
    """Names of the registered data sets that match a shell pattern."""
    return DATA.names(pattern)


def load_data(spec: DataSpec, *, seed: int = 0, val_fraction: float = VAL_FRACTION) -> DataSet:
    """Load a data set with its training, validation and test parts apart.

    Grey images are repeated to the three channels that the search spaces expect. All images
    are square and of one size.

    Args:
        spec: one of

            - a registered name, see :func:`list_data`; ``digits`` is always there,
              ``fashion-mnist`` where the Debian package dataset-fashion-mnist is installed;
            - an ``.npz`` file with ``x_train y_train`` and optionally ``x_test y_test``,
              ``x_val y_val``, uint8 ``[N, H, W, C]``;
            - an image folder, ``root/train/<class>/*.png`` with optional ``val`` and
              ``test``, or ``root/<class>/*.png``;
            - a folder with CIFAR-10's or CIFAR-100's batches, Python's or binary; with the
              four IDX files of MNIST; or a Hugging Face data set that was saved to disk;
            - a pair of images and labels or a mapping with the keys of an ``.npz`` file,
              tensors or arrays: uint8 ``[N, H, W, C]`` or float ``[N, C, H, W]`` in [0, 1].

        seed: of the split into training and validation part where there is no validation
            part. A missing test part, a tenth, is the same for every seed.
        val_fraction: of the training part, split off where there is no validation part.

    Raises:
        UnknownNameError: if a name is unknown; near ones are offered.
        InvalidInputError: if the data are missing, damaged, empty or of another kind.
    """
    if isinstance(spec, DataSet):
        return spec
    if isinstance(spec, Mapping):
        return from_mapping(spec, "tensors", seed=seed, val_fraction=val_fraction)
    if isinstance(spec, tuple | list) and len(spec) == 2:
        part = as_part(*spec, "tensors")
        return make_dataset("tensors", part, None, None, seed=seed, val_fraction=val_fraction)
    if not isinstance(spec, str | os.PathLike):
        raise InvalidInputError(
            f"data of type {type(spec).__name__}; need a name, a path, a pair of images and"
            " labels, or a mapping with x_train and y_train"
        )
    if isinstance(spec, str) and spec in DATA:
        return DATA[spec](seed=seed, val_fraction=val_fraction)
    path = Path(spec).expanduser()
    options: dict[str, Any] = {"seed": seed, "val_fraction": val_fraction}
    try:
        if path.is_dir():
            return read_data_folder(path, **options)
        if path.is_file() or path.suffix.lower() == ".npz":
            return read_npz(path, **options)
    except PermissionError as error:
        raise InvalidInputError(f"data {str(path)!r} cannot be read: {error.strerror}") from error
    if len(path.parts) > 1 or isinstance(spec, os.PathLike):
        raise InvalidInputError(f"data {str(path)!r} does not exist")
    raise UnknownNameError("data set", str(spec), DATA, "An .npz file or a folder works, too.")


def load_batch(spec: DataSpec | Batch, size: int = 64, seed: int = 0) -> Batch:
    """Draw a batch from the training part of a data set, without replacement.

    Args:
        spec: as :func:`load_data` takes it. A bare pair of images and labels counts as
            training part as a whole. A batch is returned as it is.
        size: how many images, at least 2.
        seed: of the draw only, never of a split: no seed draws a test image.

    Returns:
        Images float32 ``[size, 3, H, W]`` in [0, 1], labels int64 ``[size]``; mean and
        standard deviation are the training part's.

    Raises:
        UnknownNameError: if a name is unknown; near ones are offered.
        InvalidInputError: if the data or the size are not as they should be.

    Example:
        >>> load_batch("digits", size=16, seed=0).images.shape
        torch.Size([16, 3, 32, 32])
    """
    if isinstance(spec, Batch):
        return spec
    if isinstance(spec, tuple | list) and len(spec) == 2:
        part = as_part(*spec, "tensors")
        data = make_dataset("tensors", part, None, None, seed=0, val_fraction=0, test_fraction=0)
    else:
        data = load_data(spec)
    return data.batch(size, seed)
