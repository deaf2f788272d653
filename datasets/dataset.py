"""A data set with its training, validation and test parts apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..proxies.batch import Batch
from ..searchspace.errors import InvalidInputError
from ..searchspace.modality import ITEMS, size_text
from .arrays import Part, empty_part

__all__ = ["TEST_FRACTION", "DataSet", "make_dataset"]

#: Share of the images that is split off for testing where there is no test part.
TEST_FRACTION = 0.1


@dataclass(frozen=True, eq=False)
class DataSet:
    """Images, sentences or clips and their labels, in three parts that share none.

    Attributes:
        name: e.g. ``"digits"``.
        num_classes: labels are ``0 … num_classes - 1``; where they are targets, as many as those
            have values: 0 before :func:`~scholarch.supernet.targets.with_targets` filled them.
        train: images uint8 ``[N, H, W, 3]`` and labels int64 ``[N]``. Text and sound are bytes,
            uint8 ``[N, 1, L, 2]``; without classes the labels are float32 ``[N, D]``.
        val: likewise, for choosing; may be empty.
        test: likewise, for the last word; may be empty.
        mean: of the training part's channels, for images in [0, 1]; of text and sound 0.
        std: likewise; of text and sound 1.
        class_names: where known.
        modality: ``"image"``, ``"text"`` or ``"sound"``.
    """

    name: str
    num_classes: int
    train: Part
    val: Part
    test: Part
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...] | None = None
    modality: str = "image"

    @property
    def resolution(self) -> int:
        """Height and width of the images in pixels, or tokens of a sentence, or samples."""
        return int(self.train.images.shape[2])

    @property
    def unlabelled(self) -> bool:
        """Whether there are neither classes nor targets."""
        return self.train.labels.ndim == 2 and self.train.labels.shape[1] == 0

    def batch(self, size: int = 64, seed: int = 0) -> Batch:
        """Images of the training part, drawn without replacement.

        Args:
            size: how many, at least 2.
            seed: of the draw; the same seed draws the same images in the same order.

        Raises:
            InvalidInputError: if ``size`` is below 2 or above the training part's.
        """
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 2:
            raise InvalidInputError(f"batch size {size!r}; need a whole number of at least 2")
        available = len(self.train.labels)
        if size > available:
            raise InvalidInputError(
                f"batch size {size} exceeds the {available} training {ITEMS[self.modality]} of"
                f" {self.name!r};"
                f" choose at most {available}"
            )
        chosen = _generator(seed).choice(available, int(size), replace=False)
        # float32 before the division, so that 255 gives exactly 1.
        images = torch.from_numpy(self.train.images[chosen]).permute(0, 3, 1, 2).float() / 255.0
        return Batch(
            images=images.contiguous(),
            labels=torch.from_numpy(self.train.labels[chosen]),
            num_classes=self.num_classes,
            mean=self.mean,
            std=self.std,
            name=self.name,
            modality=self.modality,
        )

    def relabelled(self, labels: Mapping[str, npt.NDArray[Any]]) -> DataSet:
        """The same inputs with a teacher's answers for labels.

        Args:
            labels: float32 ``[N, D]`` by part, ``train``, ``val`` and ``test``.
        """
        train, val, test = (
            Part(part.images, labels[name])
            for name, part in (("train", self.train), ("val", self.val), ("test", self.test))
        )
        width = int(labels["train"].shape[1])
        return replace(self, train=train, val=val, test=test, num_classes=width, class_names=None)

    def __repr__(self) -> str:
        parts = "/".join(str(len(part.labels)) for part in (self.train, self.val, self.test))
        if self.unlabelled:
            kinds = "no labels"
        else:
            kinds = f"{self.num_classes} {'classes' if self.train.labels.ndim == 1 else 'targets'}"
        return (
            f"<DataSet {self.name!r}: {parts} train/val/test {ITEMS[self.modality]} of"
            f" {size_text(self.modality, self.resolution)}, {kinds}>"
        )


def make_dataset(
    name: str,
    train: Part,
    val: Part | None,
    test: Part | None,
    *,
    seed: int,
    val_fraction: float,
    test_fraction: float = TEST_FRACTION,
    class_names: tuple[str, ...] | None = None,
    modality: str = "image",
) -> DataSet:
    """Check the parts, split off what is missing, measure the training part.

    Args:
        name: of the data set, for messages too.
        train: what the missing parts are split off from, class by class.
        val: or ``None``.
        test: or ``None``; the split then is the same for every seed, so that no seed's
            training part holds another's test images.
        seed: of the split into training and validation part.
        val_fraction: of the training part, in [0, 1).
        test_fraction: likewise.
        class_names: in label order.
        modality: of the inputs; text and sound are not normalised.

    Raises:
        InvalidInputError: if labels, sizes or fractions do not fit together.
    """
    for what, fraction in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        if not 0.0 <= fraction < 1.0:
            raise InvalidInputError(f"{what} = {fraction}; need at least 0 and below 1")
    if not len(train.labels):
        raise InvalidInputError(f"data {name!r} has no training {ITEMS[modality]}")
    if test is None:
        train, test = _split(train, test_fraction, np.random.default_rng(0))
    if val is None:
        train, val = _split(train, val_fraction, _generator(seed))
    for what, part in (("validation", val), ("test", test)):
        if part.images.shape[1:] != train.images.shape[1:]:
            a, b = (list(p.images.shape[1:]) for p in (train, part))
            raise InvalidInputError(f"data {name!r}: training images are {a}, {what} images {b}")
    if train.labels.ndim == 2:
        classes = int(train.labels.shape[1])
    else:
        classes = _count_classes(name, train, val, test, class_names)
    mean, std = _moments(train.images) if modality == "image" else ((0.0, 0.0), (1.0, 1.0))
    return DataSet(name, classes, train, val, test, mean, std, class_names, modality)


def _generator(seed: int) -> np.random.Generator:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InvalidInputError(f"seed {seed!r}; need a whole number of at least 0")
    return np.random.default_rng(int(seed))


def _split(part: Part, fraction: float, rng: np.random.Generator) -> tuple[Part, Part]:
    """The part without a random fraction of each class, and that fraction.

    Without classes it is one of all.
    """
    if fraction == 0.0:
        return part, empty_part(part)
    order = rng.permutation(len(part.labels))
    split_off = np.zeros(len(order), dtype=bool)
    classes = part.labels if part.labels.ndim == 1 else np.zeros(len(order), dtype=np.int64)
    for label in np.unique(classes):
        members = order[classes[order] == label]
        split_off[members[: round(fraction * len(members))]] = True
    kept, taken = np.flatnonzero(~split_off), np.flatnonzero(split_off)
    return tuple(Part(part.images[i], part.labels[i]) for i in (kept, taken))  # type: ignore[return-value]


def _count_classes(
    name: str, train: Part, val: Part, test: Part, class_names: tuple[str, ...] | None
) -> int:
    if not len(train.labels):
        raise InvalidInputError(f"data {name!r} has no training images left after splitting")
    low, high = int(train.labels.min()), int(train.labels.max())
    classes = high + 1 if class_names is None else len(class_names)
    if low > 0 and class_names is None:
        raise InvalidInputError(
            f"data {name!r}: training labels span {low} to {high}; need 0 to K - 1"
        )
    if classes < 2:
        raise InvalidInputError(f"data {name!r} has one class only; need at least 2")
    if classes > max(len(train.labels), 2):
        raise InvalidInputError(
            f"data {name!r}: training labels reach {high} with {len(train.labels)} images; need"
            " labels 0 to K - 1"
        )
    for what, part in (("validation", val), ("test", test)):
        if len(part.labels) and int(part.labels.max()) >= classes:
            raise InvalidInputError(
                f"data {name!r}: {what} label {int(part.labels.max())} is none of the training"
                f" part's, 0 to {classes - 1}"
            )
    return classes


def _moments(images: npt.NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of images scaled to [0, 1]."""
    # Counting the 256 values is exact and needs no float copy of the data set.
    values = np.arange(256) / 255.0
    mean, std = [], []
    for channel in range(images.shape[3]):
        counts = np.bincount(images[..., channel].ravel(), minlength=256) / images[..., 0].size
        mu = float(counts @ values)
        sigma = float(np.sqrt(counts @ (values - mu) ** 2))
        mean.append(mu)
        std.append(sigma if sigma > 1e-6 else 1.0)  # a constant channel stays as it is
    return tuple(mean), tuple(std)
