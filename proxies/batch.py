"""The labelled inputs on which teacher and students are compared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..searchspace.errors import InvalidInputError
from ..searchspace.modality import MODALITIES, PLURALS

__all__ = ["Batch"]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Real inputs, from the training part of a data set only.

    Unpacks as ``images, labels = batch``. Text and sound are kept like images, see
    :mod:`scholarch.searchspace.inputs`.

    Attributes:
        images: float32 ``[B, C, H, W]`` in [0, 1].
        labels: int64 ``[B]``, ``0 ≤ label < num_classes``; or targets, float32
            ``[B, num_classes]``, what a teacher says of inputs that have no labels.
        num_classes: of the data set; the length of a target.
        mean: of the data set's channels, length C; what students are normalised with.
        std: likewise.
        name: where it came from, e.g. ``"digits"``.
        modality: ``"image"``, ``"text"`` or ``"sound"``; where none is given, images are known by
            their shape, and text and sound are not told apart (``None``).
    """

    images: Tensor
    labels: Tensor
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    name: str = "tensors"
    modality: str | None = None

    def __post_init__(self) -> None:
        if self.modality is None and not self.is_packed:
            object.__setattr__(self, "modality", "image")
        if self.images.dim() != 4 or not self.images.is_floating_point():
            raise InvalidInputError(
                f"batch images are {self.images.dtype} of shape {tuple(self.images.shape)};"
                " need float [B, C, H, W] in [0, 1]"
            )
        if self.modality not in (None, *MODALITIES) or (
            self.modality in ("text", "sound") and not self.is_packed
        ):
            raise InvalidInputError(
                f"a batch of modality {self.modality!r} and shape {tuple(self.images.shape)}; need"
                f" one of {', '.join(MODALITIES)}, text and sound as [B, 2, 1, L]"
            )
        if len(self.images) < 2:
            raise InvalidInputError(f"a batch of {len(self.images)} images; need at least 2")
        self._check_labels()
        low, high = float(self.images.min()), float(self.images.max())
        if not (low >= 0.0 and high <= 1.0):  # NaN fails too
            raise InvalidInputError(
                f"batch images span {low:.3g} to {high:.3g}; need values in [0, 1]"
            )
        if not len(self.mean) == len(self.std) == self.images.shape[1]:
            raise InvalidInputError(
                f"{len(self.mean)} means and {len(self.std)} deviations for"
                f" {self.images.shape[1]} channels"
            )

    def _check_labels(self) -> None:
        count = len(self.images)
        if self.has_targets and self.labels.dim() == 2:
            if self.labels.shape != (count, self.num_classes):
                raise InvalidInputError(
                    f"batch targets are of shape {tuple(self.labels.shape)}; need"
                    f" [{count}, {self.num_classes}]"
                )
            if not bool(self.labels.isfinite().all()):
                raise InvalidInputError("batch targets hold values that are not finite")
            return
        if self.labels.shape != (count,) or self.labels.dtype != torch.int64:
            raise InvalidInputError(
                f"batch labels are {self.labels.dtype} of shape {tuple(self.labels.shape)};"
                f" need int64 [{count}]"
            )
        if int(self.labels.min()) < 0 or int(self.labels.max()) >= self.num_classes:
            raise InvalidInputError(
                f"labels span {int(self.labels.min())} to {int(self.labels.max())};"
                f" need 0 to {self.num_classes - 1}"
            )

    @property
    def is_packed(self) -> bool:
        """Whether the shape is that of text or sound, ``[B, 2, 1, L]``."""
        return self.images.dim() == 4 and tuple(self.images.shape[1:3]) == (2, 1)

    @property
    def has_targets(self) -> bool:
        """Whether labels are a teacher's vectors in place of classes."""
        return self.labels.is_floating_point()

    def check_modality(self, who: str, modality: str) -> None:
        """Refuse inputs of another kind than a space or teacher takes.

        Args:
            who: takes them, e.g. ``"teacher 'x'"``.
            modality: what it takes.

        Raises:
            InvalidInputError: if they are of another kind, named.
        """
        packed = self.is_packed if modality != "image" else not self.is_packed
        if self.modality not in (None, modality) or (self.modality is None and not packed):
            given = PLURALS[self.modality] if self.modality else "text or sound"
            are = "are" if self.modality == "image" else "is"
            raise InvalidInputError(
                f"{who} takes {PLURALS[modality]}, data {self.name!r} {are} {given}; give data of"
                f" {PLURALS[modality]}, or what takes {given}"
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
        """Hash of the pixels, classes and normalisation, 16 hexadecimal digits.

        Targets are left out: they are a teacher's, whose fingerprint is told by itself.
        """
        classes = 0 if self.has_targets else self.num_classes
        digest = hashlib.sha256(repr((self.mean, self.std, classes)).encode())
        digest.update(self.images.contiguous().numpy().tobytes())
        if not self.has_targets:
            digest.update(self.labels.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]
