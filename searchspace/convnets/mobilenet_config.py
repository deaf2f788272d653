"""What a MobileNet is made of: the widths, strides and choices that its space spans.

Numbers of once-for-all's released networks (Cai et al., ICLR 2020, §4.1 and code).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .staged import divisible, halved

__all__ = [
    "CIFAR_STRIDES",
    "MOBILENET_V3",
    "PROXYLESS",
    "Block",
    "MobileNetConfig",
    "Shape",
    "StageConfig",
]

Shape = tuple[tuple[tuple[int, int], ...], ...]
"""An architecture: for each stage, for each of its blocks, the kernel and inner channels."""

KERNELS = (3, 5, 7)
EXPANDS = (3, 4, 6)
DEPTHS = (2, 3, 4)

#: Strides of the stages that DepS gives OFA's network for 32×32 images; its stem has 1 too.
CIFAR_STRIDES = (1, 2, 2, 1, 2)


@dataclass(frozen=True, slots=True)
class Block:
    """An MBConv block with every number fixed.

    Attributes:
        in_channels: taken in.
        mid: channels inside, behind the expanding convolution.
        out_channels: given out.
        kernel: side of the depthwise convolution.
        stride: of the depthwise convolution.
        activation: ``"relu"``, ``"relu6"`` or ``"hswish"``.
        gated: whether a squeeze-and-excitation gate stands behind the depthwise convolution.
        eps: of batch norm.
        expands: whether there is an expanding convolution; if not, ``mid == in_channels``.
    """

    in_channels: int
    mid: int
    out_channels: int
    kernel: int
    stride: int
    activation: str
    gated: bool
    eps: float
    expands: bool = True

    @property
    def skips(self) -> bool:
        """Whether input and output have one shape and are added."""
        return self.stride == 1 and self.in_channels == self.out_channels

    @property
    def squeezed(self) -> int:
        """Channels inside the gate."""
        return divisible(self.mid // 4)

    @property
    def layers(self) -> int:
        """Weighted layers on the longest path, which leads through the gate."""
        return 2 + self.expands + 2 * self.gated

    def peak(self, side: int) -> int:
        """Most values that one of its convolutions reads and writes."""
        area_in, area_out = side**2, halved(side, self.stride) ** 2
        expand = (self.in_channels + self.mid) * area_in * self.expands
        return max(
            expand, self.mid * (area_in + area_out), (self.mid + self.out_channels) * area_out
        )

    def cost(self, side: int) -> tuple[int, int]:
        """Parameters, and multiply-accumulates of an input of ``side`` × ``side``."""
        area_in, area_out = side**2, halved(side, self.stride) ** 2
        expand = self.in_channels * self.mid * self.expands
        depthwise = self.mid * self.kernel**2
        project = self.mid * self.out_channels
        gate = 2 * self.mid * self.squeezed * self.gated
        norms = 2 * (self.mid * (1 + self.expands) + self.out_channels)
        biases = (self.mid + self.squeezed) * self.gated
        macs = expand * area_in + (depthwise + project) * area_out + gate
        return expand + depthwise + project + gate + norms + biases, macs


@dataclass(frozen=True, slots=True)
class StageConfig:
    """A stage of MBConv blocks and what can be chosen in it.

    Attributes:
        width: channels its blocks give out.
        stride: of its first block.
        activation: of its blocks.
        gated: whether its blocks have a gate.
        depths: how many blocks can be asked for; a smaller number is a prefix.
        kernels: of a block's depthwise convolution.
        expands: ratios of a block's inner channels to its input's.
    """

    width: int
    stride: int
    activation: str
    gated: bool = False
    depths: tuple[int, ...] = DEPTHS
    kernels: tuple[int, ...] = KERNELS
    expands: tuple[int, ...] = EXPANDS

    @property
    def choices(self) -> list[tuple[int, int]]:
        """Kernel and expand ratio of a block, the kernel's the outer loop."""
        return [(kernel, expand) for kernel in self.kernels for expand in self.expands]


@dataclass(frozen=True, slots=True)
class MobileNetConfig:
    """Everything about a family of MobileNets but what the genes choose.

    Attributes:
        stem: channels of the first convolution, 3×3.
        stem_stride: its stride.
        stem_activation: behind it.
        first: channels of the fixed block after it, 3×3 without expansion.
        first_activation: inside that block.
        stages: in order.
        head: channels of the 1×1 convolution before the average pool.
        head_activation: behind it, and behind the next.
        mix: channels of a 1×1 convolution behind the pool, without batch norm or bias; 0 for
            none.
        eps: of every batch norm.
    """

    stem: int
    stem_stride: int
    stem_activation: str
    first: int
    first_activation: str
    stages: tuple[StageConfig, ...]
    head: int
    head_activation: str
    mix: int
    eps: float

    @property
    def features(self) -> int:
        """What the classifier takes."""
        return self.mix or self.head

    @property
    def purely_relu(self) -> bool:
        """Whether every activation is a ReLU or ReLU6."""
        used = {self.stem_activation, self.first_activation, self.head_activation}
        return used.union(stage.activation for stage in self.stages) <= {"relu", "relu6"}

    def scaled(self, mult: float) -> MobileNetConfig:
        """Every width times ``mult``, as a multiple of 8."""
        stages = [replace(s, width=divisible(s.width * mult)) for s in self.stages]
        return replace(
            self,
            stem=divisible(self.stem * mult),
            first=divisible(self.first * mult),
            stages=tuple(stages),
            head=divisible(self.head * mult),
            mix=divisible(self.mix * mult) if self.mix else 0,
        )

    def with_strides(self, stem: int, stages: Sequence[int]) -> MobileNetConfig:
        """The same network at other strides."""
        changed = [replace(s, stride=t) for s, t in zip(self.stages, stages, strict=True)]
        return replace(self, stem_stride=stem, stages=tuple(changed))

    def with_kernels(self, stages: Sequence[int]) -> MobileNetConfig:
        """The same network with one kernel size a stage."""
        changed = [replace(s, kernels=(k,)) for s, k in zip(self.stages, stages, strict=True)]
        return replace(self, stages=tuple(changed))

    @property
    def first_block(self) -> Block:
        """The fixed block between stem and stages."""
        return Block(
            in_channels=self.stem,
            mid=self.stem,
            out_channels=self.first,
            kernel=3,
            stride=1,
            activation=self.first_activation,
            gated=False,
            eps=self.eps,
            expands=False,
        )

    def in_channels(self, stage: int, index: int) -> int:
        """What block ``index`` of a stage takes in."""
        if index:
            return self.stages[stage].width
        return self.stages[stage - 1].width if stage else self.first

    def block(self, stage: int, index: int, kernel: int, mid: int) -> Block:
        """Block ``index`` of a stage."""
        s = self.stages[stage]
        return Block(
            in_channels=self.in_channels(stage, index),
            mid=mid,
            out_channels=s.width,
            kernel=kernel,
            stride=1 if index else s.stride,
            activation=s.activation,
            gated=s.gated,
            eps=self.eps,
        )


MOBILENET_V3 = MobileNetConfig(
    stem=16,
    stem_stride=2,
    stem_activation="hswish",
    first=16,
    first_activation="relu",
    stages=(
        StageConfig(24, 2, "relu"),
        StageConfig(40, 2, "relu", gated=True),
        StageConfig(80, 2, "hswish"),
        StageConfig(112, 1, "hswish", gated=True),
        StageConfig(160, 2, "hswish", gated=True),
    ),
    head=960,
    head_activation="hswish",
    mix=1280,
    eps=1e-5,
)

PROXYLESS = MobileNetConfig(
    stem=32,
    stem_stride=2,
    stem_activation="relu6",
    first=16,
    first_activation="relu6",
    stages=(
        StageConfig(24, 2, "relu6"),
        StageConfig(40, 2, "relu6"),
        StageConfig(80, 2, "relu6"),
        StageConfig(96, 1, "relu6"),
        StageConfig(192, 2, "relu6"),
        StageConfig(320, 1, "relu6", depths=(1,)),
    ),
    head=1280,
    head_activation="relu6",
    mix=0,
    eps=1e-3,
)
