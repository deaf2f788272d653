"""Costs of a Transformer's parts, for N architectures at once, and checks of its options."""

from __future__ import annotations

import numpy as np

from ..convnets.staged import Count, Tally
from ..errors import InvalidInputError
from .style import EncoderStyle

__all__ = [
    "check_patch",
    "count_blocks",
    "count_head",
    "count_layers",
    "count_pool",
    "count_stem",
    "patches_in",
]


def check_patch(name: str, patch: int, resolution: int, *, by: int = 1) -> int:
    """The side of a patch itself.

    Args:
        name: of the space.
        patch: in pixels.
        resolution: of the images.
        by: what it has to be a multiple of.

    Raises:
        InvalidInputError: if it is no multiple of ``by`` or exceeds the image.
    """
    if isinstance(patch, bool) or not isinstance(patch, int) or patch < by or patch % by:
        raise InvalidInputError(
            f"patch_size = {patch!r} for space {name!r}; need a positive multiple of {by}"
        )
    patches_in(resolution, patch, patch)
    return patch


def patches_in(resolution: int, patch: int, stride: int) -> int:
    """Patches in a row; raises :class:`InvalidInputError` where none fits."""
    # What is no number at all is the space's own check to refuse.
    if isinstance(resolution, int) and 1 <= resolution < patch:
        raise InvalidInputError(
            f"resolution = {resolution}: no patch of {patch}×{patch} pixels fits; need at least"
            f" {patch}, or a smaller patch_size"
        )
    return int((resolution - patch) // stride) + 1


def count_stem(
    tally: Tally, dim: Count, *, in_channels: int, side: int, patch: int, grid: int, vectors: int
) -> None:
    """Add the patches' convolution, the class token and the positions.

    Args:
        tally: where to.
        dim: width of the tokens.
        in_channels: channels of the image.
        side: of the image, in pixels.
        patch: side of the kernel.
        grid: patches in a row.
        vectors: learned ones, class token and positions together.
    """
    weights = float(in_channels * patch**2) * dim
    tally.params = tally.params + weights + dim * (1.0 + vectors)
    tally.macs = tally.macs + weights * float(grid**2)
    tally.layers = tally.layers + 1.0
    tally.peak = np.maximum(tally.peak, in_channels * side**2 + dim * float(grid**2))


def count_blocks(tally: Tally, dim: Count, ffn: Count, tokens: int, times: Count = 1.0) -> None:
    """Add encoder blocks: four linear layers, two layer norms, the attention's two products.

    Args:
        tally: where to.
        dim: width of the tokens.
        ffn: features inside the feed-forward part.
        tokens: how many, the class token included.
        times: how many blocks; 0 leaves the architecture as it is.
    """
    weights = 4.0 * dim * dim + 2.0 * dim * ffn
    tally.params = tally.params + times * (weights + 9.0 * dim + ffn)
    tally.macs = tally.macs + times * (tokens * weights + 2.0 * tokens**2 * dim)
    tally.layers = tally.layers + 4.0 * times
    widest = tokens * np.maximum(4.0 * dim, dim + ffn)
    tally.peak = np.maximum(tally.peak, np.where(np.asarray(times) > 0, widest, 0.0))


def count_layers(
    tally: Tally,
    dim: Count,
    heads: Count,
    ffn: Count,
    tokens: int,
    style: EncoderStyle,
    times: Count = 1.0,
) -> None:
    """Add encoder layers whose attention is as wide as its heads, not as the tokens.

    Args:
        tally: where to.
        dim: width of the tokens.
        heads: of the attention.
        ffn: features inside the feed-forward part.
        tokens: how many.
        style: width of a head, scaled branches, relative positions.
        times: how many layers; 0 leaves the architecture as it is.
    """
    width = heads * float(style.head_dim)
    weights = 4.0 * dim * width + 2.0 * dim * ffn
    rest = 3.0 * width + 6.0 * dim + ffn  # biases and two layer norms
    if style.layer_scale:
        rest = rest + 2.0 * dim
    products = 2.0
    if style.relative:
        rest = rest + 4.0 * (2 * style.relative + 2) * style.head_dim
        products = 4.0
    tally.params = tally.params + times * (weights + rest)
    tally.macs = tally.macs + times * (tokens * weights + products * tokens**2 * width)
    tally.layers = tally.layers + 4.0 * times
    widest = tokens * np.maximum(dim + 3.0 * width, dim + ffn)
    tally.peak = np.maximum(tally.peak, np.where(np.asarray(times) > 0, widest, 0.0))


def count_pool(tally: Tally, dim: Count, out_dim: Count, side: int, smaller: int) -> None:
    """Add a PiT's pooling: a depthwise 3×3 convolution, a linear layer for the class token.

    Args:
        tally: where to.
        dim: width of the tokens given.
        out_dim: width of the tokens returned.
        side: of the map given.
        smaller: side of the map returned.
    """
    linear = dim * out_dim
    tally.params = tally.params + (9.0 + 1.0) * out_dim + linear + out_dim
    tally.macs = tally.macs + 9.0 * out_dim * float(smaller**2) + linear
    tally.layers = tally.layers + 1.0
    values = dim * float(side**2) + out_dim * float(smaller**2)
    tally.peak = np.maximum(tally.peak, np.maximum(values, dim + out_dim))


def count_head(tally: Tally, dim: Count, classes: int) -> None:
    """Add the last layer norm and the classifier."""
    tally.params = tally.params + dim * (2.0 + classes) + classes
    tally.macs = tally.macs + dim * float(classes)
    tally.layers = tally.layers + 1.0
    tally.peak = np.maximum(tally.peak, dim + float(classes))
