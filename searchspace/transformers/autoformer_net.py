"""ViTs of AutoFormer's tiny space as ViT-Bench trained them, plain and elastic.

Patches, a class token, learned positions, pre-norm blocks whose heads and feed-forward widths
differ, layer norm, the mean over the patch tokens, the classifier. The class token takes part
in the attention but is not what is classified: so the released code has it (Auto-Prox,
Wei et al., AAAI 2024), and its accuracies are those of such networks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn

from ..architecture import Architecture
from ..channels import ChannelGroup, Slot, Stream, feed_forward, layer, reads
from ..convnets.residual import copy_linear, materialise
from ..elastic import ElasticLinear, ElasticNetwork, Step, Trace, initialise
from .block import Block, ElasticBlock, positions_at, with_class_token
from .elastic import (
    EPS,
    ElasticEmbedding,
    ElasticLayerNorm,
    ElasticPatchConv,
    as_map,
    as_tokens,
)

__all__ = ["ElasticVisionTransformer", "ViTShape", "VisionTransformer"]


class ViTShape(NamedTuple):
    """What tells one network from another.

    Attributes:
        dim: width of the tokens.
        blocks: heads and feed-forward features of each block.
    """

    dim: int
    blocks: tuple[tuple[int, int], ...]


def _positioned(tokens: Tensor, table: Tensor, height: int, width: int) -> Tensor:
    """Tokens plus positions; the table's first row is the class token's."""
    return tokens + torch.cat([table[:1], positions_at(table[1:], height, width)])


def _pooled(tokens: Tensor) -> Tensor:
    """The mean over all tokens but the class token's."""
    return tokens[:, 1:].mean(dim=1)


class VisionTransformer(nn.Module):
    """A standalone network.

    Args:
        shape: widths and heads.
        grid: patches in a row, of the images that the positions belong to; for others they are
            interpolated.
        patch: side of a patch in pixels.
        num_classes: outputs of the classifier.
        in_channels: channels of the image.
        seed: of the initial weights; ``None`` leaves them unset.
    """

    def __init__(
        self,
        shape: ViTShape,
        *,
        grid: int,
        patch: int = 16,
        num_classes: int = 10,
        in_channels: int = 3,
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        dim = shape.dim
        with torch.device("meta"):
            self.patches = nn.Conv2d(in_channels, dim, patch, patch)
            self.class_token = nn.Embedding(1, dim)
            self.positions = nn.Embedding(1 + grid**2, dim)
            self.blocks = nn.Sequential(*(Block(dim, heads, ffn) for heads, ffn in shape.blocks))
            self.norm = nn.LayerNorm(dim, eps=EPS)
            self.head = nn.Linear(dim, num_classes)
        materialise(self, seed)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, classes]`` of images ``[B, C, H, W]``."""
        x = self.patches(x)
        tokens = with_class_token(self.class_token.weight, x)
        tokens = _positioned(tokens, self.positions.weight, *x.shape[2:])
        tokens = self.norm(self.blocks(tokens))
        return cast(Tensor, self.head(_pooled(tokens)))


class ElasticVisionTransformer(ElasticNetwork):
    """Every network up to a width and depth in one set of weights; a prefix of the blocks.

    Args:
        dim: largest width of the tokens.
        ffns: largest feed-forward features of each block.
        grid: see :class:`VisionTransformer`.
        patch: side of a patch in pixels.
        num_classes: outputs of the classifier.
        in_channels: channels of the image.
        shape_of: what tells an architecture from others.
        seed: of the initial weights.
        init: see :func:`~scholarch.searchspace.elastic.initialise`.
    """

    traits: ClassVar[frozenset[str]] = frozenset({"attention", "gelu"})

    def __init__(
        self,
        dim: int,
        ffns: tuple[int, ...],
        *,
        grid: int,
        patch: int,
        num_classes: int,
        in_channels: int,
        shape_of: Callable[[Architecture], ViTShape],
        seed: int = 0,
        init: str = "he",
    ) -> None:
        super().__init__()
        self._shape_of = shape_of
        self.grid = grid
        self.patch = patch
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.patches = ElasticPatchConv(in_channels, dim, patch, patch)
        self.class_token = ElasticEmbedding(1, dim)
        self.positions = ElasticEmbedding(1 + grid**2, dim)
        self.blocks = nn.ModuleList(ElasticBlock(dim, ffn) for ffn in ffns)
        self.norm = ElasticLayerNorm(dim)
        self.classifier = ElasticLinear(dim, num_classes)
        initialise(self, seed=seed, init=init)

    def _block(self, index: int) -> ElasticBlock:
        return cast(ElasticBlock, self.blocks[index])

    def steps(self, arch: Architecture) -> tuple[Step, ...]:
        dim, blocks = self._shape_of(arch)
        middle = [Step("block", (i, dim, heads, ffn)) for i, (heads, ffn) in enumerate(blocks)]
        return (Step("stem", (dim,)), *middle, Step("head", (dim,)))

    def run_step(self, step: Step, x: Tensor, trace: Trace) -> Tensor:
        if step.kind == "stem":
            (dim,) = step.args
            x = self.patches(x, dim, trace)
            tokens = with_class_token(self.class_token.slice(dim, trace), x)
            table = self.positions.slice(dim, trace)
            return as_map(_positioned(tokens, table, *x.shape[2:]))
        tokens = as_tokens(x)
        if step.kind == "head":
            return as_map(self.norm(tokens))
        index, _, heads, ffn = step.args
        return as_map(self._block(index)(tokens, heads, ffn, trace))

    def pool(self, x: Tensor, trace: Trace) -> Tensor:  # noqa: ARG002
        """The mean over the patch tokens, ``[B, C, 1, N]`` → ``[B, C]``."""
        return _pooled(as_tokens(x))

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """The features inside every feed-forward part, and those of the tokens.

        Not those of the heads: networks with three and with four share them, and no order but
        the present one suits both.
        """
        tokens = Stream("tokens", self.classifier.weight.shape[1], layer("patches"))
        tokens.writes += [Slot("class_token.weight", 1), Slot("positions.weight", 1)]
        groups = []
        for i in range(len(self.blocks)):
            name = f"blocks.{i}"
            groups.append(feed_forward(name, len(self._block(i).fc1.bias)))
            norms = layer(f"{name}.norm1", f"{name}.norm2")
            tokens.writes += [*norms, *layer(f"{name}.proj", f"{name}.fc2")]
            tokens.reads += reads(f"{name}.qkv", f"{name}.fc1")
        tokens.writes += layer("norm")
        tokens.reads += reads("classifier")
        return (*groups, tokens.group())

    def extract(self, arch: Architecture) -> VisionTransformer:
        shape = self._shape_of(arch)
        plain = VisionTransformer(
            shape,
            grid=self.grid,
            patch=self.patch,
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            seed=None,
        )
        self.patches.copy_into(plain.patches)
        self.class_token.copy_into(plain.class_token)
        self.positions.copy_into(plain.positions)
        for i, block in enumerate(plain.blocks):
            self._block(i).copy_into(cast(Block, block))
        self.norm.copy_into(plain.norm)
        copy_linear(self.classifier, plain.head)
        return plain.train(self.training)
