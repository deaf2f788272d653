"""CIFAR ResNets (He et al., CVPR 2016, §4.2), plain and elastic.

Three stages of basic blocks at strides 1, 2, 2 behind a 3×3 stem. The shortcut is the
identity where shapes agree, else a strided 1×1 convolution with batch norm (option B), or
for teachers of that kind a zero-padded subsampling without weights (option A).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..architecture import Architecture
from ..channels import ChannelGroup, Slot, Stream, batch_norm, reads
from ..elastic import (
    ElasticBatchNorm2d,
    ElasticConv2d,
    ElasticLinear,
    ElasticNetwork,
    Step,
    Trace,
    initialise,
)
from .residual import materialise

__all__ = ["STRIDES", "BasicBlock", "CifarResNet", "ElasticCifarResNet"]

STRIDES = (1, 2, 2)

ShapeOf = Callable[[Architecture], tuple[tuple[int, ...], tuple[int, ...]]]


class _PadShortcut(nn.Module):
    """Option A: every other pixel, new channels zero, half of them on either side."""

    def __init__(self, extra_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = extra_channels // 2
        self.after = extra_channels - self.before

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return functional.pad(x, (0, 0, 0, 0, self.before, self.after))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Sequential()
        if stride != 1 or in_channels != channels:
            if shortcut == "A":
                self.shortcut = _PadShortcut(channels - in_channels, stride)
            else:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(in_channels, channels, 1, stride, bias=False),
                    nn.BatchNorm2d(channels),
                )

    def forward(self, x: Tensor) -> Tensor:
        out = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """A standalone CIFAR ResNet.

    Args:
        depths: blocks of each stage, e.g. ``(9, 9, 9)`` for ResNet-56.
        widths: channels of the stem and of each stage, e.g. ``(16, 16, 32, 64)``.
        num_classes: outputs of the classifier.
        in_channels: channels of the image.
        shortcut: ``"A"`` or ``"B"``, see the module's docstring.
        seed: of the He-normal initial weights.
    """

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential

    def __init__(
        self,
        depths: Sequence[int],
        widths: Sequence[int] = (16, 16, 32, 64),
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        shortcut: str = "B",
        seed: int = 0,
    ) -> None:
        super().__init__()
        # On the meta device torch's own initialisers cost nothing and draw no random number.
        with torch.device("meta"):
            self.conv1 = nn.Conv2d(in_channels, widths[0], 3, 1, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(widths[0])
            previous = widths[0]
            for i, (depth, width, stride) in enumerate(
                zip(depths, widths[1:], STRIDES, strict=True), start=1
            ):
                blocks = [
                    BasicBlock(
                        previous if j == 0 else width, width, stride if j == 0 else 1, shortcut
                    )
                    for j in range(depth)
                ]
                setattr(self, f"layer{i}", nn.Sequential(*blocks))
                previous = width
            self.fc = nn.Linear(previous, num_classes)
        materialise(self, seed)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, classes]`` of images ``[B, C, H, W]``."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return cast(Tensor, self.fc(x.mean(dim=(2, 3))))


class _ElasticBlock(nn.Module):
    """A basic block of elastic width; the projection is used where shapes differ."""

    def __init__(self, in_channels: int, channels: int, stride: int, first: bool) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = ElasticConv2d(in_channels, channels, 3, stride)
        self.bn1 = ElasticBatchNorm2d(channels)
        self.conv2 = ElasticConv2d(channels, channels, 3)
        self.bn2 = ElasticBatchNorm2d(channels)
        self.projection: ElasticConv2d | None = None
        self.projection_bn: ElasticBatchNorm2d | None = None
        if first:
            self.projection = ElasticConv2d(in_channels, channels, 1, stride)
            self.projection_bn = ElasticBatchNorm2d(channels)

    def forward(self, x: Tensor, channels: int, trace: Trace) -> Tensor:
        out = trace.relu(self.bn1(self.conv1(x, channels, trace)))
        out = self.bn2(self.conv2(out, channels, trace))
        if self.stride != 1 or x.shape[1] != channels:
            if self.projection is None or self.projection_bn is None:
                raise RuntimeError("only the first block of a stage changes shape")
            x = self.projection_bn(self.projection(x, channels, trace))
        # In place where no graph needs the operand: a map is read and written once less.
        out = out + x if torch.is_grad_enabled() else out.add_(x)
        return trace.relu(out)

    def copy_into(self, plain: BasicBlock) -> None:
        c_in, c = plain.conv1.in_channels, plain.conv1.out_channels
        plain.conv1.weight.data.copy_(self.conv1.slice(c_in, c))
        self.bn1.copy_into(plain.bn1)
        plain.conv2.weight.data.copy_(self.conv2.slice(c, c))
        self.bn2.copy_into(plain.bn2)
        if isinstance(plain.shortcut, nn.Sequential) and len(plain.shortcut):
            conv, norm = plain.shortcut
            if self.projection is not None and self.projection_bn is not None:
                cast(nn.Conv2d, conv).weight.data.copy_(self.projection.slice(c_in, c))
                self.projection_bn.copy_into(cast(nn.BatchNorm2d, norm))


def _out(conv: str) -> list[Slot]:
    return [Slot(f"{conv}.weight", 0)]


class ElasticCifarResNet(ElasticNetwork):
    """All CIFAR ResNets up to the given depths and widths in one set of weights.

    Args:
        depths: largest number of blocks of each stage.
        widths: largest channels of the stem and of each stage.
        num_classes: outputs of the classifier.
        in_channels: channels of the image.
        shape_of: depths and widths of an architecture.
        seed: of the initial weights.
        init: see :func:`~scholarch.searchspace.elastic.initialise`.
    """

    traits: ClassVar[frozenset[str]] = frozenset({"bn", "relu"})

    def __init__(
        self,
        depths: Sequence[int],
        widths: Sequence[int],
        *,
        num_classes: int,
        in_channels: int,
        shape_of: ShapeOf,
        seed: int = 0,
        init: str = "he",
    ) -> None:
        super().__init__()
        self._shape_of = shape_of
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.stem = ElasticConv2d(in_channels, widths[0], 3)
        self.stem_bn = ElasticBatchNorm2d(widths[0])
        self.stages = nn.ModuleList()
        previous = widths[0]
        for depth, width, stride in zip(depths, widths[1:], STRIDES, strict=True):
            blocks = [
                _ElasticBlock(previous if j == 0 else width, width, stride if j == 0 else 1, j == 0)
                for j in range(depth)
            ]
            self.stages.append(nn.ModuleList(blocks))
            previous = width
        self.classifier = ElasticLinear(previous, num_classes)
        initialise(self, seed=seed, init=init)

    def steps(self, arch: Architecture) -> tuple[Step, ...]:
        depths, widths = self._shape_of(arch)
        steps = [Step("stem", (widths[0],))]
        for stage, (depth, width) in enumerate(zip(depths, widths[1:], strict=True)):
            steps += [Step("block", (stage, block, width)) for block in range(depth)]
        return tuple(steps)

    def run_step(self, step: Step, x: Tensor, trace: Trace) -> Tensor:
        if step.kind == "stem":
            return trace.relu(self.stem_bn(self.stem(x, step.args[0], trace)))
        stage, block, width = step.args
        return cast(Tensor, cast(nn.ModuleList, self.stages[stage])[block](x, width, trace))

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """The inner channels of every block, and the residual streams.

        A stage whose first shortcut is the identity in the largest network adds to the stream
        before it; the projection that smaller networks use there follows.
        """
        streams = [Stream("stem", len(self.stem.weight), [*_out("stem"), *batch_norm("stem_bn")])]
        middles: list[ChannelGroup] = []
        for i, stage in enumerate(self.stages):
            for j, module in enumerate(cast(nn.ModuleList, stage)):
                block, name = cast(_ElasticBlock, module), f"stages.{i}.{j}"
                width = len(block.conv2.weight)
                inner = [*_out(f"{name}.conv1"), *batch_norm(f"{name}.bn1")]
                middle = Stream(f"{name}.middle", width, inner, reads(f"{name}.conv2"))
                middles.append(middle.group())
                streams[-1].reads += reads(f"{name}.conv1")
                if block.projection is not None:
                    streams[-1].reads += reads(f"{name}.projection")
                    if block.stride != 1 or streams[-1].size != width:
                        streams.append(Stream(f"stages.{i}", width))
                    shortcut = f"{name}.projection"
                    streams[-1].writes += [*_out(shortcut), *batch_norm(f"{shortcut}_bn")]
                streams[-1].writes += [*_out(f"{name}.conv2"), *batch_norm(f"{name}.bn2")]
        streams[-1].reads += reads("classifier")
        return (*middles, *(stream.group() for stream in streams))

    def extract(self, arch: Architecture) -> CifarResNet:
        depths, widths = self._shape_of(arch)
        plain = CifarResNet(
            depths, widths, num_classes=self.num_classes, in_channels=self.in_channels
        )
        plain.conv1.weight.data.copy_(self.stem.slice(self.in_channels, widths[0]))
        self.stem_bn.copy_into(plain.bn1)
        for i, depth in enumerate(depths):
            layer = cast(nn.Sequential, getattr(plain, f"layer{i + 1}"))
            for j in range(depth):
                block = cast(_ElasticBlock, cast(nn.ModuleList, self.stages[i])[j])
                block.copy_into(cast(BasicBlock, layer[j]))
        plain.fc.weight.data.copy_(self.classifier.slice(widths[3]))
        plain.fc.bias.data.copy_(self.classifier.bias)
        return plain.train(self.training)
