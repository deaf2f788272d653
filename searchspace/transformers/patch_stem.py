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
from .elastic import ElasticEmbedding, ElasticLayerNorm, ElasticPatchConv
from .stem import ElasticStem, Stem, StemSpec

__all__ = ["ElasticPatchStem", "PatchStem", "PatchStemSpec"]


@dataclass(frozen=True)
class PatchStemSpec(StemSpec):
    """Patches of images.

    Attributes:
        patch: side in pixels; what is left over at the edge is not seen.
        grid: patches in a row of the images that the positions belong to.
        in_channels: channels of the images.
        norm: ε of a layer norm behind the positions, as CLIP has one; 0: there is none.
    """

    modality: ClassVar[str] = "image"

    patch: int = 16
    grid: int = 14
    in_channels: int = 3
    norm: float = 0.0

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
        if self.norm:
            tally.params = tally.params + 2.0 * dim

    def details(self) -> str:
        norm = ", layer norm" if self.norm else ""
        return f"{self.patch}×{self.patch} patches, class token, positions{norm}"


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
        self.norm: nn.LayerNorm | None = nn.LayerNorm(dim, eps=spec.norm) if spec.norm else None

    def forward(self, x: Tensor) -> Tensor:
        tokens = _positioned(self.class_token.weight, self.positions.weight, self.conv(x))
        return tokens if self.norm is None else self.norm(tokens)


class ElasticPatchStem(ElasticStem):
    """:class:`PatchStem` of every width up to the largest."""

    def __init__(self, spec: PatchStemSpec, dim: int) -> None:
        super().__init__()
        self.conv = ElasticPatchConv(spec.in_channels, dim, spec.patch, spec.patch)
        self.class_token = ElasticEmbedding(1, dim)
        self.positions = ElasticEmbedding(1 + spec.grid**2, dim)
        self.norm: ElasticLayerNorm | None = ElasticLayerNorm(dim, spec.norm) if spec.norm else None

    def forward(self, x: Tensor, dim: int, trace: Trace) -> Tensor:
        token, table = self.class_token.slice(dim, trace), self.positions.slice(dim, trace)
        tokens = _positioned(token, table, self.conv(x, dim, trace))
        return tokens if self.norm is None else self.norm(tokens)

    def copy_into(self, plain: PatchStem) -> None:
        self.conv.copy_into(plain.conv)
        self.class_token.copy_into(plain.class_token)
        self.positions.copy_into(plain.positions)
        if self.norm is not None and plain.norm is not None:
            self.norm.copy_into(plain.norm)

    def slots(self) -> tuple[Sequence[Slot], Sequence[Slot]]:
        tables = [Slot("class_token.weight", 1), Slot("positions.weight", 1)]
        norm = layer("norm") if self.norm is not None else []
        return [*layer("conv"), *tables, *norm], []
