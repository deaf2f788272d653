"""Residual networks in the likeness of a teacher, plain and elastic.

A stem of 3×3 convolutions that halve the image as often as the teacher's stem does, then
stages of one kind of block: two 3×3 (``basic``), 1×1, 3×3, 1×1 with a quarter of the
channels inside (``bottleneck``), or 1×1, depthwise 3×3, 1×1 with four times the channels
inside (``mbconv``). Where a block changes the shape, its shortcut is a strided 1×1;
``mbconv`` then has none, and no activation at its end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..architecture import Architecture
from ..channels import ChannelGroup, Stream, conv_norm, reads
from ..elastic import ElasticLinear, ElasticNetwork, Step, Trace, initialise
from .residual import ConvNorm, ElasticConvNorm, copy_linear, materialise
from .staged import divisible

__all__ = [
    "EXPANSION",
    "KINDS",
    "DerivedNet",
    "DerivedShape",
    "ElasticDerivedNet",
    "bottleneck_channels",
]

KINDS = ("basic", "bottleneck", "mbconv")

#: Channels inside an ``mbconv`` to one that it is given.
EXPANSION = 4


class DerivedShape(NamedTuple):
    """What tells one network from another.

    Attributes:
        kind: of :data:`KINDS`.
        halvings: strides of two in the stem; where 0, its one convolution has stride 1.
        stem: channels of the stem.
        widths: of each stage.
        depths: blocks of each stage.
        strides: of each stage.
    """

    kind: str
    halvings: int
    stem: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    strides: tuple[int, ...]


def bottleneck_channels(width: int) -> int:
    """Channels inside a bottleneck that gives out ``width``."""
    return divisible(width / 4)


class _Layer(NamedTuple):
    c_in: int
    c_out: int
    kernel: int = 1
    stride: int = 1
    depthwise: bool = False
    act: bool = True


def _layers(kind: str, c_in: int, c: int, stride: int) -> list[_Layer]:
    """The convolutions of a block."""
    if kind == "basic":
        return [_Layer(c_in, c, 3, stride), _Layer(c, c, 3, act=False)]
    if kind == "bottleneck":
        b = bottleneck_channels(c)
        return [_Layer(c_in, b), _Layer(b, b, 3, stride), _Layer(b, c, act=False)]
    b = EXPANSION * c_in
    return [_Layer(c_in, b), _Layer(b, b, 3, stride, depthwise=True), _Layer(b, c, act=False)]


class _Block(nn.Module):
    def __init__(self, kind: str, c_in: int, channels: int, stride: int) -> None:
        super().__init__()
        layers = _layers(kind, c_in, channels, stride)
        self.convs = nn.Sequential(
            *(ConvNorm(*layer[:4], depthwise=layer.depthwise, act=layer.act) for layer in layers)
        )
        self.linear = kind == "mbconv"
        self.same = stride == 1 and c_in == channels
        self.project: ConvNorm | None = None
        if not self.same and not self.linear:
            self.project = ConvNorm(c_in, channels, 1, stride, act=False)

    def forward(self, x: Tensor) -> Tensor:
        out = cast(Tensor, self.convs(x))
        if self.project is not None:
            x = self.project(x)
        if self.linear:
            return out + x if self.same else out
        return functional.relu(out + x)


class DerivedNet(nn.Module):
    """A standalone network.

    Args:
        shape: what tells it from others.
        num_classes: outputs of the classifier.
        in_channels: channels of the image.
        seed: of the He-normal initial weights; ``None`` leaves them unset.
    """

    def __init__(
        self,
        shape: DerivedShape,
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        with torch.device("meta"):
            stride = 2 if shape.halvings else 1
            stem = [ConvNorm(in_channels, shape.stem, 3, stride)]
            stem += [ConvNorm(shape.stem, shape.stem, 3, 2) for _ in range(shape.halvings - 1)]
            self.stem = nn.Sequential(*stem)
            stages, previous = [], shape.stem
            for width, depth, stride in zip(shape.widths, shape.depths, shape.strides, strict=True):
                blocks = []
                for j in range(depth):
                    blocks.append(_Block(shape.kind, previous, width, stride if j == 0 else 1))
                    previous = width
                stages.append(nn.Sequential(*blocks))
            self.stages = nn.Sequential(*stages)
            self.fc = nn.Linear(previous, num_classes)
        materialise(self, seed)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, classes]`` of images ``[B, C, H, W]``."""
        x = self.stages(self.stem(x))
        return cast(Tensor, self.fc(x.mean(dim=(2, 3))))


class _ElasticBlock(nn.Module):
    def __init__(self, kind: str, c_in: int, channels: int, stride: int, first: bool) -> None:
        super().__init__()
        self.kind = kind
        self.stride = stride
        self.convs = nn.ModuleList(
            ElasticConvNorm(*layer[:4], depthwise=layer.depthwise, act=layer.act)
            for layer in _layers(kind, c_in, channels, stride)
        )
        self.project: ElasticConvNorm | None = None
        if first and kind != "mbconv":
            self.project = ElasticConvNorm(c_in, channels, 1, stride, act=False)

    def forward(self, x: Tensor, channels: int, trace: Trace) -> Tensor:
        out = x
        for conv, layer in zip(
            self.convs, _layers(self.kind, x.shape[1], channels, self.stride), strict=True
        ):
            out = conv(out, layer.c_out, trace)
        same = self.stride == 1 and x.shape[1] == channels
        if self.kind == "mbconv":
            return out + x if same else out
        if not same:
            if self.project is None:
                raise RuntimeError("only the first block of a stage changes shape")
            x = self.project(x, channels, trace)
        return trace.relu(out + x)

    def copy_into(self, plain: _Block) -> None:
        for conv, to in zip(self.convs, plain.convs, strict=True):
            cast(ElasticConvNorm, conv).copy_into(cast(ConvNorm, to))
        if self.project is not None and plain.project is not None:
            self.project.copy_into(plain.project)


def _width(conv: nn.Module) -> int:
    """Most channels that a convolution gives out."""
    return len(cast(ElasticConvNorm, conv).norm.weight)


def _insides(block: _ElasticBlock, name: str) -> list[Stream]:
    """The channels between the convolutions of a block; a depthwise one passes its own on."""
    streams = [Stream(f"{name}.0", _width(block.convs[0]), conv_norm(f"{name}.convs.0"))]
    for k in range(1, len(block.convs)):
        conv = f"{name}.convs.{k}"
        if cast(ElasticConvNorm, block.convs[k]).conv.depthwise:
            streams[-1].writes += conv_norm(conv)
            continue
        streams[-1].reads += reads(f"{conv}.conv")
        if k + 1 < len(block.convs):
            streams.append(Stream(f"{name}.{k}", _width(block.convs[k]), conv_norm(conv)))
    return streams


class ElasticDerivedNet(ElasticNetwork):
    """Every network up to the given widths and depths in one set of weights.

    Args:
        largest: largest widths and depths.
        num_classes: outputs of the classifier.
        in_channels: channels of the image.
        shape_of: what tells an architecture from others.
        seed: of the initial weights.
        init: see :func:`~scholarch.searchspace.elastic.initialise`.
    """

    traits: ClassVar[frozenset[str]] = frozenset({"bn", "relu"})

    def __init__(
        self,
        largest: DerivedShape,
        *,
        num_classes: int,
        in_channels: int,
        shape_of: Callable[[Architecture], DerivedShape],
        seed: int = 0,
        init: str = "he",
    ) -> None:
        super().__init__()
        self._shape_of = shape_of
        self.num_classes = num_classes
        self.in_channels = in_channels
        stem = [ElasticConvNorm(in_channels, largest.stem, 3, 2 if largest.halvings else 1)]
        more = range(largest.halvings - 1)
        stem += [ElasticConvNorm(largest.stem, largest.stem, 3, 2) for _ in more]
        self.stem = nn.ModuleList(stem)
        self.stages = nn.ModuleList()
        previous = largest.stem
        for width, depth, stride in zip(
            largest.widths, largest.depths, largest.strides, strict=True
        ):
            blocks = nn.ModuleList()
            for j in range(depth):
                step = stride if j == 0 else 1
                blocks.append(_ElasticBlock(largest.kind, previous, width, step, j == 0))
                previous = width
            self.stages.append(blocks)
        self.classifier = ElasticLinear(previous, num_classes)
        initialise(self, seed=seed, init=init)

    def _block(self, stage: int, block: int) -> _ElasticBlock:
        return cast(_ElasticBlock, cast(nn.ModuleList, self.stages[stage])[block])

    def steps(self, arch: Architecture) -> tuple[Step, ...]:
        shape = self._shape_of(arch)
        steps = [Step("stem", (shape.stem,))]
        for stage, (width, depth) in enumerate(zip(shape.widths, shape.depths, strict=True)):
            steps += [Step("block", (stage, block, width)) for block in range(depth)]
        return tuple(steps)

    def run_step(self, step: Step, x: Tensor, trace: Trace) -> Tensor:
        if step.kind == "block":
            stage, block, width = step.args
            return cast(Tensor, self._block(stage, block)(x, width, trace))
        for conv in self.stem:
            x = conv(x, step.args[0], trace)
        return x

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """What is inside every block, between the stem's convolutions, and the streams.

        Where the first block of a stage keeps the shape in the largest network, it adds to the
        stream before it.
        """
        streams = [Stream("stem.0", _width(self.stem[0]), conv_norm("stem.0"))]
        for i in range(1, len(self.stem)):
            streams[-1].reads += reads(f"stem.{i}.conv")
            streams.append(Stream(f"stem.{i}", _width(self.stem[i]), conv_norm(f"stem.{i}")))
        insides: list[Stream] = []
        for i, blocks in enumerate(self.stages):
            for j in range(len(cast(nn.ModuleList, blocks))):
                block, name = self._block(i, j), f"stages.{i}.{j}"
                first, *_, last = (f"{name}.convs.{k}" for k in range(len(block.convs)))
                insides += _insides(block, name)
                width = _width(block.convs[-1])
                streams[-1].reads += reads(f"{first}.conv")
                project = [f"{name}.project"] if block.project is not None else []
                streams[-1].reads += reads(*(f"{conv}.conv" for conv in project))
                if block.stride != 1 or streams[-1].size != width:
                    streams.append(Stream(f"stages.{i}", width))
                streams[-1].writes += conv_norm(*project, last)
        streams[-1].reads += reads("classifier")
        return tuple(stream.group() for stream in (*insides, *streams))

    def extract(self, arch: Architecture) -> DerivedNet:
        shape = self._shape_of(arch)
        plain = DerivedNet(
            shape, num_classes=self.num_classes, in_channels=self.in_channels, seed=None
        )
        for conv, to in zip(self.stem, plain.stem, strict=True):
            cast(ElasticConvNorm, conv).copy_into(cast(ConvNorm, to))
        for i, depth in enumerate(shape.depths):
            for j in range(depth):
                block = cast(nn.Sequential, plain.stages[i])[j]
                self._block(i, j).copy_into(cast(_Block, block))
        copy_linear(self.classifier, plain.fc)
        return plain.train(self.training)
