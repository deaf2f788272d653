"""Feature maps in whatever layout a network keeps them, as ``[B, C, h, w]``.

Convolutional networks keep ``[B, C, h, w]``, some transformers ``[B, h, w, C]`` (Swin in
timm), others token sequences ``[B, N, C]`` with class or register tokens in front (ViT). Text and
sound are images of height 1, and every one of their tokens counts, ``[B, C, 1, N]``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

__all__ = ["as_map", "input_size", "is_sequence", "map_shape"]

#: More class and register tokens than any published network has.
MAX_PREFIX_TOKENS = 16


def input_size(x: Tensor) -> tuple[int, int]:
    """Height and width of a network's input: of images, of token ids ``[B, L]`` or a waveform."""
    return (int(x.shape[2]), int(x.shape[3])) if x.dim() == 4 else (1, int(x.shape[-1]))


def is_sequence(image: tuple[int, int]) -> bool:
    """Whether an input's size is that of text or sound, whose tokens follow one another."""
    return image[0] == 1 < image[1]


def _fits(h: int, w: int, image: tuple[int, int]) -> bool:
    """Whether ``h × w`` has the image's aspect ratio, to within a pixel."""
    return abs(h * image[1] - w * image[0]) < max(image)


def _token_grid(tokens: int, image: tuple[int, int]) -> tuple[int, int] | None:
    """Height and width of the grid that N tokens cover, the rest being a prefix."""
    if is_sequence(image):
        return 1, tokens
    for prefix in range(min(MAX_PREFIX_TOKENS, tokens - 1) + 1):
        area = tokens - prefix
        h = round(math.sqrt(area * image[0] / image[1]))
        if h > 0 and area % h == 0 and _fits(h, area // h, image):
            return h, area // h
    return None


def _is_channels_last(shape: Sequence[int], image: tuple[int, int]) -> bool:
    """A 4-D shape of which only the dimensions 1 and 2 have the image's aspect ratio."""
    if is_sequence(image):
        return False
    return not _fits(shape[2], shape[3], image) and _fits(shape[1], shape[2], image)


def map_shape(shape: Sequence[int], image: tuple[int, int]) -> tuple[int, int, int] | None:
    """Channels, height and width of the feature map that an output of ``shape`` holds.

    Args:
        shape: with the batch dimension.
        image: height and width of the network's input, in pixels.

    Returns:
        ``None`` where it is no feature map.
    """
    if len(shape) == 4:
        if _is_channels_last(shape, image):
            return shape[3], shape[1], shape[2]
        if is_sequence(image) and shape[2] != 1:
            return None
        # Anything else, say queries by keys of an attention, has not the image's aspect.
        return (shape[1], shape[2], shape[3]) if _fits(shape[2], shape[3], image) else None
    if len(shape) == 3 and (grid := _token_grid(shape[1], image)) is not None:
        return shape[2], *grid
    return None


def as_map(output: Tensor, image: tuple[int, int]) -> Tensor | None:
    """An output as ``[B, C, h, w]``, prefix tokens dropped; ``None`` where it is no map."""
    shape = map_shape(output.shape, image)
    if shape is None:
        return None
    channels, h, w = shape
    if output.dim() == 3:
        return output[:, -h * w :].transpose(1, 2).reshape(len(output), channels, h, w)
    return output.permute(0, 3, 1, 2) if _is_channels_last(output.shape, image) else output
