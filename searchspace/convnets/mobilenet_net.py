"""MobileNets, plain and elastic.

A 3×3 stem and one fixed block, stages of inverted residual blocks, a 1×1 convolution, the
average pool, for MobileNetV3 one more 1×1 convolution, the classifier.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from ..architecture import Architecture
from ..channels import ChannelGroup
from ..elastic import ElasticLinear, ElasticNetwork, Step, Trace, initialise
from .mbconv import ACTIVATIONS, ElasticMBConv, ElasticPointwise, MBConv, activate
from .mbconv_channels import mbconv_groups
from .mobilenet_config import MobileNetConfig, Shape
from .residual import ConvNorm, ElasticConvNorm, copy_linear, materialise

__all__ = ["ElasticMobileNet", "ElasticReluMobileNet", "MobileNet"]

ShapeOf = Callable[[Architecture], Shape]


class MobileNet(nn.Module):
    """A standalone MobileNet.

    Args:
        config: widths, strides and activations.
        shape: kernel and inner channels of every block, stage by stage.
        num_classes: outputs of the classifier.
        in_channels: channels of the image.
        seed: of the He-normal initial weights; ``None`` leaves them unset.
    """

    def __init__(
        self,
        config: MobileNetConfig,
        shape: Shape,
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        with torch.device("meta"):
            self.stem = ConvNorm(
                in_channels, config.stem, 3, config.stem_stride, act=False, eps=config.eps
            )
            self.stem_act = ACTIVATIONS[config.stem_activation]()
            self.first = MBConv(config.first_block)
            self.stages = nn.Sequential(
                *(
                    nn.Sequential(
                        *(MBConv(config.block(i, j, k, mid)) for j, (k, mid) in enumerate(blocks))
                    )
                    for i, blocks in enumerate(shape)
                )
            )
            self.head = ConvNorm(config.stages[-1].width, config.head, act=False, eps=config.eps)
            self.head_act = ACTIVATIONS[config.head_activation]()
            self.mix: nn.Conv2d | None = None
            if config.mix:
                self.mix = nn.Conv2d(config.head, config.mix, 1, bias=False)
            self.classifier = nn.Linear(config.features, num_classes)
        materialise(self, seed)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, classes]`` of images ``[B, C, H, W]``."""
        x = self.stages(self.first(self.stem_act(self.stem(x))))
        features = self.head_act(self.head(x)).mean(dim=(2, 3))
        if self.mix is not None:
            features = self.head_act(self.mix(features[:, :, None, None])).flatten(1)
        return cast(Tensor, self.classifier(features))


class ElasticMobileNet(ElasticNetwork):
    """Every MobileNet of a configuration in one set of weights.

    Its steps are the stem with the fixed block, which all architectures share, each block,
    and the head. Half of MobileNetV3's stages use h-swish, which has no sign code: a score by
    ReLU codes would see nothing of their depth or width, hence no ``"relu"`` among the traits.

    Args:
        config: widths, strides and choices.
        num_classes: outputs of the classifier.
        in_channels: channels of the image.
        shape_of: kernel and inner channels of an architecture's blocks.
        seed: of the initial weights.
        init: see :func:`~scholarch.searchspace.elastic.initialise`.
    """

    traits: ClassVar[frozenset[str]] = frozenset({"bn"})

    def __init__(
        self,
        config: MobileNetConfig,
        *,
        num_classes: int,
        in_channels: int,
        shape_of: ShapeOf,
        seed: int = 0,
        init: str = "he",
    ) -> None:
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        self.in_channels = in_channels
        self._shape_of = shape_of
        self.stem = ElasticConvNorm(
            in_channels, config.stem, 3, config.stem_stride, act=False, eps=config.eps
        )
        self.first = ElasticMBConv(config.first_block, (3,))
        self.stages = nn.ModuleList()
        for i, stage in enumerate(config.stages):
            blocks = nn.ModuleList()
            for j in range(max(stage.depths)):
                mid = max(stage.expands) * config.in_channels(i, j)
                widest = config.block(i, j, max(stage.kernels), mid)
                blocks.append(ElasticMBConv(widest, stage.kernels))
            self.stages.append(blocks)
        last = config.stages[-1].width
        self.head = ElasticConvNorm(last, config.head, act=False, eps=config.eps)
        self.mix: ElasticPointwise | None = None
        if config.mix:
            self.mix = ElasticPointwise(config.head, config.mix, bias=False)
        self.classifier = ElasticLinear(config.features, num_classes)
        initialise(self, seed=seed, init=init)

    def _block(self, stage: int, index: int) -> ElasticMBConv:
        return cast(ElasticMBConv, cast(nn.ModuleList, self.stages[stage])[index])

    def steps(self, arch: Architecture) -> tuple[Step, ...]:
        blocks = [
            Step("block", (i, j, kernel, mid))
            for i, stage in enumerate(self._shape_of(arch))
            for j, (kernel, mid) in enumerate(stage)
        ]
        return (Step("stem", ()), *blocks, Step("head", ()))

    def run_step(self, step: Step, x: Tensor, trace: Trace) -> Tensor:
        if step.kind == "stem":
            x = self.stem(x, self.config.stem, trace)
            x = activate(x, self.config.stem_activation, trace)
            return cast(Tensor, self.first(x, self.config.first_block, trace))
        if step.kind == "head":
            x = self.head(x, self.config.head, trace)
            return activate(x, self.config.head_activation, trace)
        stage, index, kernel, mid = step.args
        block = self.config.block(stage, index, kernel, mid)
        return cast(Tensor, self._block(stage, index)(x, block, trace))

    def embed(self, pooled: Tensor, trace: Trace) -> Tensor:
        if self.mix is None:
            return pooled
        mixed = self.mix(pooled[:, :, None, None], self.config.mix, trace)
        return activate(mixed, self.config.head_activation, trace).flatten(1)

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """The inner channels of every block and the squeezed ones of its gate."""
        groups: list[ChannelGroup] = []
        for i, stage in enumerate(self.config.stages):
            for j in range(max(stage.depths)):
                mids = [e * self.config.in_channels(i, j) for e in sorted(stage.expands)]
                groups += mbconv_groups(self._block(i, j), f"stages.{i}.{j}", mids)
        return tuple(groups)

    def extract(self, arch: Architecture) -> MobileNet:
        shape = self._shape_of(arch)
        plain = MobileNet(
            self.config,
            shape,
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            seed=None,
        )
        self.stem.copy_into(plain.stem)
        self.first.copy_into(plain.first)
        for i, stage in enumerate(shape):
            for j in range(len(stage)):
                layer = cast(nn.Sequential, plain.stages[i])
                self._block(i, j).copy_into(cast(MBConv, layer[j]))
        self.head.copy_into(plain.head)
        if self.mix is not None and plain.mix is not None:
            self.mix.copy_into(plain.mix)
        copy_linear(self.classifier, plain.classifier)
        return plain.train(self.training)


class ElasticReluMobileNet(ElasticMobileNet):
    """The same where every activation is a ReLU or ReLU6, so that sign codes see all of it."""

    traits: ClassVar[frozenset[str]] = frozenset({"bn", "relu"})
