"""NAS-Bench-Macro's networks (Su et al., CVPR 2021, §4.3 and code), plain and elastic.

A 3×3 stem, three stages of 2, 3 and 3 layers, a 1×1 convolution, the average pool, a linear
layer; ReLU everywhere. The first layer of a stage has stride 2 and twice the channels: there
the identity is a 1×1 convolution with batch norm. Elsewhere it is nothing at all, and the
layers behind it move up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from ..architecture import Architecture
from ..channels import ChannelGroup
from ..convnets.mbconv import ElasticMBConv, MBConv
from ..convnets.mbconv_channels import mbconv_groups
from ..convnets.mobilenet_config import Block
from ..convnets.residual import ConvNorm, ElasticConvNorm, copy_linear, materialise
from ..elastic import ElasticLinear, ElasticNetwork, Step, Trace, initialise

__all__ = ["BLOCKS", "STAGES", "ElasticMacroNet", "MacroNet", "MacroWidths", "Stages"]

STAGES = (2, 3, 3)
EPS = 1e-5
#: Expand ratio and kernel of each block by its digit; 0 is the identity.
BLOCKS = {1: (3, 3), 2: (6, 5)}
KERNELS = tuple(kernel for _, kernel in BLOCKS.values())

Stages = tuple[tuple[int, ...], ...]
"""The digits of each stage's layers, without the identities that are nothing."""


@dataclass(frozen=True, slots=True)
class MacroWidths:
    """Channels of the stem and of the last convolution."""

    stem: int
    head: int

    def stage(self, stage: int) -> int:
        """What a stage gives out."""
        return self.stem << (stage + 1)

    def block(self, stage: int, layer: int, digit: int) -> Block:
        """The inverted residual block that a digit asks for as layer ``layer`` of a stage."""
        expand, kernel = BLOCKS[digit]
        c_in = self.stage(stage if layer else stage - 1)
        return Block(
            in_channels=c_in,
            mid=expand * c_in,
            out_channels=self.stage(stage),
            kernel=kernel,
            stride=1 if layer else 2,
            activation="relu",
            gated=False,
            eps=EPS,
        )


class MacroNet(nn.Module):
    """A standalone network of NAS-Bench-Macro.

    Args:
        widths: of stem and last convolution.
        stages: digits, stage by stage.
        num_classes: outputs of the classifier.
        in_channels: channels of the image.
        seed: of the He-normal initial weights; ``None`` leaves them unset.
    """

    def __init__(
        self,
        widths: MacroWidths,
        stages: Stages,
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        with torch.device("meta"):
            self.stem = ConvNorm(in_channels, widths.stem, 3)
            self.stages = nn.ModuleList()
            for i, digits in enumerate(stages):
                layers = [
                    MBConv(widths.block(i, j, digit))
                    if digit
                    else ConvNorm(widths.stage(i - 1), widths.stage(i), 1, 2, act=False)
                    for j, digit in enumerate(digits)
                ]
                self.stages.append(nn.Sequential(*layers))
            self.head = ConvNorm(widths.stage(len(stages) - 1), widths.head)
            self.classifier = nn.Linear(widths.head, num_classes)
        materialise(self, seed)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, classes]`` of images ``[B, C, H, W]``."""
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return cast(Tensor, self.classifier(self.head(x).mean(dim=(2, 3))))


class ElasticMacroNet(ElasticNetwork):
    """Every network of NAS-Bench-Macro in one set of weights.

    A layer owns the larger block, MB6_K5, in which MB3_K3 is nested, and the first of a stage
    the convolution that stands for the identity as well.

    Args:
        widths: of stem and last convolution.
        num_classes: outputs of the classifier.
        in_channels: channels of the image.
        stages_of: digits of an architecture, stage by stage.
        seed: of the initial weights.
        init: see :func:`~scholarch.searchspace.elastic.initialise`.
    """

    traits: ClassVar[frozenset[str]] = frozenset({"bn", "relu"})

    def __init__(
        self,
        widths: MacroWidths,
        *,
        num_classes: int,
        in_channels: int,
        stages_of: Callable[[Architecture], Stages],
        seed: int = 0,
        init: str = "he",
    ) -> None:
        super().__init__()
        self.widths = widths
        self.num_classes = num_classes
        self.in_channels = in_channels
        self._stages_of = stages_of
        self.stem = ElasticConvNorm(in_channels, widths.stem, 3)
        self.shortcuts = nn.ModuleList()
        self.stages = nn.ModuleList()
        for i, count in enumerate(STAGES):
            c_in, c_out = widths.stage(i - 1), widths.stage(i)
            self.shortcuts.append(ElasticConvNorm(c_in, c_out, 1, 2, act=False))
            blocks = [widths.block(i, j, max(BLOCKS)) for j in range(count)]
            self.stages.append(nn.ModuleList(ElasticMBConv(b, KERNELS) for b in blocks))
        self.head = ElasticConvNorm(widths.stage(len(STAGES) - 1), widths.head)
        self.classifier = ElasticLinear(widths.head, num_classes)
        initialise(self, seed=seed, init=init)

    def _shortcut(self, stage: int) -> ElasticConvNorm:
        return cast(ElasticConvNorm, self.shortcuts[stage])

    def _block(self, stage: int, layer: int) -> ElasticMBConv:
        return cast(ElasticMBConv, cast(nn.ModuleList, self.stages[stage])[layer])

    def steps(self, arch: Architecture) -> tuple[Step, ...]:
        layers = [
            Step("layer", (i, j, digit))
            for i, digits in enumerate(self._stages_of(arch))
            for j, digit in enumerate(digits)
        ]
        return (Step("stem", ()), *layers, Step("head", ()))

    def run_step(self, step: Step, x: Tensor, trace: Trace) -> Tensor:
        if step.kind == "stem":
            return cast(Tensor, self.stem(x, self.widths.stem, trace))
        if step.kind == "head":
            return cast(Tensor, self.head(x, self.widths.head, trace))
        stage, layer, digit = step.args
        if not digit:
            return cast(Tensor, self._shortcut(stage)(x, self.widths.stage(stage), trace))
        block = self.widths.block(stage, layer, digit)
        return cast(Tensor, self._block(stage, layer)(x, block, trace))

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """The inner channels of every block."""
        groups: list[ChannelGroup] = []
        for i, count in enumerate(STAGES):
            for j in range(count):
                mids = sorted(self.widths.block(i, j, digit).mid for digit in BLOCKS)
                groups += mbconv_groups(self._block(i, j), f"stages.{i}.{j}", mids)
        return tuple(groups)

    def extract(self, arch: Architecture) -> MacroNet:
        stages = self._stages_of(arch)
        plain = MacroNet(
            self.widths,
            stages,
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            seed=None,
        )
        self.stem.copy_into(plain.stem)
        for i, digits in enumerate(stages):
            for j, digit in enumerate(digits):
                layer = cast(nn.Sequential, plain.stages[i])[j]
                if digit:
                    self._block(i, j).copy_into(cast(MBConv, layer))
                else:
                    self._shortcut(i).copy_into(cast(ConvNorm, layer))
        self.head.copy_into(plain.head)
        copy_linear(self.classifier, plain.classifier)
        return plain.train(self.training)
