"""The labelled images on which teacher and students are compared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..searchspace.errors import InvalidInputError

__all__ = ["Batch"]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Real inputs, from the training part of a data set only.

    Unpacks as ``images, labels = batch``.

    Attributes:
        images: float32 ``[B, C, H, W]`` in [0, 1].
        labels: int64 ``[B]``, ``0 ≤ label < num_classes``.
        num_classes: of the data set.
        mean: of the data set's channels, length C; what students are normalised with.
        std: likewise.
        name: where it came from, e.g. ``"digits"``.
    """

    images: Tensor
    labels: Tensor
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    name: str = "tensors"

    def __post_init__(self) -> None:
        if self.images.dim() != 4 or not self.images.is_floating_point():
            raise InvalidInputError(
                f"batch images are {self.images.dtype} of shape {tuple(self.images.shape)};"
                " need float [B, C, H, W] in [0, 1]"
            )
        if len(self.images) < 2:
            raise InvalidInputError(f"a batch of {len(self.images)} images; need at least 2")
        if self.labels.shape != self.images.shape[:1] or self.labels.dtype != torch.int64:
            raise InvalidInputError(
                f"batch labels are {self.labels.dtype} of shape {tuple(self.labels.shape)};"
                f" need int64 [{len(self.images)}]"
            )
        low, high = float(self.images.min()), float(self.images.max())
        if not (low >= 0.0 and high <= 1.0):  # NaN fails too
            raise InvalidInputError(
                f"batch images span {low:.3g} to {high:.3g}; need values in [0, 1]"
            )
        if int(self.labels.min()) < 0 or int(self.labels.max()) >= self.num_classes:
            raise InvalidInputError(
                f"labels span {int(self.labels.min())} to {int(self.labels.max())};"
                f" need 0 to {self.num_classes - 1}"
            )
        if not len(self.mean) == len(self.std) == self.images.shape[1]:
            raise InvalidInputError(
                f"{len(self.mean)} means and {len(self.std)} deviations for"
                f" {self.images.shape[1]} channels"
            )

    def __iter__(self) -> Iterator[Tensor]:
        yield self.images
        yield self.labels

    def __len__(self) -> int:
        return len(self.images)

    @property
    def normalised(self) -> Tensor:
        """Images as students see them, ``(x - mean) / std``, ``[B, C, H, W]``."""
        mean = torch.tensor(self.mean, device=self.images.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=self.images.device).view(1, -1, 1, 1)
        return (self.images - mean) / std

    @property
    def fingerprint(self) -> str:
        """Hash of the pixels, labels and normalisation, 16 hexadecimal digits."""
        digest = hashlib.sha256(repr((self.mean, self.std, self.num_classes)).encode())
        digest.update(self.images.contiguous().numpy().tobytes())
        digest.update(self.labels.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]
