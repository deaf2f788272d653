"""Images and labels of any usual layout, as uint8 ``[N, H, W, 3]`` and int64 ``[N]``."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from ..searchspace.errors import InvalidInputError

__all__ = ["Labels", "Part", "as_part", "empty_part"]

Labels = npt.NDArray[Any]
"""Classes int64 ``[N]``, or targets float32 ``[N, D]``; D is 0 where there are none yet."""


class Part(NamedTuple):
    """Inputs and labels of one part of a data set.

    Attributes:
        images: uint8 ``[N, H, W, C]``; text and sound as bytes, see
            :mod:`~scholarch.searchspace.inputs`.
        labels: classes int64 ``[N]``, or targets float32 ``[N, D]``.
    """

    images: npt.NDArray[np.uint8]
    labels: Labels


def empty_part(like: Part) -> Part:
    """A part without images."""
    return Part(like.images[:0], like.labels[:0])


def as_part(images: Any, labels: Any, what: str) -> Part:
    """Images and labels in the one layout that is used inside.

    Args:
        images: tensor or array, ``[N, H, W, C]`` or ``[N, C, H, W]`` of 1 or 3 channels, or
            ``[N, H, W]``; uint8, or floats in [0, 1], which are rounded to 1/255. Grey
            images are repeated to 3 channels.
        labels: whole numbers ``[N]`` or ``[N, 1]``.
        what: where they come from, for messages.

    Raises:
        InvalidInputError: if a type, shape or range is another.
    """
    part = Part(_images(_array(images, what), what), _labels(_array(labels, what), what))
    if len(part.images) != len(part.labels):
        raise InvalidInputError(f"{what}: {len(part.images)} images but {len(part.labels)} labels")
    return part


def _array(value: Any, what: str) -> npt.NDArray[Any]:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InvalidInputError(f"{what}: rows of unequal length; need an array") from error
    if array.dtype.hasobject:
        raise InvalidInputError(f"{what}: an array of Python objects; need numbers")
    return array


def _images(array: npt.NDArray[Any], what: str) -> npt.NDArray[np.uint8]:
    is_float = np.issubdtype(array.dtype, np.floating)
    if array.dtype != np.uint8 and not is_float:
        raise InvalidInputError(
            f"{what}: images of type {array.dtype}; need uint8 in 0 to 255, or floats in 0 to 1"
        )
    shape = array.shape
    if array.ndim == 3:
        array = array[..., None]
    elif array.ndim != 4:
        raise InvalidInputError(f"{what}: images of shape {list(shape)}; need [N, H, W, C]")
    # Tensors are usually [N, C, H, W], stored bytes [N, H, W, C]; ambiguous only at H = 1 or 3.
    axes = (1, 3) if is_float and len(shape) == 4 else (3, 1)
    axis = next((axis for axis in axes if array.shape[axis] in (1, 3)), None)
    if axis is None:
        raise InvalidInputError(
            f"{what}: images of shape {list(shape)}; need [N, H, W, C] or [N, C, H, W] with 1 or"
            " 3 channels"
        )
    if axis == 1:
        array = array.transpose(0, 2, 3, 1)
    if array.size == 0:
        raise InvalidInputError(f"{what}: no images (shape {list(shape)})")
    if array.shape[1] != array.shape[2]:
        raise InvalidInputError(
            f"{what}: images of {array.shape[1]}x{array.shape[2]} pixels; need square ones, so"
            " crop or pad them"
        )
    if is_float:
        low, high = float(array.min()), float(array.max())
        if not (low >= 0.0 and high <= 1.0):  # NaN fails too
            raise InvalidInputError(
                f"{what}: float images span {low:.3g} to {high:.3g}; need 0 to 1, not normalised"
            )
        array = np.rint(array * 255.0)
    array = array.astype(np.uint8, copy=False)
    return np.ascontiguousarray(np.repeat(array, 3, axis=3) if array.shape[3] == 1 else array)


def _labels(array: npt.NDArray[Any], what: str) -> npt.NDArray[np.int64]:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise InvalidInputError(
            f"{what}: labels of shape {list(array.shape)}; need one class number an image, [N]"
        )
    if not np.issubdtype(array.dtype, np.integer):
        raise InvalidInputError(f"{what}: labels of type {array.dtype}; need whole numbers")
    labels = array.astype(np.int64)
    if labels.size and labels.min() < 0:
        raise InvalidInputError(f"{what}: label {labels.min()}; need 0 to K - 1")
    return labels
