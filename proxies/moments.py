"""Means, Gram matrices and cross products of feature maps, of several candidates at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Moments", "cross", "moments", "per_image", "to_depth"]


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """First and second moments of K candidates' maps over all positions of all their images.

    Attributes:
        mean: of each channel, float64 ``[K, C]``.
        gram: Gram matrix of what is left without it, float64 ``[K, C, C]``.
        positions: B·H·W.
    """

    mean: Tensor
    gram: Tensor
    positions: int


def moments(features: Tensor, images: int | None = None) -> Moments:
    """Moments of each candidate's features.

    Args:
        features: ``[K·B, C, H, W]``, candidate after candidate.
        images: B; ``None``: all are one candidate's.
    """
    maps = features.detach().float()
    images = images or len(maps)
    candidates, positions = len(maps) // images, images * maps.shape[2] * maps.shape[3]
    mean = maps.permute(0, 2, 3, 1).reshape(candidates, positions, -1).mean(dim=1)
    # Centring first keeps the small eigenvalues, which E[xxᵀ] − μμᵀ would cancel away.
    centred = maps - per_image(mean, images)
    return Moments(mean.double(), cross(centred, centred, images).double(), positions)


def per_image(values: Tensor, images: int) -> Tensor:
    """Values of each candidate's channels ``[K, C]`` to go with maps ``[K·B, C, H, W]``."""
    if len(values) > 1:
        values = values.repeat_interleave(images, dim=0)
    return values[..., None, None]


def cross(a: Tensor, b: Tensor, images: int | None = None) -> Tensor:
    """Σ over positions of all images of aᵀb, where a patch of ``a`` counts as one position.

    Args:
        a: ``[K·B, C, H, W]``, candidate after candidate.
        b: ``[K·B, C', h, w]``, positions of both matched by :func:`to_depth`.
        images: B; ``None``: all are one candidate's.

    Returns:
        ``[K, C·s·t, C']``, s × t the patch.
    """
    images = images or len(a)
    if a.device.type != "cpu":
        return _products(a, b, images)
    a, sides = _padded(a, b.shape[2], b.shape[3])
    if len(a) == images:
        return _cross(a, b, sides).unsqueeze(0)
    pairs = zip(a.split(images), b.split(images), strict=True)
    return torch.stack([_cross(x, y, sides) for x, y in pairs])


def _cross(a: Tensor, b: Tensor, sides: tuple[int, int]) -> Tensor:
    """The same for one candidate, ``[C·s·t, C']``: the gradient of a convolution's weight.

    oneDNN takes it in up to half the time of a product of matrices so narrow.
    """
    weight = a.new_empty(b.shape[1], a.shape[1], *sides)
    mask = [False, True, False]
    found = torch.ops.aten.convolution_backward(
        b, a, weight, None, sides, (0, 0), (1, 1), False, (0, 0), 1, mask
    )
    gradient: Tensor = found[1]
    return gradient.flatten(1).T


def _products(a: Tensor, b: Tensor, images: int) -> Tensor:
    """The same for all candidates at once, by a product of matrices."""
    height, width = b.shape[2:]
    left = to_depth(a, height, width).unflatten(0, (-1, images * height * width))
    right = b.permute(0, 2, 3, 1).unflatten(0, (-1, images)).flatten(1, 3)
    products: Tensor = left.mT @ right
    return products


def to_depth(x: Tensor, height: int, width: int) -> Tensor:
    """Patches of a map as channels, so that ``height × width`` positions are left.

    Zeros fill up the last patches where the sides are no multiples.

    Args:
        x: ``[B, C, H, W]``.
        height: at most H.
        width: at most W.

    Returns:
        ``[B·height·width, C·s·t]``, s × t the patch.
    """
    x, (s, t) = _padded(x, height, width)
    patches: Tensor = x.unflatten(3, (width, t)).unflatten(2, (height, s))  # [B, C, h, s, w, t]
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(len(x) * height * width, -1)


def _padded(x: Tensor, height: int, width: int) -> tuple[Tensor, tuple[int, int]]:
    """A map of ``height × width`` whole patches, and their sides."""
    s, t = -(-x.shape[2] // height), -(-x.shape[3] // width)
    padding = (0, t * width - x.shape[3], 0, s * height - x.shape[2])
    return (functional.pad(x, padding) if any(padding) else x), (s, t)
