"""RandAugment on batches of tensors (Cubuk et al., NeurIPS 2020, §3).

Every image goes through ``n`` operations in a row, each drawn evenly from
:data:`OPERATIONS`, at one magnitude; the direction of a rotation, or whether brightness goes
up or down, is a coin's. Ranges are those of AutoAugment (Cubuk et al., CVPR 2019, table 6)
on a scale of 0 to 30, but for translations, which move by up to 0.45 of the side.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["MAX_MAGNITUDE", "OPERATIONS", "blend", "grey", "rand_augment"]

MAX_MAGNITUDE = 30

MAX_SHEAR = 0.3
MAX_SHIFT = 0.45  # of the side
MAX_ROTATION = 30.0  # degrees
MAX_ENHANCEMENT = 0.9  # factors reach from 0.1 to 1.9
POSTERIZE_BITS = (4, 8)

#: ITU-R 601, as everywhere in image processing.
LUMA = (0.299, 0.587, 0.114)

GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
OPERATIONS = (
    "identity",
    "autocontrast",
    "equalize",
    "brightness",
    "contrast",
    "colour",
    "sharpness",
    "posterize",
    "solarize",
    *GEOMETRIC,
)


def rand_augment(images: Tensor, count: int, magnitude: int, generator: torch.Generator) -> Tensor:
    """Send every image through operations of its own.

    Args:
        images: float ``[B, C, H, W]`` in [0, 1]; left as they are.
        count: operations an image.
        magnitude: 0 to 30.
        generator: on the CPU.

    Returns:
        Like ``images``. What a geometric operation brings in from outside is zero.
    """
    level = magnitude / MAX_MAGNITUDE
    for _ in range(count):
        drawn = torch.rand(len(images), 2, generator=generator)
        operation = (drawn[:, 0] * len(OPERATIONS)).long()
        sign = torch.where(drawn[:, 1] < 0.5, -1.0, 1.0)
        out = images.clone()
        # The geometric ones share one resampling, so they come as one group.
        first = len(OPERATIONS) - len(GEOMETRIC)
        for index, name in enumerate(OPERATIONS[1:first], start=1):
            members = (operation == index).nonzero()[:, 0]
            if len(members):
                where = members.to(images.device)
                signed = sign[members].to(images.device, images.dtype) * level
                out[where] = _pixelwise(name, images[where], level, signed.view(-1, 1, 1, 1))
        members = (operation >= first).nonzero()[:, 0]
        if len(members):
            where = members.to(images.device)
            matrices = _matrices(operation[members] - first, sign[members] * level)
            out[where] = _warp(images[where], matrices)
        images = out
    return images


def grey(images: Tensor) -> Tensor:
    """Brightness of ``[B, C, H, W]`` as ``[B, 1, H, W]``; the mean where C is not 3."""
    if images.shape[1] != len(LUMA):
        return images.mean(1, keepdim=True)
    weights = images.new_tensor(LUMA).view(1, -1, 1, 1)
    return (images * weights).sum(1, keepdim=True)


def blend(base: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """``base`` at factor 0, ``images`` at 1, beyond them above 1; cut to [0, 1]."""
    return (base + (images - base) * factor).clamp(0.0, 1.0)


def _pixelwise(name: str, images: Tensor, level: float, signed: Tensor) -> Tensor:
    factor = 1.0 + MAX_ENHANCEMENT * signed
    match name:
        case "autocontrast":
            low = images.amin((2, 3), keepdim=True)
            span = images.amax((2, 3), keepdim=True) - low
            # A channel of one value stays as it is.
            return torch.where(span > 0, (images - low) / span.clamp(min=1e-6), images)
        case "equalize":
            return _equalize(images)
        case "brightness":
            return (images * factor).clamp(0.0, 1.0)
        case "contrast":
            return blend(grey(images).mean((2, 3), keepdim=True), images, factor)
        case "colour":
            return blend(grey(images), images, factor)
        case "sharpness":
            return blend(_smooth(images), images, factor)
        case "posterize":
            least, most = POSTERIZE_BITS
            step = float(2 ** (8 - round(most - (most - least) * level)))
            return _bytes(images).div(step, rounding_mode="floor") * (step / 255.0)
        case _:  # solarize
            return torch.where(images >= 1.0 - level, 1.0 - images, images)


def _bytes(images: Tensor) -> Tensor:
    return (images * 255.0).round()


def _smooth(images: Tensor) -> Tensor:
    """A 3x3 mean in which the pixel itself counts five times; the border stays."""
    if min(images.shape[2:]) < 3:
        return images
    channels = images.shape[1]
    kernel = images.new_ones(3, 3)
    kernel[1, 1] = 5.0
    kernel = (kernel / kernel.sum()).expand(channels, 1, 3, 3)
    out = images.clone()
    out[:, :, 1:-1, 1:-1] = functional.conv2d(images, kernel, groups=channels)
    return out


def _equalize(images: Tensor) -> Tensor:
    """Values by their rank in the channel: ``(cdf - cdf_min) / (pixels - cdf_min)``."""
    values = _bytes(images).long().flatten(2)
    histogram = images.new_zeros(*values.shape[:2], 256)
    histogram.scatter_add_(2, values, torch.ones_like(values, dtype=images.dtype))
    cumulated = histogram.cumsum(2)
    lowest = cumulated.gather(2, values.amin(2, keepdim=True))
    rest = values.shape[2] - lowest
    ranks = ((cumulated - lowest) / rest.clamp(min=1.0)).gather(2, values).view(images.shape)
    return torch.where((rest > 0)[..., None], ranks, images)


def _matrices(operation: Tensor, signed: Tensor) -> Tensor:
    """``[B, 2, 3]``: where in the source, in units of half a side, a target pixel comes from."""
    rotated, sheared_x, sheared_y, moved_x, moved_y = (
        torch.where(operation == index, signed, 0.0) for index in range(len(GEOMETRIC))
    )
    angle = rotated * math.radians(MAX_ROTATION)
    cosine, sine = angle.cos(), angle.sin()
    rows = (
        torch.stack((cosine, sheared_x * MAX_SHEAR - sine, moved_x * 2 * MAX_SHIFT), 1),
        torch.stack((sheared_y * MAX_SHEAR + sine, cosine, moved_y * 2 * MAX_SHIFT), 1),
    )
    return torch.stack(rows, 1)


def _warp(images: Tensor, matrices: Tensor) -> Tensor:
    matrices = matrices.to(images.device, images.dtype)
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
    # Interpolation may leave [0, 1] by a rounding.
    return functional.grid_sample(images, grid, align_corners=False).clamp(0.0, 1.0)
