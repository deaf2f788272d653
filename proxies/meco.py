"""MeCo: how far the channels of every layer are from repeating one another."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..searchspace.errors import InvalidInputError
from .probe import BlockProbe, Probe
from .registry import register_proxy

__all__ = ["meco"]


def least_correlation_eigenvalue(features: Tensor) -> float | None:
    """Smallest eigenvalue of the correlation of a map's channels, in [0, 1].

    Args:
        features: of one image, ``[C, H, W]``.

    Returns:
        ``None`` where there are no more positions than channels: then it is 0 for any values.
        A constant channel correlates with none, itself included, and gives 0.
    """
    if features[0].numel() <= len(features):
        return None
    rows = features.flatten(1).double()
    rows = rows - rows.mean(dim=1, keepdim=True)
    # Of a constant channel rounding leaves something: less than this, relative to its size.
    floor = 1e-6 * features.flatten(1).double().norm(dim=1, keepdim=True)
    rows = torch.where(rows.norm(dim=1, keepdim=True) > floor, functional.normalize(rows), 0.0)
    return float(torch.linalg.eigvalsh(rows @ rows.T)[0].clamp_min(0.0))


def _block_eigenvalues(block: BlockProbe) -> list[float]:
    layers = block.maps or [block.output]
    values = (least_correlation_eigenvalue(x[0].detach()) for x in layers)
    return [value for value in values if value is not None]


@register_proxy("meco", source="MeCo (Jiang et al., NeurIPS 2023)", needs={"forward", "maps"})
def meco(probe: Probe) -> float:
    """Σ over layers of the smallest eigenvalue of their channels' correlation, one image.

    Layers are convolutions, before batch norm, and linear layers of Transformers; a step
    without any stands for itself. The image is the batch's first (published: N(0, 1) noise);
    initialisation N(0, 1). A layer with no more positions than channels gives 0 whatever it
    computes, so wide and deep layers do not count; where no layer has more, the candidate
    fails. Seeds agree among themselves with ρ about .5 only.
    """
    values = [v for block in probe.blocks for v in block.memo("meco", _block_eigenvalues)]
    if not values:
        raise InvalidInputError(
            "no layer has more positions than channels, so every smallest eigenvalue is 0; give"
            " larger images"
        )
    return sum(values)
