"""Images by which two forms of a network are compared."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["seeded_images"]


def seeded_images(count: int, image: tuple[int, int, int], seed: int = 0) -> Tensor:
    """Standard normal images ``[count, C, H, W]``, as normalised ones are, equal for equal seeds.

    Args:
        count: how many.
        image: channels, height and width.
        seed: of the draw; the global generator is not touched.
    """
    return torch.randn(count, *image, generator=torch.Generator().manual_seed(seed))
