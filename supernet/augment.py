"""Augmentation of whole batches, every image in its own way, without a loop over images.

What happens to which image is decided by a generator on the CPU, so that CPU and GPU agree;
pixels are then moved where they lie.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..searchspace.errors import InvalidInputError, UnknownNameError
from .randaugment import MAX_MAGNITUDE, blend, grey, rand_augment

__all__ = ["AUGMENTS", "PADDINGS", "Augment", "augment_for", "augment_generator"]

PADDINGS = ("zero", "reflect")

#: Share of the image that is erased, and the rectangle's height over its width
#: (Zhong et al., AAAI 2020, §4.1: s_l, s_h and r_1).
ERASED_AREA = (0.02, 0.4)
ERASED_ASPECT = 0.3

#: Numbers that :meth:`Augment.__call__` draws an image, used or not.
DECISIONS = 11

#: Sets this stream of random numbers apart from others of the same seed, step and rank.
STREAM = 0xA06


class Named(Protocol):
    """What :func:`augment_for` looks at."""

    @property
    def name(self) -> str: ...
    @property
    def resolution(self) -> int: ...
    @property
    def modality(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Augment:
    """What is done to training images, in the order of the fields.

    Attributes:
        crop_padding: pixels by which a crop of the image's own size is moved at most, up or
            down and left or right (He et al., CVPR 2016, §4.2); 0 leaves it in place.
        padding: what comes in at the edge: ``"zero"``, or ``"reflect"`` for the image mirrored.
        flip: left and right change places in half of the images.
        randaugment: operations an image, drawn from ``randaugment.OPERATIONS`` (Cubuk et
            al., NeurIPS 2020); 0 for none.
        magnitude: of those, 0 to 30.
        jitter: brightness, contrast and colour are each scaled by a factor from
            [1 - jitter, 1 + jitter]; below 1.
        erase: probability that a rectangle is filled with noise (random erasing: Zhong et
            al., AAAI 2020, §3.2). It covers 0.02 to 0.4 of the image before it is cut to it;
            its aspect is drawn evenly on the log scale, so that tall is as likely as wide.

    Raises:
        InvalidInputError: if a value is outside its range.
    """

    crop_padding: int = 0
    padding: str = "zero"
    flip: bool = False
    randaugment: int = 0
    magnitude: int = 9
    jitter: float = 0.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        if self.crop_padding < 0 or self.randaugment < 0:
            raise InvalidInputError(
                f"crop_padding = {self.crop_padding}, randaugment = {self.randaugment}; need at"
                " least 0"
            )
        if self.padding not in PADDINGS:
            raise UnknownNameError("padding", self.padding, PADDINGS)
        if not 0 <= self.magnitude <= MAX_MAGNITUDE:
            raise InvalidInputError(f"magnitude = {self.magnitude}; need 0 to {MAX_MAGNITUDE}")
        if not 0.0 <= self.jitter < 1.0:
            raise InvalidInputError(f"jitter = {self.jitter}; need at least 0 and below 1")
        if not 0.0 <= self.erase <= 1.0:
            raise InvalidInputError(f"erase = {self.erase}; need a probability, 0 to 1")

    def to_json(self) -> dict[str, Any]:
        """The fields; ``Augment(**fields)`` is the same again."""
        return dataclasses.asdict(self)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Augment a batch.

        Args:
            images: float ``[B, C, H, W]`` in [0, 1]; left as they are.
            generator: on the CPU, see :func:`augment_generator`.

        Returns:
            Like ``images``; the very same tensor if there is nothing to do.

        Raises:
            InvalidInputError: if the generator is not on the CPU, or the crop moves the image
                by its whole side.
        """
        if generator.device.type != "cpu":
            raise InvalidInputError(
                f"the generator is on {generator.device}; need one on the CPU, which decides"
                " the same for every device"
            )
        if self == Augment(padding=self.padding, magnitude=self.magnitude):
            return images
        given = images
        # All at once, and all of them: to switch one thing on does not redraw the others.
        drawn = torch.rand(len(images), DECISIONS, generator=generator)
        if self.crop_padding or self.flip:
            images = self._crop_and_flip(images, drawn[:, :3])
        if self.randaugment:
            images = rand_augment(images, self.randaugment, self.magnitude, generator)
        if self.jitter:
            images = self._jitter(images, drawn[:, 3:6])
        if self.erase:
            images = images.clone() if images is given else images
            self._erase(images, drawn[:, 6:], generator)
        return images

    def _crop_and_flip(self, images: Tensor, drawn: Tensor) -> Tensor:
        count, _, height, width = images.shape
        if self.crop_padding >= min(height, width):
            raise InvalidInputError(
                f"crop_padding = {self.crop_padding} with images of {height}x{width}; need less"
                " than the side"
            )
        offsets = (drawn[:, :2] * (2 * self.crop_padding + 1)).long() - self.crop_padding
        rows = torch.arange(height) + offsets[:, :1]
        columns = torch.arange(width) + offsets[:, 1:]
        if self.flip:
            columns = torch.where(drawn[:, 2:3] < 0.5, columns.flip(1), columns)
        rows_from, columns_from = _reflected(rows, height), _reflected(columns, width)
        # One gather for both: ten times faster than a padded copy and a slice an image.
        source = rows_from[:, :, None] * width + columns_from[:, None, :]
        source = source.view(count, 1, -1).to(images.device)
        out = images.flatten(2).gather(2, source.expand(-1, images.shape[1], -1))
        out = out.view(images.shape)
        if self.crop_padding and self.padding == "zero":
            inside = (rows == rows_from)[:, :, None] & (columns == columns_from)[:, None, :]
            out.mul_(inside[:, None].to(images.device, images.dtype))
        return out

    def _jitter(self, images: Tensor, drawn: Tensor) -> Tensor:
        factors = (1.0 + self.jitter * (2.0 * drawn - 1.0)).to(images.device, images.dtype)
        brightness, contrast, colour = factors.T.unsqueeze(-1).unsqueeze(-1).unsqueeze(-1)
        images = (images * brightness).clamp(0.0, 1.0)
        images = blend(grey(images).mean((2, 3), keepdim=True), images, contrast)
        return blend(grey(images), images, colour)

    def _erase(self, images: Tensor, drawn: Tensor, generator: torch.Generator) -> None:
        """In place: what was not chosen need not be copied."""
        height, width = images.shape[2:]
        chosen = (drawn[:, 0] < self.erase).nonzero()[:, 0]
        if not len(chosen):
            return
        low, high = ERASED_AREA
        area, aspect, top, left = drawn[chosen, 1:].T
        area = (low + (high - low) * area) * height * width
        aspect = ERASED_ASPECT ** (2.0 * aspect - 1.0)
        rows = (area * aspect).sqrt().round().clamp(1, height)
        columns = (area / aspect).sqrt().round().clamp(1, width)
        inside = (
            _span(top, rows, height)[:, None, :, None] & _span(left, columns, width)[:, None, None]
        )
        # Bytes are drawn in a third of the time of floats, and images hold no more.
        noise = torch.empty(len(chosen), *images.shape[1:], dtype=torch.uint8)
        noise = noise.random_(0, 256, generator=generator).to(images.device).to(images.dtype)
        chosen, inside = chosen.to(images.device), inside.to(images.device)
        images[chosen] = torch.where(inside, noise.div_(255.0), images[chosen])


def augment_generator(seed: int, step: int, rank: int = 0) -> torch.Generator:
    """A generator on the CPU that depends on these three numbers alone.

    Args:
        seed: of the run.
        step: of the training.
        rank: of the process.
    """
    entropy = np.random.SeedSequence((seed, STREAM, step, rank)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(entropy[0]))


def _reflected(index: Tensor, size: int) -> Tensor:
    """Indices beyond ``0 … size - 1`` mirrored at the outermost pixel, which is not repeated."""
    last = size - 1
    return last - (last - index.abs()).abs()


def _span(drawn: Tensor, length: Tensor, size: int) -> Tensor:
    """Bool ``[B, size]``, true over ``length`` pixels in a row that lie anywhere inside."""
    start = (drawn * (size - length + 1)).floor()[:, None]
    at = torch.arange(size)
    return (at >= start) & (at < start + length[:, None])


AUGMENTS = ("auto", "none", "light", "strong")
"""What :func:`augment_for` knows:

- ``"none"``: images as they are;
- ``"light"``: a crop, and a flip where a mirrored image is still one of its class;
- ``"auto"``: the same, and random erasing for Fashion-MNIST, which Zhong et al. (AAAI 2020,
  table 1) train so;
- ``"strong"``: the same, two operations of RandAugment at magnitude 9, erasing at 0.1.
"""

#: Data whose mirror image is another class or none: figures, letters, signs. Looked for in a
#: name of which only letters are left, in lower case; the others are taken for photographs.
UNMIRRORED = ("mnist", "digit", "usps", "svhn", "letter", "omniglot", "gtsrb", "trafficsign")
FASHION = "fashion"
CIFAR = "cifar"


def augment_for(data: Named, name: str = "auto") -> Augment:
    """The augmentation of a data set, by its name and the side of its images.

    A crop moves CIFAR and photographs by an eighth of the side (4 pixels of 32; photographs
    are mirrored at the edge, CIFAR is padded with zeros as in He et al., CVPR 2016, §4.2),
    figures and letters by a sixteenth: the bundled ``digits`` are 8x8 drawn at 32x32, and
    2 pixels are half of one of theirs.

    Text and sound stay as they are, under ``"auto"`` too.

    Args:
        data: its ``name`` is a registered one, or the folder's or the file's.
        name: one of :data:`AUGMENTS`.

    Raises:
        UnknownNameError: if ``name`` is none of them.
        InvalidInputError: if text or sound are to be augmented like images.
    """
    if name not in AUGMENTS:
        raise UnknownNameError("augmentation", name, AUGMENTS)
    if data.modality != "image" and name in ("light", "strong"):
        raise InvalidInputError(
            f"augment = {name!r} is for images, data {data.name!r} is {data.modality}; take auto"
            " or none, which leave it as it is"
        )
    if name == "none" or data.modality != "image":
        return Augment()
    letters = re.sub("[^a-z]", "", data.name.lower())
    fashion = FASHION in letters
    flip = fashion or not any(word in letters for word in UNMIRRORED)
    photographs = flip and not fashion and CIFAR not in letters
    chosen = Augment(
        crop_padding=max(data.resolution // (8 if flip else 16), 1),
        padding="reflect" if photographs else "zero",
        flip=flip,
        erase=0.25 if fashion and name != "light" else 0.0,
    )
    if name == "strong":
        return dataclasses.replace(chosen, randaugment=2, magnitude=9, erase=max(chosen.erase, 0.1))
    return chosen
