"""PlainNets (Lin et al., Zen-NAS, ICCV 2021, §3 and appendix), plain and elastic.

A 3×3 stem, stages of residual layers, a 1×1 convolution, average pool, classifier. A layer
of ``SuperResKXKX`` is one residual unit of two K×K convolutions; a layer of
``SuperResK1KXK1`` is two residual units of 1×1, K×K, 1×1 each. The first unit of a stage
carries its stride and always projects its shortcut. Unlike the released code, projections
have no bias: the batch norm behind them takes it out again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..architecture import Architecture
from ..channels import ChannelGroup, Slot, Stream, batch_norm, conv_norm, reads
from ..elastic import (
    ElasticBatchNorm2d,
    ElasticConv2d,
    ElasticLinear,
    ElasticNetwork,
    Step,
    Trace,
    initialise,
)
from .residual import ConvNorm, ElasticConvNorm, copy_linear, materialise

__all__ = ["KERNELS", "ElasticPlainNet", "PlainNet", "PlainShape", "PlainStage"]

KERNELS = (3, 5, 7)

#: The released code's, for every batch norm.
EPS = 1e-3


class PlainStage(NamedTuple):
    """One block of the notation.

    Attributes:
        kernel: side of its K×K convolutions.
        narrow: whether it is ``SuperResK1KXK1``, else ``SuperResKXKX``.
        layers: how many.
        width: channels it gives out.
        bottleneck: channels inside.
    """

    kernel: int
    narrow: bool
    layers: int
    width: int
    bottleneck: int


class PlainShape(NamedTuple):
    """Channels of stem and last convolution, and the stages between them."""

    stem: int
    stages: tuple[PlainStage, ...]
    head: int


class _Unit(nn.Module):
    """Convolutions with a residual around them and a ReLU behind."""

    def __init__(self, convs: Sequence[ConvNorm], project: ConvNorm | None) -> None:
        super().__init__()
        self.convs = nn.Sequential(*convs)
        self.project = project

    def forward(self, x: Tensor) -> Tensor:
        out = self.convs(x)
        return functional.relu(out + (x if self.project is None else self.project(x)))


def _conv(c_in: int, c_out: int, kernel: int = 1, stride: int = 1, act: bool = True) -> ConvNorm:
    return ConvNorm(c_in, c_out, kernel, stride, act=act, eps=EPS)


def _units(stage: PlainStage, c_in: int, stride: int, first: bool) -> list[_Unit]:
    """The units of one layer."""
    kernel, b, c = stage.kernel, stage.bottleneck, stage.width
    project = _conv(c_in, c, 1, stride, act=False) if first else None
    if not stage.narrow:
        convs = [_conv(c_in, b, kernel, stride), _conv(b, c, kernel, act=False)]
        return [_Unit(convs, project)]
    one = [_conv(c_in, b), _conv(b, b, kernel, stride), _conv(b, c, act=False)]
    two = [_conv(c, b), _conv(b, b, kernel), _conv(b, c, act=False)]
    return [_Unit(one, project), _Unit(two, None)]


class PlainNet(nn.Module):
    """A standalone PlainNet.

    Args:
        shape: stem, stages and last convolution.
        strides: of the stem and of each stage.
        num_classes: outputs of the classifier.
        in_channels: channels of the image.
        seed: of the He-normal initial weights; ``None`` leaves them unset.
    """

    def __init__(
        self,
        shape: PlainShape,
        strides: Sequence[int],
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        with torch.device("meta"):
            self.stem = _conv(in_channels, shape.stem, 3, strides[0])
            stages, previous = [], shape.stem
            for stage, stride in zip(shape.stages, strides[1:], strict=True):
                layers = []
                for j in range(stage.layers):
                    units = _units(stage, previous, stride if j == 0 else 1, j == 0)
                    layers.append(nn.Sequential(*units))
                    previous = stage.width
                stages.append(nn.Sequential(*layers))
            self.stages = nn.Sequential(*stages)
            self.head = _conv(previous, shape.head)
            self.fc = nn.Linear(shape.head, num_classes)
        materialise(self, seed)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, classes]`` of images ``[B, C, H, W]``."""
        x = self.head(self.stages(self.stem(x)))
        return cast(Tensor, self.fc(x.mean(dim=(2, 3))))


class _ElasticLayer(nn.Module):
    """One layer of either kind.

    Both kinds share their K×K weights, since those are almost all of the memory: the middle
    convolutions of the narrow kind are slices of the wide kind's two.
    """

    def __init__(self, c_in: int, width: int, bottleneck: int, stride: int, first: bool) -> None:
        super().__init__()
        b, c = bottleneck, width
        largest = max(KERNELS)
        self.wide1 = ElasticConv2d(max(c_in, b), b, largest, stride, kernels=KERNELS)
        self.wide2 = ElasticConv2d(b, max(c, b), largest, kernels=KERNELS)
        self.wide1_norm, self.wide2_norm = ElasticBatchNorm2d(b, EPS), ElasticBatchNorm2d(c, EPS)
        self.middle1_norm, self.middle2_norm = (ElasticBatchNorm2d(b, EPS) for _ in "12")
        self.reduce1 = ElasticConvNorm(c_in, b, eps=EPS)
        self.expand1 = ElasticConvNorm(b, c, act=False, eps=EPS)
        self.reduce2 = ElasticConvNorm(c, b, eps=EPS)
        self.expand2 = ElasticConvNorm(b, c, act=False, eps=EPS)
        self.project: ElasticConvNorm | None = None
        if first:
            self.project = ElasticConvNorm(c_in, c, 1, stride, act=False, eps=EPS)

    def forward(self, x: Tensor, stage: PlainStage, trace: Trace) -> Tensor:
        b, c, kernel = stage.bottleneck, stage.width, stage.kernel
        if stage.narrow:
            out = self.middle1_norm(self.wide1(self.reduce1(x, b, trace), b, trace, kernel))
            out = self.expand1(trace.relu(out), c, trace)
        else:
            out = trace.relu(self.wide1_norm(self.wide1(x, b, trace, kernel)))
            out = self.wide2_norm(self.wide2(out, c, trace, kernel))
        x = trace.relu(out + (x if self.project is None else self.project(x, c, trace)))
        if not stage.narrow:
            return x
        out = self.middle2_norm(self.wide2(self.reduce2(x, b, trace), b, trace, kernel))
        return trace.relu(self.expand2(trace.relu(out), c, trace) + x)

    def copy_into(self, plain: nn.Sequential) -> None:
        """Copy into the units of a plain layer."""
        units = [cast(_Unit, unit) for unit in plain]
        if self.project is not None and units[0].project is not None:
            self.project.copy_into(units[0].project)
        if len(units) == 1:
            first, second = (cast(ConvNorm, conv) for conv in units[0].convs)
            _copy(self.wide1, self.wide1_norm, first)
            _copy(self.wide2, self.wide2_norm, second)
            return
        parts = (
            (self.reduce1, self.wide1, self.middle1_norm, self.expand1),
            (self.reduce2, self.wide2, self.middle2_norm, self.expand2),
        )
        for (reduce, wide, norm, expand), unit in zip(parts, units, strict=True):
            one, middle, last = (cast(ConvNorm, conv) for conv in unit.convs)
            reduce.copy_into(one)
            _copy(wide, norm, middle)
            expand.copy_into(last)


def _copy(conv: ElasticConv2d, norm: ElasticBatchNorm2d, plain: ConvNorm) -> None:
    to = plain.conv
    to.weight.data.copy_(conv.slice(to.in_channels, to.out_channels, int(to.kernel_size[0])))
    norm.copy_into(plain.norm)


class ElasticPlainNet(ElasticNetwork):
    """Every PlainNet up to the given channels and layers in one set of weights.

    Args:
        largest: most channels of every layer, most layers of every stage.
        strides: of the stem and of each stage.
        num_classes: outputs of the classifier.
        in_channels: channels of the image.
        shape_of: stem, stages and last convolution of an architecture.
        seed: of the initial weights.
        init: see :func:`~scholarch.searchspace.elastic.initialise`.
    """

    traits: ClassVar[frozenset[str]] = frozenset({"bn", "relu"})

    def __init__(
        self,
        largest: PlainShape,
        strides: Sequence[int],
        *,
        num_classes: int,
        in_channels: int,
        shape_of: Callable[[Architecture], PlainShape],
        seed: int = 0,
        init: str = "he",
    ) -> None:
        super().__init__()
        self._shape_of = shape_of
        self.strides = tuple(strides)
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.stem = ElasticConvNorm(in_channels, largest.stem, 3, strides[0], eps=EPS)
        self.stages = nn.ModuleList()
        previous = largest.stem
        for stage, stride in zip(largest.stages, strides[1:], strict=True):
            layers = nn.ModuleList()
            for j in range(stage.layers):
                step = stride if j == 0 else 1
                layers.append(_ElasticLayer(previous, stage.width, stage.bottleneck, step, j == 0))
                previous = stage.width
            self.stages.append(layers)
        self.head = ElasticConvNorm(previous, largest.head, eps=EPS)
        self.classifier = ElasticLinear(largest.head, num_classes)
        initialise(self, seed=seed, init=init)

    def _layer(self, stage: int, layer: int) -> _ElasticLayer:
        return cast(_ElasticLayer, cast(nn.ModuleList, self.stages[stage])[layer])

    def steps(self, arch: Architecture) -> tuple[Step, ...]:
        shape = self._shape_of(arch)
        steps = [Step("stem", (shape.stem,))]
        for i, stage in enumerate(shape.stages):
            # How many layers follow is no part of a step: depths share their prefix.
            choice = (stage.kernel, int(stage.narrow), stage.width, stage.bottleneck)
            steps += [Step("layer", (i, j, *choice)) for j in range(stage.layers)]
        return (*steps, Step("head", (shape.head,)))

    def run_step(self, step: Step, x: Tensor, trace: Trace) -> Tensor:
        if step.kind == "layer":
            i, j, kernel, narrow, width, bottleneck = step.args
            stage = PlainStage(kernel, bool(narrow), 1, width, bottleneck)
            return cast(Tensor, self._layer(i, j)(x, stage, trace))
        conv = self.stem if step.kind == "stem" else self.head
        return cast(Tensor, conv(x, step.args[0], trace))

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """Behind the first K×K convolution of every layer, and behind the last convolution.

        No others: both kinds of a layer share the K×K weights, whose other sides are channels of
        the stage in one kind and of the bottleneck in the other.
        """
        streams: list[Stream] = []
        for i, layers in enumerate(self.stages):
            for j in range(len(cast(nn.ModuleList, layers))):
                name, size = f"stages.{i}.{j}", len(self._layer(i, j).wide1.weight)
                stream = Stream(f"{name}.middle", size, [Slot(f"{name}.wide1.weight", 0)])
                stream.writes += batch_norm(f"{name}.wide1_norm", f"{name}.middle1_norm")
                # What the narrow kind's second unit gives to the convolution that reads them.
                stream.writes += conv_norm(f"{name}.reduce2")
                stream.reads += reads(f"{name}.wide2", f"{name}.expand1.conv")
                streams.append(stream)
        head = len(self.head.norm.weight)
        streams.append(Stream("head", head, conv_norm("head"), reads("classifier")))
        return tuple(stream.group() for stream in streams)

    def extract(self, arch: Architecture) -> PlainNet:
        shape = self._shape_of(arch)
        plain = PlainNet(
            shape,
            self.strides,
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            seed=None,
        )
        self.stem.copy_into(plain.stem)
        for i, stage in enumerate(shape.stages):
            for j in range(stage.layers):
                layer = cast(nn.Sequential, plain.stages[i])[j]
                self._layer(i, j).copy_into(cast(nn.Sequential, layer))
        self.head.copy_into(plain.head)
        copy_linear(self.classifier, plain.fc)
        return plain.train(self.training)
