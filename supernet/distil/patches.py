"""A Vision Transformer's stem for other images: of another size, and normalised otherwise."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ...searchspace.errors import InvalidInputError
from ...searchspace.transformers.block import positions_at
from ...searchspace.transformers.encoder import Encoder
from ...searchspace.transformers.patch_stem import PatchStem, PatchStemSpec

__all__ = ["fit_patches"]

Pair = tuple[Sequence[float], Sequence[float]]


@torch.no_grad()
def fit_patches(
    encoder: Encoder,
    stem: PatchStemSpec,
    *,
    given: Pair | None = None,
    wanted: Pair | None = None,
) -> Encoder:
    """A copy of a ViT that takes other images, as its students do, and sees in them the same.

    A patch of other pixels is what the ViT makes of that patch brought to its own size by
    bilinear interpolation, a linear map that goes into the convolution's weight (the transpose of
    the resizing; FlexiViT, Beyer et al., CVPR 2023, §3.4, starts there). It is exact but for
    pixels that whole images blend across the edges of patches. Positions are interpolated.

    Args:
        encoder: left as it is.
        stem: what its patches are to be.
        given: mean and deviation of the channels of the images it was trained on; ``None`` with
            ``wanted``: they stay.
        wanted: likewise of the images it is to take.

    Raises:
        InvalidInputError: if it is no ViT, or the numbers of channels differ.
    """
    old = encoder.stem
    if not isinstance(old, PatchStem) or not isinstance(encoder.spec, PatchStemSpec):
        raise InvalidInputError("patches are fitted, and this encoder's inputs are no images")
    channels = encoder.spec.in_channels
    told = [values for pair in (given, wanted) if pair is not None for values in pair]
    if stem.in_channels != channels or any(len(values) != channels for values in told):
        raise InvalidInputError(
            f"the encoder takes images of {channels} channels, its students of {stem.in_channels};"
            " give data of as many"
        )
    if (stem.norm > 0.0) != (old.norm is not None):
        raise InvalidInputError(
            "of the encoder's stem and its students' one alone has a layer norm; make the space"
            " from this teacher"
        )
    fitted = copy.deepcopy(encoder)
    with torch.device("meta"):  # so that no generator is drawn from
        new = stem.plain(encoder.shape.dim)
    fitted.spec, fitted.stem = stem, new.to_empty(device=old.conv.weight.device)
    weight, bias = old.conv.weight, old.conv.bias
    if bias is None:
        bias = weight.new_zeros(len(weight))
    weight = _resized(weight, stem.patch)
    if given is not None and wanted is not None:
        (mean, std), (own_mean, own_std) = (
            [torch.tensor(values).to(weight) for values in pair] for pair in (given, wanted)
        )
        bias = bias + weight.sum(dim=(2, 3)) @ ((own_mean - mean) / std)
        weight = weight * (own_std / std).view(1, -1, 1, 1)
    new.conv.weight.copy_(weight)
    if new.conv.bias is not None:
        new.conv.bias.copy_(bias)
    new.class_token.weight.copy_(old.class_token.weight)
    table = old.positions.weight
    if new.norm is not None and old.norm is not None:
        new.norm.load_state_dict(old.norm.state_dict())
    moved = positions_at(table[1:], stem.grid, stem.grid)
    new.positions.weight.copy_(torch.cat([table[:1], moved]))
    return fitted.train(encoder.training)


def _resized(weight: Tensor, side: int) -> Tensor:
    """Weights ``[D, C, P, P]`` on patches of ``side`` pixels that are resized to P."""
    large = weight.shape[2]
    if side == large:
        return weight
    # What each pixel of a patch becomes, [side², P, P].
    pixels = torch.eye(side * side).to(weight).view(-1, 1, side, side)
    seen = functional.interpolate(pixels, (large, large), mode="bilinear", antialias=True)[:, 0]
    fitted: Tensor = torch.einsum("dcab,kab->dck", weight, seen).unflatten(2, (side, side))
    return fitted
