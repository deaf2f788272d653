"""NAS-Bench-201's networks (Dong & Yang, ICLR 2020, §2.1 and fig. 1), plain and elastic.

A 3×3 stem, three stages of equal cells, between them a residual block of stride 2 that
doubles the channels; at the end batch norm, ReLU, average pool, linear. The block's shortcut
is a 2×2 average pool and a 1×1 convolution that no batch norm follows; of a side of odd length
the pool keeps what is left over, as the strided convolution beside it does.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise
from typing import ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..architecture import Architecture
from ..convnets.mbconv import ElasticPointwise
from ..convnets.residual import ConvNorm, ElasticConvNorm, copy_linear, materialise
from ..elastic import ElasticBatchNorm2d, ElasticLinear, ElasticNetwork, Step, Trace, initialise
from .nasbench201_cell import Cell, ConvOperation, ElasticCell

__all__ = ["STAGES", "CellNetwork", "CellShape", "ElasticCellNetwork"]

STAGES = 3


class CellShape(NamedTuple):
    """What tells one network from another.

    Attributes:
        ops: the operation of each edge, an index.
        channels: of the stem and the first stage; each further stage has twice as many.
        cells: in each stage.
    """

    ops: tuple[int, ...]
    channels: int
    cells: int

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(self.channels << stage for stage in range(STAGES))


class Reduction(nn.Module):
    """The residual block between two stages.

    Args:
        c_in: input channels.
        c_out: output channels.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.first = ConvOperation(c_in, c_out, 3, 2)
        self.second = ConvOperation(c_out, c_out, 3)
        self.pool = nn.AvgPool2d(2, 2, ceil_mode=True)
        self.project = nn.Conv2d(c_in, c_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.second(self.first(x))
        return cast(Tensor, self.project(self.pool(x)) + out)


class CellNetwork(nn.Module):
    """A standalone network.

    Args:
        shape: what tells it from others.
        num_classes: outputs of the classifier.
        in_channels: channels of the image.
        seed: of the He-normal initial weights; ``None`` leaves them unset.
    """

    def __init__(
        self,
        shape: CellShape,
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        with torch.device("meta"):
            self.stem = ConvNorm(in_channels, shape.channels, 3, act=False)
            stages: list[nn.Module] = []
            previous = shape.channels
            for width in shape.widths:
                blocks: list[nn.Module] = [Reduction(previous, width)] if stages else []
                blocks += [Cell(shape.ops, width) for _ in range(shape.cells)]
                stages.append(nn.Sequential(*blocks))
                previous = width
            self.stages = nn.Sequential(*stages)
            self.norm = nn.BatchNorm2d(previous)
            self.act = nn.ReLU()
            self.fc = nn.Linear(previous, num_classes)
        materialise(self, seed)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, classes]`` of images ``[B, C, H, W]``."""
        x = self.act(self.norm(self.stages(self.stem(x))))
        return cast(Tensor, self.fc(x.mean(dim=(2, 3))))


class _ElasticReduction(nn.Module):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.channels = c_out
        self.first = ElasticConvNorm(c_in, c_out, 3, 2, act=False)
        self.second = ElasticConvNorm(c_out, c_out, 3, act=False)
        self.project = ElasticPointwise(c_in, c_out, bias=False)

    def forward(self, x: Tensor, trace: Trace) -> Tensor:
        # Not in place: the shortcut and whoever else was given x read it, too.
        out = functional.relu(x)
        if trace.want_relus:
            trace.relus.append(out)
        out = self.first(out, self.channels, trace)
        out = self.second(trace.relu(out), self.channels, trace)
        pooled = functional.avg_pool2d(x, 2, 2, ceil_mode=True)
        return cast(Tensor, trace.unit(self.project(pooled, self.channels, trace)) + out)

    def copy_into(self, plain: Reduction) -> None:
        self.first.copy_into(plain.first.conv)
        self.second.copy_into(plain.second.conv)
        self.project.copy_into(plain.project)


class ElasticCellNetwork(ElasticNetwork):
    """Every cell in one set of weights: each edge of each cell has both convolutions.

    Args:
        channels: of the first stage.
        cells: in each stage.
        num_classes: outputs of the classifier.
        in_channels: channels of the image.
        shape_of: what tells an architecture from others.
        seed: of the initial weights.
        init: see :func:`~scholarch.searchspace.elastic.initialise`.
    """

    traits: ClassVar[frozenset[str]] = frozenset({"bn", "relu"})

    def __init__(
        self,
        channels: int,
        cells: int,
        *,
        num_classes: int,
        in_channels: int,
        shape_of: Callable[[Architecture], CellShape],
        seed: int = 0,
        init: str = "he",
    ) -> None:
        super().__init__()
        self._shape_of = shape_of
        self.num_classes = num_classes
        self.in_channels = in_channels
        widths = CellShape((), channels, cells).widths
        self.stem = ElasticConvNorm(in_channels, channels, 3, act=False)
        self.cells = nn.ModuleList(
            nn.ModuleList(ElasticCell(width) for _ in range(cells)) for width in widths
        )
        self.reductions = nn.ModuleList(
            _ElasticReduction(c_in, c_out) for c_in, c_out in pairwise(widths)
        )
        self.norm = ElasticBatchNorm2d(widths[-1])
        self.classifier = ElasticLinear(widths[-1], num_classes)
        initialise(self, seed=seed, init=init)

    def steps(self, arch: Architecture) -> tuple[Step, ...]:
        shape = self._shape_of(arch)
        steps = [Step("stem", ())]
        for stage in range(STAGES):
            if stage:
                steps.append(Step("reduce", (stage,)))
            steps += [Step("cell", (stage, cell, *shape.ops)) for cell in range(shape.cells)]
        return (*steps, Step("head", ()))

    def run_step(self, step: Step, x: Tensor, trace: Trace) -> Tensor:
        if step.kind == "stem":
            return cast(Tensor, self.stem(x, self.stem.conv.weight.shape[0], trace))
        if step.kind == "head":
            return trace.relu(self.norm(x))
        if step.kind == "reduce":
            return cast(Tensor, self._reduction(step.args[0])(x, trace))
        stage, cell, *ops = step.args
        return cast(Tensor, self._cell(stage, cell)(x, tuple(ops), trace))

    def group_key(self, step: Step) -> Hashable:
        return Step(step.kind, step.args[:2])

    def run_group(self, steps: Sequence[Step], x: Tensor, trace: Trace) -> Tensor:
        if steps[0].kind != "cell" or len(steps) == 1:
            return self.run_step(steps[0], x, trace)
        stage, cell = steps[0].args[:2]
        return self._cell(stage, cell).together(x, [step.args[2:] for step in steps], trace)

    def _cell(self, stage: int, cell: int) -> ElasticCell:
        return cast(ElasticCell, cast(nn.ModuleList, self.cells[stage])[cell])

    def _reduction(self, stage: int) -> _ElasticReduction:
        return cast(_ElasticReduction, self.reductions[stage - 1])

    def extract(self, arch: Architecture) -> CellNetwork:
        shape = self._shape_of(arch)
        plain = CellNetwork(
            shape, num_classes=self.num_classes, in_channels=self.in_channels, seed=None
        )
        self.stem.copy_into(plain.stem)
        for stage in range(STAGES):
            blocks = list(cast(nn.Sequential, plain.stages[stage]))
            if stage:
                self._reduction(stage).copy_into(cast(Reduction, blocks.pop(0)))
            for cell, block in enumerate(blocks):
                self._cell(stage, cell).copy_into(cast(Cell, block))
        self.norm.copy_into(plain.norm)
        copy_linear(self.classifier, plain.fc)
        return plain.train(self.training)
