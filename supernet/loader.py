"""Batches of a data set as a pure function of the step, so that a resume repeats them.

Nothing is kept between steps but the images themselves and the current epoch's order, which
is drawn again from ``(seed, epoch)`` where a run is taken up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..searchspace.errors import InvalidInputError
from .augment import Augment, augment_generator

__all__ = ["LabelledImages", "LabelledPart", "Loader", "batches", "normalise", "part_fingerprint"]


class LabelledPart(Protocol):
    """One part of a data set.

    Attributes:
        images: uint8 ``[N, H, W, C]``; text and sound as bytes, see
            :mod:`~scholarch.searchspace.inputs`.
        labels: classes int64 ``[N]``, or targets float32 ``[N, D]``.
    """

    @property
    def images(self) -> npt.NDArray[np.uint8]: ...
    @property
    def labels(self) -> npt.NDArray[Any]: ...


class LabelledImages(Protocol):
    """What training asks of a data set; ``scholarch.DataSet`` is one.

    Attributes:
        name: e.g. ``"digits"``.
        num_classes: labels are ``0 … num_classes - 1``, or targets of so many values.
        train: what is learned from.
        val: for choosing; may be empty.
        test: for the last word; may be empty.
        mean: of the training part's channels, for images in [0, 1].
        std: likewise.
        resolution: height and width of the images in pixels, or the length of a text in tokens
            or of a clip in samples.
        modality: ``"image"``, ``"text"`` or ``"sound"``.
    """

    @property
    def name(self) -> str: ...
    @property
    def num_classes(self) -> int: ...
    @property
    def train(self) -> LabelledPart: ...
    @property
    def val(self) -> LabelledPart: ...
    @property
    def test(self) -> LabelledPart: ...
    @property
    def mean(self) -> tuple[float, ...]: ...
    @property
    def std(self) -> tuple[float, ...]: ...
    @property
    def resolution(self) -> int: ...
    @property
    def modality(self) -> str: ...


class Loader:
    """Shuffled, augmented batches of a part, addressed by step and rank.

    The images lie on the device as one uint8 tensor and are gathered by index. An epoch is
    cut into global batches of ``world_size * batch_size`` images, of which every rank takes
    its contiguous share; what is left over at the end of an epoch is dropped, so that all
    batches are of one size. Orders differ from epoch to epoch.

    Args:
        part: of a data set.
        batch_size: images a rank and step.
        seed: of the orders and the augmentation.
        augment: ``None`` leaves the images as they are.
        device: where the images are kept and the batches come from.

    Raises:
        InvalidInputError: if the part is smaller than a batch, or a number is out of range.
    """

    def __init__(
        self,
        part: LabelledPart,
        *,
        batch_size: int,
        seed: int,
        augment: Augment | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        _check_batch(part, batch_size)
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise InvalidInputError(f"seed {seed!r}; need a whole number of at least 0")
        self.batch_size = batch_size
        self.seed = seed
        self.augment = augment
        self.device = torch.device(device)
        self._images = _channels_first(part.images).to(self.device)
        self._labels = _labels(part.labels).to(self.device)
        self._epoch = -1
        self._order = torch.arange(0)

    def __len__(self) -> int:
        """How many images the part has."""
        return len(self._labels)

    def steps_per_epoch(self, world_size: int = 1) -> int:
        """Whole global batches in the part.

        Raises:
            InvalidInputError: if there is none.
        """
        steps = len(self) // (world_size * self.batch_size)
        if not steps:
            raise InvalidInputError(
                f"{world_size} processes with batches of {self.batch_size} need"
                f" {world_size * self.batch_size} images a step, the part has {len(self)};"
                f" choose a batch size of at most {len(self) // world_size}"
            )
        return steps

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> tuple[Tensor, Tensor]:
        """The images and labels of a step, the same whenever it is asked for.

        Args:
            step: from 0 through all epochs.
            rank: of the process, in ``0 … world_size - 1``.
            world_size: number of processes.

        Returns:
            float32 ``[B, C, H, W]`` in [0, 1], augmented but **not** normalised, and int64
            ``[B]`` or targets float32 ``[B, D]``.

        Raises:
            InvalidInputError: if the step or rank is out of range, or no global batch fits.
        """
        chosen = self.indices(step, rank, world_size)
        images = self._images[chosen].float().div_(255.0)
        if self.augment is not None:
            images = self.augment(images, augment_generator(self.seed, step, rank))
        return images, self._labels[chosen]

    def indices(self, step: int, rank: int = 0, world_size: int = 1) -> Tensor:
        """Which images of the part a step takes, int64 ``[B]``; arguments and errors as above."""
        if step < 0 or not 0 <= rank < world_size:
            raise InvalidInputError(
                f"step {step}, rank {rank} of {world_size}; need a step of at least 0 and a"
                " rank below the number of processes"
            )
        epoch, position = divmod(step, self.steps_per_epoch(world_size))
        start = (position * world_size + rank) * self.batch_size
        return self._permutation(epoch)[start : start + self.batch_size]

    def _permutation(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            order = np.random.default_rng((self.seed, epoch)).permutation(len(self))
            self._order = torch.from_numpy(order).to(self.device)
            self._epoch = epoch
        return self._order


def batches(
    part: LabelledPart,
    size: int,
    *,
    limit: int | None = None,
    seed: int | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[Tensor, Tensor]]:
    """The images of a part as they are, each once, for evaluation and calibration.

    Args:
        part: of a data set.
        size: images a batch; the last one may be smaller.
        limit: use at most so many images; ``None`` uses all.
        seed: ``None`` goes from the first image on; a number draws ``limit`` of them without
            replacement, the same ones for the same seed.
        device: where the batches come to lie.

    Returns:
        An iterator over float32 ``[B, C, H, W]`` in [0, 1], not normalised, and int64 ``[B]`` or
        targets float32 ``[B, D]``.

    Raises:
        InvalidInputError: if the part is empty, or a number is below 1.
    """
    if size < 1 or (limit is not None and limit < 1):
        raise InvalidInputError(f"batches of {size}, limit {limit}; need at least 1")
    available = len(part.labels)
    if not available:
        raise InvalidInputError("the part has no images; choose one that has, e.g. train")
    used = available if limit is None else min(limit, available)
    order = np.arange(used)
    if seed is not None:
        order = np.random.default_rng(seed).permutation(available)[:used]
    return _in_order(part, order, size, torch.device(device))


def part_fingerprint(part: LabelledPart) -> str:
    """Hash of a part's pixels and classes, 16 hexadecimal digits.

    Targets are left out: they are a teacher's, whose fingerprint is told by itself, and differ in
    the last digit from machine to machine.
    """
    digest = hashlib.sha256(repr(part.images.shape).encode())
    digest.update(part.images.tobytes())
    if part.labels.ndim == 1:
        digest.update(part.labels.tobytes())
    return digest.hexdigest()[:16]


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """``(images - mean) / std``, channel by channel.

    Args:
        images: ``[B, C, H, W]`` in [0, 1].
        mean: of the channels, length C.
        std: likewise.

    Raises:
        InvalidInputError: if the number of channels differs.
    """
    if not len(mean) == len(std) == images.shape[1]:
        raise InvalidInputError(
            f"{len(mean)} means and {len(std)} deviations for {images.shape[1]} channels"
        )
    shift, scale = (images.new_tensor(values).view(1, -1, 1, 1) for values in (mean, std))
    return (images - shift) / scale


def _in_order(
    part: LabelledPart, order: npt.NDArray[np.int64], size: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        images = _channels_first(part.images[chosen]).to(device).float().div_(255.0)
        yield images, _labels(part.labels[chosen]).to(device)


def _labels(labels: npt.NDArray[Any]) -> Tensor:
    """A copy, as classes or as targets."""
    return torch.from_numpy(np.array(labels, dtype=np.float32 if labels.ndim == 2 else np.int64))


def _channels_first(images: npt.NDArray[np.uint8]) -> Tensor:
    # A copy in any case: arrays read from files may be read-only, which torch warns about.
    return torch.from_numpy(np.array(images.transpose(0, 3, 1, 2), order="C", copy=True))


def _check_batch(part: LabelledPart, batch_size: int) -> None:
    available = len(part.labels)
    whole = isinstance(batch_size, int) and not isinstance(batch_size, bool)
    if not whole or not 1 <= batch_size <= available:
        raise InvalidInputError(
            f"batch size {batch_size!r} with {available} images; need a whole number from 1 to"
            f" {available}"
        )
