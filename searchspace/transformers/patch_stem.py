"""Images to tokens: patches by a strided convolution, a class token, learned positions.

Dosovitskiy et al., ICLR 2021, §3.1. Positions belong to one resolution; at others they are
interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..channels import Slot, layer
from ..convnets.staged import Count, Tally
from ..trace import Trace
from .block import positions_at, with_class_token
from .counts import count_stem, patches_in
from .elastic import ElasticEmbedding, ElasticPatchConv
from .stem import ElasticStem, Stem, StemSpec

__all__ = ["ElasticPatchStem", "PatchStem", "PatchStemSpec"]


@dataclass(frozen=True)
class PatchStemSpec(StemSpec):
    """Patches of images.

    Attributes:
        patch: side in pixels; what is left over at the edge is not seen.
        grid: patches in a row of the images that the positions belong to.
        in_channels: channels of the images.
    """

    modality: ClassVar[str] = "image"

    patch: int = 16
    grid: int = 14
    in_channels: int = 3

    def plain(self, dim: int) -> PatchStem:
        return PatchStem(self, dim)

    def elastic(self, dim: int) -> ElasticPatchStem:
        return ElasticPatchStem(self, dim)

    def tokens(self, resolution: int) -> int:
        return 1 + patches_in(resolution, self.patch, self.patch) ** 2

    def count(self, tally: Tally, dim: Count, resolution: int) -> None:
        count_stem(
            tally,
            dim,
            in_channels=self.in_channels,
            side=resolution,
            patch=self.patch,
            grid=patches_in(resolution, self.patch, self.patch),
            vectors=2 + self.grid**2,
        )

    def details(self) -> str:
        return f"{self.patch}×{self.patch} patches, class token, positions"


def _positioned(token: Tensor, table: Tensor, patches: Tensor) -> Tensor:
    """Class token and patches, each with its position; the table's first row is the token's."""
    height, width = patches.shape[2:]
    tokens = with_class_token(token, patches)
    return tokens + torch.cat([table[:1], positions_at(table[1:], height, width)])


class PatchStem(Stem):
    """Patches of one width.

    Args:
        spec: what they are.
        dim: width of the tokens.
    """

    def __init__(self, spec: PatchStemSpec, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(spec.in_channels, dim, spec.patch, spec.patch)
        self.class_token = nn.Embedding(1, dim)
        self.positions = nn.Embedding(1 + spec.grid**2, dim)

    def forward(self, x: Tensor) -> Tensor:
        return _positioned(self.class_token.weight, self.positions.weight, self.conv(x))


class ElasticPatchStem(ElasticStem):
    """:class:`PatchStem` of every width up to the largest."""

    def __init__(self, spec: PatchStemSpec, dim: int) -> None:
        super().__init__()
        self.conv = ElasticPatchConv(spec.in_channels, dim, spec.patch, spec.patch)
        self.class_token = ElasticEmbedding(1, dim)
        self.positions = ElasticEmbedding(1 + spec.grid**2, dim)

    def forward(self, x: Tensor, dim: int, trace: Trace) -> Tensor:
        token, table = self.class_token.slice(dim, trace), self.positions.slice(dim, trace)
        return _positioned(token, table, self.conv(x, dim, trace))

    def copy_into(self, plain: PatchStem) -> None:
        self.conv.copy_into(plain.conv)
        self.class_token.copy_into(plain.class_token)
        self.positions.copy_into(plain.positions)

    def slots(self) -> tuple[Sequence[Slot], Sequence[Slot]]:
        tables = [Slot("class_token.weight", 1), Slot("positions.weight", 1)]
        return [*layer("conv"), *tables], []
