"""Pooling-based Vision Transformers, plain and elastic.

Heo et al., ICCV 2021, §3.2 and Fig. 4: overlapping patches by a strided convolution with
learned positions, three stages of pre-norm blocks, between stages a strided depthwise
convolution of the patches and a linear layer for the class token, layer norm, the classifier
on the class token. As ViT-Bench trained them: the heads of a stage times one base width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn

from ..architecture import Architecture
from ..channels import ChannelGroup, feed_forward
from ..convnets.residual import copy_linear, materialise
from ..elastic import ElasticLinear, ElasticNetwork, Step, Trace, initialise
from .block import Block, ElasticBlock, positions_at, with_class_token
from .elastic import (
    EPS,
    ElasticEmbedding,
    ElasticLayerNorm,
    ElasticPatchConv,
    ElasticProjection,
    as_map,
    as_tokens,
)

__all__ = ["ElasticPiT", "PiT", "PiTShape"]


class PiTShape(NamedTuple):
    """What tells one network from another.

    Attributes:
        dims: width of the tokens of each stage, each a multiple of the one before.
        heads: of each stage.
        ffns: feed-forward features of each stage.
        depths: blocks of each stage.
    """

    dims: tuple[int, ...]
    heads: tuple[int, ...]
    ffns: tuple[int, ...]
    depths: tuple[int, ...]


def _positioned(x: Tensor, table: Tensor) -> Tensor:
    """A map of patches plus its positions, ``[B, C, H, W]``."""
    height, width = x.shape[2:]
    return x + positions_at(table, height, width).T.reshape(1, -1, height, width)


def _class_token(tokens: Tensor) -> Tensor:
    """The first token, ``[B, 1 + HW, C]`` → ``[B, 1, C]``."""
    # Of a strided view torch multiplies in another order where the weight wants no gradient.
    return tokens[:, :1].contiguous()


def _patches(tokens: Tensor, height: int) -> Tensor:
    """The tokens behind the class token as a map, ``[B, 1 + HW, C]`` → ``[B, C, H, W]``."""
    patches: Tensor = tokens[:, 1:].transpose(1, 2).unflatten(2, (height, -1))
    return patches


class Pooling(nn.Module):
    """Half the resolution between two stages.

    Args:
        dim: width of the tokens given.
        out_dim: width of the tokens returned, a multiple of ``dim``.
    """

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, out_dim, 3, 2, 1, groups=dim)
        self.fc = nn.Linear(dim, out_dim)

    def forward(self, tokens: Tensor, height: int) -> Tensor:
        """``[B, 1 + HW, C]`` → ``[B, 1 + H'W', C']``."""
        token = self.fc(_class_token(tokens))
        return with_class_token(token, self.conv(_patches(tokens, height)))


class ElasticPooling(nn.Module):
    """:class:`Pooling` of elastic widths."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.conv = ElasticPatchConv(dim, out_dim, 3, 2, padding=1, depthwise=True)
        self.fc = ElasticProjection(dim, out_dim)

    def forward(self, tokens: Tensor, height: int, out_dim: int, trace: Trace) -> Tensor:
        """``[B, 1 + HW, C]`` → ``[B, 1 + H'W', out_dim]``."""
        token = self.fc(_class_token(tokens), out_dim, trace)
        return with_class_token(token, self.conv(_patches(tokens, height), out_dim, trace))

    def copy_into(self, plain: Pooling) -> None:
        """Copy the slices that a plain layer holds."""
        self.conv.copy_into(plain.conv)
        self.fc.copy_into(plain.fc)


class PiT(nn.Module):
    """A standalone network.

    Args:
        shape: widths, heads and depths.
        grid: patches in a row, of the images that the positions belong to; for others they are
            interpolated.
        patch: side of a patch in pixels; half of it is the stride.
        num_classes: outputs of the classifier.
        in_channels: channels of the image.
        seed: of the initial weights; ``None`` leaves them unset.
    """

    def __init__(
        self,
        shape: PiTShape,
        *,
        grid: int,
        patch: int = 16,
        num_classes: int = 10,
        in_channels: int = 3,
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        dims = shape.dims
        with torch.device("meta"):
            self.patches = nn.Conv2d(in_channels, dims[0], patch, patch // 2)
            self.class_token = nn.Embedding(1, dims[0])
            self.positions = nn.Embedding(grid**2, dims[0])
            self.stages = nn.ModuleList(
                nn.Sequential(*(Block(dim, heads, ffn) for _ in range(depth)))
                for dim, heads, ffn, depth in zip(*shape, strict=True)
            )
            pairs = pairwise(dims)
            self.pools = nn.ModuleList(Pooling(dim, out_dim) for dim, out_dim in pairs)
            self.norm = nn.LayerNorm(dims[-1], eps=EPS)
            self.head = nn.Linear(dims[-1], num_classes)
        materialise(self, seed)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, classes]`` of images ``[B, C, H, W]``."""
        x = _positioned(self.patches(x), self.positions.weight)
        height = x.shape[2]
        tokens = with_class_token(self.class_token.weight, x)
        for i, stage in enumerate(self.stages):
            if i:
                tokens = self.pools[i - 1](tokens, height)
                height = (height + 1) // 2
            tokens = stage(tokens)
        return cast(Tensor, self.head(self.norm(tokens)[:, 0]))


class ElasticPiT(ElasticNetwork):
    """Every PiT up to the given widths and depths in one set of weights; images are square.

    Args:
        largest: largest widths, feed-forward features and depths; its heads do not matter.
        grid: see :class:`PiT`.
        patch: side of a patch in pixels; half of it is the stride.
        num_classes: outputs of the classifier.
        in_channels: channels of the image.
        shape_of: what tells an architecture from others.
        seed: of the initial weights.
        init: see :func:`~scholarch.searchspace.elastic.initialise`.
    """

    traits: ClassVar[frozenset[str]] = frozenset({"attention", "gelu"})

    def __init__(
        self,
        largest: PiTShape,
        *,
        grid: int,
        patch: int,
        num_classes: int,
        in_channels: int,
        shape_of: Callable[[Architecture], PiTShape],
        seed: int = 0,
        init: str = "he",
    ) -> None:
        super().__init__()
        self._shape_of = shape_of
        self.grid = grid
        self.patch = patch
        self.num_classes = num_classes
        self.in_channels = in_channels
        dims = largest.dims
        self.patches = ElasticPatchConv(in_channels, dims[0], patch, patch // 2)
        self.class_token = ElasticEmbedding(1, dims[0])
        self.positions = ElasticEmbedding(grid**2, dims[0])
        self.stages = nn.ModuleList(
            nn.ModuleList(ElasticBlock(dim, ffn) for _ in range(depth))
            for dim, _, ffn, depth in zip(*largest, strict=True)
        )
        pairs = pairwise(dims)
        self.pools = nn.ModuleList(ElasticPooling(dim, out_dim) for dim, out_dim in pairs)
        self.norm = ElasticLayerNorm(dims[-1])
        self.classifier = ElasticLinear(dims[-1], num_classes)
        initialise(self, seed=seed, init=init)

    def _block(self, stage: int, index: int) -> ElasticBlock:
        return cast(ElasticBlock, cast(nn.ModuleList, self.stages[stage])[index])

    def _pooling(self, index: int) -> ElasticPooling:
        return cast(ElasticPooling, self.pools[index])

    def steps(self, arch: Architecture) -> tuple[Step, ...]:
        shape = self._shape_of(arch)
        steps = [Step("stem", (shape.dims[0],))]
        for i, (dim, heads, ffn, depth) in enumerate(zip(*shape, strict=True)):
            if i:
                steps.append(Step("pool", (i, dim)))
            steps += [Step("block", (i, j, dim, heads, ffn)) for j in range(depth)]
        return (*steps, Step("head", (shape.dims[-1],)))

    def run_step(self, step: Step, x: Tensor, trace: Trace) -> Tensor:
        if step.kind == "stem":
            (dim,) = step.args
            x = _positioned(self.patches(x, dim, trace), self.positions.slice(dim, trace))
            return as_map(with_class_token(self.class_token.slice(dim, trace), x))
        tokens = as_tokens(x)
        if step.kind == "head":
            return as_map(self.norm(tokens))
        if step.kind == "pool":
            stage, dim = step.args
            height = math.isqrt(tokens.shape[1] - 1)
            return as_map(self._pooling(stage - 1)(tokens, height, dim, trace))
        stage, index, _, heads, ffn = step.args
        return as_map(self._block(stage, index)(tokens, heads, ffn, trace))

    def pool(self, x: Tensor, trace: Trace) -> Tensor:  # noqa: ARG002
        """The class token, ``[B, C, 1, N]`` → ``[B, C]``."""
        return x[:, :, 0, 0]

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """The features inside every feed-forward part.

        Not those of the tokens: poolings tie each channel to its neighbours in the next stage.
        """
        return tuple(
            feed_forward(f"stages.{i}.{j}", len(self._block(i, j).fc1.bias))
            for i, stage in enumerate(self.stages)
            for j in range(len(cast(nn.ModuleList, stage)))
        )

    def extract(self, arch: Architecture) -> PiT:
        shape = self._shape_of(arch)
        plain = PiT(
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
        for i, stage in enumerate(plain.stages):
            for j, block in enumerate(cast(nn.Sequential, stage)):
                self._block(i, j).copy_into(cast(Block, block))
        for i, pooling in enumerate(plain.pools):
            self._pooling(i).copy_into(cast(Pooling, pooling))
        self.norm.copy_into(plain.norm)
        copy_linear(self.classifier, plain.head)
        return plain.train(self.training)
