"""ResNet-50-D (He et al., CVPR 2019, §4.2) of once-for-all's shapes, plain and elastic.

Stem: 3×3 at stride 2, a 3×3 with a residual around it that can be left out, a 3×3, and
max-pooling. Then four stages of bottlenecks at strides 1, 2, 2, 2, whose 3×3 carries the
stride; where shapes change, the shortcut averages over the stride before its 1×1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..architecture import Architecture
from ..channels import ChannelGroup, Stream, conv_norm, reads
from ..elastic import ElasticLinear, ElasticNetwork, Step, Trace, initialise
from .residual import ConvNorm, ElasticConvNorm, copy_linear, materialise

__all__ = ["STRIDES", "ElasticResNet50D", "ResNet50D", "ResNet50Shape"]

STRIDES = (1, 2, 2, 2)


class ResNet50Shape(NamedTuple):
    """Channels of every layer.

    Attributes:
        inner: of the stem's first convolutions.
        stem_block: whether the stem's residual convolution is there.
        stem: that the stem gives out.
        widths: that each stage gives out.
        middles: of the 3×3 of each block, stage by stage.
    """

    inner: int
    stem_block: bool
    stem: int
    widths: tuple[int, ...]
    middles: tuple[tuple[int, ...], ...]


class _Bottleneck(nn.Module):
    def __init__(self, c_in: int, middle: int, width: int, stride: int, first: bool) -> None:
        super().__init__()
        self.reduce = ConvNorm(c_in, middle)
        self.conv = ConvNorm(middle, middle, 3, stride)
        self.expand = ConvNorm(middle, width, act=False)
        self.project: ConvNorm | None = ConvNorm(c_in, width, act=False) if first else None
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        out = self.expand(self.conv(self.reduce(x)))
        if self.project is not None:
            x = self.project(_average(x, self.stride))
        return functional.relu(out + x)


def _average(x: Tensor, stride: int) -> Tensor:
    # Rounded up, as the convolution beside it does.
    return functional.avg_pool2d(x, stride, ceil_mode=True) if stride > 1 else x


class ResNet50D(nn.Module):
    """A standalone ResNet-50-D.

    Args:
        shape: channels of every layer.
        num_classes: outputs of the classifier.
        in_channels: channels of the image.
        seed: of the He-normal initial weights; ``None`` leaves them unset.
    """

    def __init__(
        self,
        shape: ResNet50Shape,
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        with torch.device("meta"):
            self.stem_in = ConvNorm(in_channels, shape.inner, 3, 2)
            self.stem_block = ConvNorm(shape.inner, shape.inner, 3) if shape.stem_block else None
            self.stem_out = ConvNorm(shape.inner, shape.stem, 3)
            self.pool = nn.MaxPool2d(3, 2, 1)
            previous = shape.stem
            stages = []
            for width, middles, stride in zip(shape.widths, shape.middles, STRIDES, strict=True):
                blocks = []
                for j, middle in enumerate(middles):
                    step = stride if j == 0 else 1
                    blocks.append(_Bottleneck(previous, middle, width, step, j == 0))
                    previous = width
                stages.append(nn.Sequential(*blocks))
            self.stages = nn.Sequential(*stages)
            self.fc = nn.Linear(previous, num_classes)
        materialise(self, seed)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, classes]`` of images ``[B, C, H, W]``."""
        x = self.stem_in(x)
        if self.stem_block is not None:
            x = self.stem_block(x) + x
        x = self.stages(self.pool(self.stem_out(x)))
        return cast(Tensor, self.fc(x.mean(dim=(2, 3))))


class _ElasticBottleneck(nn.Module):
    def __init__(self, c_in: int, middle: int, width: int, stride: int, first: bool) -> None:
        super().__init__()
        self.reduce = ElasticConvNorm(c_in, middle)
        self.conv = ElasticConvNorm(middle, middle, 3, stride)
        self.expand = ElasticConvNorm(middle, width, act=False)
        self.project = ElasticConvNorm(c_in, width, act=False) if first else None
        self.stride = stride

    def forward(self, x: Tensor, middle: int, width: int, trace: Trace) -> Tensor:
        out = self.conv(self.reduce(x, middle, trace), middle, trace)
        out = self.expand(out, width, trace)
        if self.project is not None:
            x = self.project(_average(x, self.stride), width, trace)
        return trace.relu(out + x)

    def copy_into(self, plain: _Bottleneck) -> None:
        self.reduce.copy_into(plain.reduce)
        self.conv.copy_into(plain.conv)
        self.expand.copy_into(plain.expand)
        if self.project is not None and plain.project is not None:
            self.project.copy_into(plain.project)


class ElasticResNet50D(ElasticNetwork):
    """Every ResNet-50-D of once-for-all's space in one set of weights.

    Args:
        largest: most channels of every layer, most blocks of every stage.
        num_classes: outputs of the classifier.
        in_channels: channels of the image.
        shape_of: channels of an architecture.
        seed: of the initial weights.
        init: see :func:`~scholarch.searchspace.elastic.initialise`.
    """

    traits: ClassVar[frozenset[str]] = frozenset({"bn", "relu"})

    def __init__(
        self,
        largest: ResNet50Shape,
        *,
        num_classes: int,
        in_channels: int,
        shape_of: Callable[[Architecture], ResNet50Shape],
        seed: int = 0,
        init: str = "he",
    ) -> None:
        super().__init__()
        self._shape_of = shape_of
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.stem_in = ElasticConvNorm(in_channels, largest.inner, 3, 2)
        self.stem_block = ElasticConvNorm(largest.inner, largest.inner, 3)
        self.stem_out = ElasticConvNorm(largest.inner, largest.stem, 3)
        self.stages = nn.ModuleList()
        previous = largest.stem
        for width, middles, stride in zip(largest.widths, largest.middles, STRIDES, strict=True):
            blocks = nn.ModuleList()
            for j, middle in enumerate(middles):
                step = stride if j == 0 else 1
                blocks.append(_ElasticBottleneck(previous, middle, width, step, j == 0))
                previous = width
            self.stages.append(blocks)
        self.classifier = ElasticLinear(previous, num_classes)
        initialise(self, seed=seed, init=init)

    def _block(self, stage: int, block: int) -> _ElasticBottleneck:
        return cast(_ElasticBottleneck, cast(nn.ModuleList, self.stages[stage])[block])

    def steps(self, arch: Architecture) -> tuple[Step, ...]:
        shape = self._shape_of(arch)
        steps = [Step("stem in", (shape.inner,))]
        if shape.stem_block:
            steps.append(Step("stem block", (shape.inner,)))
        steps.append(Step("stem out", (shape.stem,)))
        for stage, (width, middles) in enumerate(zip(shape.widths, shape.middles, strict=True)):
            steps += [
                Step("block", (stage, block, middle, width)) for block, middle in enumerate(middles)
            ]
        return tuple(steps)

    def run_step(self, step: Step, x: Tensor, trace: Trace) -> Tensor:
        if step.kind == "block":
            stage, block, middle, width = step.args
            return cast(Tensor, self._block(stage, block)(x, middle, width, trace))
        (channels,) = step.args
        if step.kind == "stem in":
            return cast(Tensor, self.stem_in(x, channels, trace))
        if step.kind == "stem block":
            return cast(Tensor, self.stem_block(x, channels, trace) + x)
        return functional.max_pool2d(self.stem_out(x, channels, trace), 3, 2, 1)

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """Both inner widths of every bottleneck, both of the stem, and each stage's stream.

        The first block of a stage always projects, so that no stream reaches into the next.
        """
        widths = [len(conv.norm.weight) for conv in (self.stem_in, self.stem_out)]
        writes, takes = conv_norm("stem_in", "stem_block"), ["stem_block.conv", "stem_out.conv"]
        streams = [Stream("stem.inner", widths[0], writes, reads(*takes))]
        streams.append(Stream("stem", widths[1], conv_norm("stem_out")))
        for i, blocks in enumerate(self.stages):
            for j in range(len(cast(nn.ModuleList, blocks))):
                block, name = self._block(i, j), f"stages.{i}.{j}"
                before = streams[-1]
                before.reads += reads(f"{name}.reduce.conv")
                if block.project is not None:
                    before.reads += reads(f"{name}.project.conv")
                    stream = Stream(f"stages.{i}", len(block.expand.norm.weight))
                    stream.writes += conv_norm(f"{name}.project")
                    streams.append(stream)
                streams[-1].writes += conv_norm(f"{name}.expand")
        streams[-1].reads += reads("classifier")
        return (*self._middles(), *(stream.group() for stream in streams))

    def _middles(self) -> Iterator[ChannelGroup]:
        """Behind the first 1×1 and behind the 3×3 of every bottleneck."""
        for i, blocks in enumerate(self.stages):
            for j in range(len(cast(nn.ModuleList, blocks))):
                name, size = f"stages.{i}.{j}", len(self._block(i, j).conv.norm.weight)
                for one, two in (("conv", "expand"), ("reduce", "conv")):
                    writes, takes = conv_norm(f"{name}.{one}"), reads(f"{name}.{two}.conv")
                    yield Stream(f"{name}.{one}", size, writes, takes).group()

    def extract(self, arch: Architecture) -> ResNet50D:
        shape = self._shape_of(arch)
        plain = ResNet50D(
            shape, num_classes=self.num_classes, in_channels=self.in_channels, seed=None
        )
        self.stem_in.copy_into(plain.stem_in)
        if plain.stem_block is not None:
            self.stem_block.copy_into(plain.stem_block)
        self.stem_out.copy_into(plain.stem_out)
        for i, middles in enumerate(shape.middles):
            for j in range(len(middles)):
                block = cast(nn.Sequential, plain.stages[i])[j]
                self._block(i, j).copy_into(cast(_Bottleneck, block))
        copy_linear(self.classifier, plain.fc)
        return plain.train(self.training)
