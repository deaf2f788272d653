"""The encoder of every modality, plain and elastic: a stem, layers, a pool, a classifier.

Only the stem knows what the inputs are. Layers of one encoder may differ in heads and in
feed-forward features, and its depth may be the first layers of the supernet, evenly spaced ones
or any given map (:attr:`~scholarch.searchspace.transformers.style.LayerShape.source`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from ..architecture import Architecture
from ..channels import ChannelGroup, Slot, Stream, feed_forward, layer, reads
from ..convnets.residual import copy_linear, materialise
from ..elastic import ElasticLinear, ElasticNetwork, Step, Trace, initialise
from .elastic import ElasticLayerNorm, as_map, as_tokens
from .encoder_layer import ElasticEncoderLayer, EncoderLayer
from .stem import ElasticStem, Stem, StemSpec
from .style import EncoderShape, EncoderStyle, direction

__all__ = ["ElasticEncoder", "Encoder", "pooled"]


def pooled(tokens: Tensor, how: str, mask: Tensor | None) -> Tensor:
    """Tokens without their positions, ``[B, N, C]`` → ``[B, C]``.

    Args:
        tokens: behind the last layer.
        how: see :attr:`~scholarch.searchspace.transformers.style.EncoderStyle.pool`.
        mask: the real ones, bool ``[B, N]``, or ``None``.
    """
    if how == "first":
        return tokens[:, 0]
    if how == "patches":
        return tokens[:, 1:].mean(dim=1)
    if mask is None:
        return tokens.mean(dim=1)
    real = mask.unsqueeze(-1).to(tokens.dtype)
    return (tokens * real).sum(dim=1) / real.sum(dim=1).clamp(min=1.0)


class Encoder(nn.Module):
    """A standalone encoder.

    Args:
        stem: what makes tokens of the inputs.
        style: what its layers share.
        shape: its width and layers.
        num_classes: outputs of the classifier; 0: none, the pooled tokens, or what the style
            embeds them as, are the output.
        seed: of the initial weights; ``None`` leaves them unset.

    Attributes:
        spec: of the stem.
        style: as given.
        shape: as given.
    """

    def __init__(
        self,
        stem: StemSpec,
        style: EncoderStyle,
        shape: EncoderShape,
        *,
        num_classes: int = 10,
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        self.spec, self.style, self.shape = stem, style, shape
        with torch.device("meta"):
            self.stem: Stem = stem.plain(shape.dim)
            self.layers = nn.ModuleList(EncoderLayer(shape.dim, one, style) for one in shape.layers)
            normed = nn.LayerNorm(shape.dim, eps=style.eps) if style.final_norm else nn.Identity()
            self.norm = normed
            wide = style.embed or shape.dim
            self.embedding = nn.Linear(shape.dim, style.embed) if style.embed else None
            self.head = nn.Linear(wide, num_classes) if num_classes else nn.Identity()
        materialise(self, seed)

    def tokens(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Tokens behind the last layer and its norm, ``[B, N, C]``."""
        out = self.stem(x)
        for one in self.layers:
            out = one(out, mask)
        return cast(Tensor, self.norm(out))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits ``[B, classes]``.

        Args:
            x: inputs, see :mod:`scholarch.searchspace.transformers.stem`.
            mask: real tokens, bool ``[B, N]``; default what the stem finds.
        """
        mask = self.stem.mask(x) if mask is None else mask
        out = pooled(self.tokens(x, mask), self.style.pool, mask)
        if self.embedding is not None:
            out = direction(self.embedding(out))
        return cast(Tensor, self.head(out))


class ElasticEncoder(ElasticNetwork):
    """Every encoder up to a width, depth, heads and feed-forward features in one set of weights.

    Args:
        stem: what makes tokens of the inputs.
        style: what layers share.
        dim: largest width of the tokens.
        heads: most heads of each layer.
        ffns: most feed-forward features of each layer.
        num_classes: outputs of the classifier.
        shape_of: what tells an architecture from others.
        seed: of the initial weights.
        init: see :func:`~scholarch.searchspace.elastic.initialise`.
    """

    traits: ClassVar[frozenset[str]] = frozenset({"attention", "gelu"})

    def __init__(
        self,
        stem: StemSpec,
        style: EncoderStyle,
        dim: int,
        heads: Sequence[int],
        ffns: Sequence[int],
        *,
        num_classes: int,
        shape_of: Callable[[Architecture], EncoderShape],
        seed: int = 0,
        init: str = "he",
    ) -> None:
        super().__init__()
        self.spec, self.style, self.dim, self.num_classes = stem, style, dim, num_classes
        self._shape_of = shape_of
        self.stem: ElasticStem = stem.elastic(dim)
        self.layers = nn.ModuleList(
            ElasticEncoderLayer(dim, count, ffn, style)
            for count, ffn in zip(heads, ffns, strict=True)
        )
        self.norm = ElasticLayerNorm(dim, style.eps) if style.final_norm else None
        self.embedding = ElasticLinear(dim, style.embed) if style.embed else None
        self.classifier = ElasticLinear(style.embed or dim, num_classes)
        initialise(self, seed=seed, init=init)

    def layer(self, index: int) -> ElasticEncoderLayer:
        """The supernet's layer of that number."""
        return cast(ElasticEncoderLayer, self.layers[index])

    def shape_of(self, arch: Architecture) -> EncoderShape:
        """What tells an architecture from others."""
        return self._shape_of(arch)

    def mask_of(self, x: Tensor) -> Tensor | None:
        return self.stem.mask(x)

    def steps(self, arch: Architecture) -> tuple[Step, ...]:
        dim, layers = self._shape_of(arch)
        middle = [
            Step("layer", (i, one.source, dim, one.heads, one.ffn)) for i, one in enumerate(layers)
        ]
        last = [Step("head", (dim,))] if self.norm is not None else []
        return (Step("stem", (dim,)), *middle, *last)

    def run_step(self, step: Step, x: Tensor, trace: Trace) -> Tensor:
        if step.kind == "stem":
            tokens = self.stem(x, step.args[0], trace)
        elif step.kind == "head":
            tokens = cast(ElasticLayerNorm, self.norm)(as_tokens(x))
        else:
            _, source, _, heads, ffn = step.args
            tokens = self.layer(source)(as_tokens(x), heads, ffn, trace)
        if trace.he and trace.mask is not None:
            # Nothing attends to padding, but scores look at all of a map.
            tokens = tokens * trace.mask.unsqueeze(-1)
        return as_map(tokens)

    def pool(self, x: Tensor, trace: Trace) -> Tensor:
        """Tokens as the style pools them, ``[B, C, 1, N]`` → ``[B, C]``."""
        return pooled(as_tokens(x), self.style.pool, trace.mask)

    def embed(self, pooled: Tensor, trace: Trace) -> Tensor:  # noqa: ARG002
        # Of a direction the scale of weights, which is a trace's to choose, is of no matter.
        return pooled if self.embedding is None else direction(self.embedding(pooled))

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """The features inside every feed-forward part, the stem's, and those of the tokens.

        Not those of the heads, which move as a whole or not at all; nor of the tokens where a
        grouped convolution in the stem ties them to their group.
        """
        groups = [
            feed_forward(f"layers.{i}", len(self.layer(i).fc1.bias))
            for i in range(len(self.layers))
        ]
        groups += [_inside(group) for group in self.stem.groups()]
        if self.stem.interleave == 1:
            groups.append(self.token_group())
        return tuple(groups)

    def token_group(self) -> ChannelGroup:
        """Every place of the tokens' features, those of the stem's that go with them included."""
        return self._stream().group()

    def keep_layers(self, keep: Mapping[int, Sequence[int]]) -> None:
        """Make networks of other layers of the supernet from now on.

        Args:
            keep: layers of a network of each depth, shallow to deep, as numbers of the supernet's.
        """
        self._shape_of = partial(_with_layers, self._shape_of, keep)

    def _stream(self) -> Stream:
        writes, taken = self.stem.slots()
        tokens = Stream("tokens", self.dim, [_within(s) for s in writes])
        tokens.reads += [_within(slot) for slot in taken]
        for i in range(len(self.layers)):
            name = f"layers.{i}"
            tokens.writes += layer(f"{name}.norm1", f"{name}.norm2", f"{name}.proj", f"{name}.fc2")
            if self.style.layer_scale:
                tokens.writes += [Slot(f"{name}.scale{k}.weight", 0) for k in (1, 2)]
            tokens.reads += reads(f"{name}.qkv", f"{name}.fc1")
        if self.norm is not None:
            tokens.writes += layer("norm")
        tokens.reads += reads("classifier" if self.embedding is None else "embedding")
        return tokens

    def extract(self, arch: Architecture) -> Encoder:
        return self.extract_shape(self._shape_of(arch))

    def extract_shape(self, shape: EncoderShape) -> Encoder:
        """The standalone encoder of a shape that fits, one of no architecture, too."""
        plain = Encoder(self.spec, self.style, shape, num_classes=self.num_classes, seed=None)
        self.stem.copy_into(plain.stem)
        for one, given in zip(plain.layers, shape.layers, strict=True):
            self.layer(given.source).copy_into(cast(EncoderLayer, one))
        if self.norm is not None:
            self.norm.copy_into(cast(nn.LayerNorm, plain.norm))
        if self.embedding is not None:
            copy_linear(self.embedding, cast(nn.Linear, plain.embedding))
        copy_linear(self.classifier, cast(nn.Linear, plain.head))
        return plain.train(self.training)


def _with_layers(
    shape_of: Callable[[Architecture], EncoderShape],
    keep: Mapping[int, Sequence[int]],
    arch: Architecture,
) -> EncoderShape:
    shape = shape_of(arch)
    layers = zip(shape.layers, keep[len(shape.layers)], strict=True)
    return shape._replace(layers=tuple(one._replace(source=s) for one, s in layers))


def _within(slot: Slot) -> Slot:
    return slot._replace(name=f"stem.{slot.name}")


def _inside(group: ChannelGroup) -> ChannelGroup:
    """A stem's group with the names that its tensors have in the encoder."""
    importance, slots = (tuple(_within(s) for s in g) for g in (group.importance, group.slots))
    return ChannelGroup(f"stem.{group.name}", group.size, importance, slots, group.boundaries)
