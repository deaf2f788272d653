"""Inputs by which two forms of a network are compared: images, token ids or waveforms."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...searchspace.examples import random_texts
from ...searchspace.modality import size_text
from ...searchspace.space import SearchSpace

__all__ = ["Image", "Sequences", "empty_inputs", "input_name", "seeded_images"]


@dataclass(frozen=True, slots=True)
class Sequences:
    """What an exported network of text or sound takes: the numbers themselves, not their bytes.

    Attributes:
        modality: ``"text"``: token ids, int64 ``[B, L]``; ``"sound"``: waveforms, float32
            ``[B, T]`` in [-1, 1).
        length: L or T.
        vocabulary: how many token ids there are; 0 of sound.
    """

    modality: str
    length: int
    vocabulary: int = 0

    @classmethod
    def of(cls, space: SearchSpace) -> Sequences:
        """What the networks of a space of text or sound take."""
        return cls(space.modality, space.resolution, space.vocabulary)

    @property
    def name(self) -> str:
        """Of the input of an exported file."""
        return "ids" if self.modality == "text" else "waveform"

    @property
    def said(self) -> str:
        """The input in words, as the comment of a line of code has it."""
        if self.modality == "text":
            return f"token ids int64 [B, {self.length}], padded with 0"
        return f"waveforms float32 [B, {self.length}] in [-1, 1), 16,000 samples a second"

    @property
    def size(self) -> str:
        """Of one, in words."""
        return size_text(self.modality, self.length)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Made-up ones: random words, some texts with padding; noise."""
        if self.modality == "text":
            return random_texts(self.vocabulary, count, self.length, generator)
        noise = torch.randn(count, self.length, generator=generator)
        return (0.1 * noise).clamp(-1.0, 1.0 - 2.0**-15)

    def empty(self, count: int, device: str) -> Tensor:
        """As many without values, on a device."""
        kind = torch.int64 if self.modality == "text" else torch.float32
        return torch.empty(count, self.length, dtype=kind, device=device)


Image = tuple[int, int, int] | Sequences
"""Channels, height and width of images, or what stands for images."""


def seeded_images(count: int, image: Image, seed: int = 0) -> Tensor:
    """Inputs, equal for equal seeds: images ``[count, C, H, W]``, ids or waveforms.

    Images are standard normal, as normalised ones are.

    Args:
        count: how many.
        image: channels, height and width, or what sequences.
        seed: of the draw; the global generator is not touched.
    """
    generator = torch.Generator().manual_seed(seed)
    if isinstance(image, Sequences):
        return image.sample(count, generator)
    return torch.randn(count, *image, generator=generator)


def empty_inputs(count: int, image: Image, device: str) -> Tensor:
    """Inputs without values, on a device."""
    if isinstance(image, Sequences):
        return image.empty(count, device)
    return torch.empty(count, *image, device=device)


def input_name(image: Image) -> str:
    """Of the only input of an exported file."""
    return image.name if isinstance(image, Sequences) else "images"
