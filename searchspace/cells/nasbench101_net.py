"""NAS-Bench-101's networks (Ying et al., ICML 2019, §2.3), plain and elastic.

A 3×3 stem, three stacks of three equal cells, a 2×2 max pool before the second and the third,
whose cells are twice as wide; global mean, linear layer. In a cell, what enters an inner
vertex is added: the input through a 1×1 projection of its own, other vertices cut to the
channels that are needed. What enters the output is concatenated, the projected input added.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..architecture import Architecture
from ..convnets.residual import ConvNorm, ElasticConvNorm, copy_linear, materialise
from ..elastic import ElasticLinear, ElasticNetwork, Step, Trace, initialise
from .nasbench101_graph import INNER, OPS, SLOTS, edges_into, vertex_channels

__all__ = ["CELLS", "STACKS", "Cell", "ElasticNasBench101Net", "NasBench101Net"]

STACKS = 3
CELLS = 3
_OUTPUT = SLOTS - 1
#: Kernel of each op, 0 for the 3×3 max pool.
KERNELS = tuple({"conv3x3-bn-relu": 3, "conv1x1-bn-relu": 1}.get(op, 0) for op in OPS)


@dataclass(frozen=True, slots=True)
class Cell:
    """A pruned cell.

    Attributes:
        code: its edges, see :mod:`~scholarch.searchspace.cells.nasbench101_graph`.
        ops: of its inner vertices, from slot 1 on, as indices.
    """

    code: int
    ops: tuple[int, ...]

    def sources(self, slot: int) -> list[int]:
        """Slots with an edge to this one, ascending."""
        bits = int(edges_into(np.array([self.code]), slot)[0])
        return [s for s in range(slot) if bits >> s & 1]

    def widths(self, channels: int) -> dict[int, int]:
        """Channels of the inner slots in use and of the output."""
        inner = vertex_channels(np.array([self.code]), channels)[0].tolist()
        return dict(enumerate(inner[: len(self.ops)], start=1)) | {_OUTPUT: channels}


def _flow(
    cell: Cell,
    x: Tensor,
    widths: dict[int, int],
    project: Callable[[int], Tensor],
    operate: Callable[[int, Tensor], Tensor],
) -> Tensor:
    """From the cell's input to its output.

    Args:
        cell: what is connected to what.
        x: its input.
        widths: channels by slot.
        project: the input's projection for a slot.
        operate: the op of an inner slot, given what enters it.
    """
    values = [x]
    for slot in range(1, len(cell.ops) + 1):
        sources = cell.sources(slot)
        terms = [values[s][:, : widths[slot]] for s in sources if s]
        if 0 in sources:
            terms.append(project(slot))
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        values.append(operate(slot, total))
    sources = cell.sources(_OUTPUT)
    ends = [values[s] for s in sources if s]
    if not ends:
        return project(_OUTPUT)
    out = ends[0] if len(ends) == 1 else torch.cat(ends, dim=1)
    return out + project(_OUTPUT) if 0 in sources else out


class _PlainCell(nn.Module):
    """A cell of fixed channels."""

    def __init__(self, cell: Cell, c_in: int, c_out: int) -> None:
        super().__init__()
        self.cell = cell
        self.widths = cell.widths(c_out)
        self.projections = nn.ModuleDict()
        self.ops = nn.ModuleDict()
        for slot, width in self.widths.items():
            if 0 in cell.sources(slot):
                self.projections[str(slot)] = ConvNorm(c_in, width)
        for slot, op in enumerate(cell.ops, start=1):
            kernel, width = KERNELS[op], self.widths[slot]
            self.ops[str(slot)] = (
                ConvNorm(width, width, kernel) if kernel else nn.MaxPool2d(3, 1, 1)
            )

    def forward(self, x: Tensor) -> Tensor:
        return _flow(
            self.cell,
            x,
            self.widths,
            lambda slot: cast(Tensor, self.projections[str(slot)](x)),
            lambda slot, total: cast(Tensor, self.ops[str(slot)](total)),
        )


class NasBench101Net(nn.Module):
    """A standalone network of NAS-Bench-101.

    Args:
        cell: what it is stacked from.
        width: channels of the stem and of the first stack.
        num_classes: outputs of the classifier.
        in_channels: channels of the image.
        seed: of the He-normal initial weights; ``None`` leaves them unset.
    """

    def __init__(
        self,
        cell: Cell,
        width: int,
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2, 2, ceil_mode=True)
        with torch.device("meta"):
            self.stem = ConvNorm(in_channels, width, 3)
            self.stacks = nn.ModuleList()
            previous = width
            for stack in range(STACKS):
                channels = width << stack
                cells = [
                    _PlainCell(cell, previous if i == 0 else channels, channels)
                    for i in range(CELLS)
                ]
                self.stacks.append(nn.Sequential(*cells))
                previous = channels
            self.fc = nn.Linear(previous, num_classes)
        materialise(self, seed)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, classes]`` of images ``[B, C, H, W]``."""
        x = self.stem(x)
        for i, stack in enumerate(self.stacks):
            x = stack(self.pool(x) if i else x)
        return cast(Tensor, self.fc(x.mean(dim=(2, 3))))


class _ElasticCell(nn.Module):
    """Every cell of given input and output channels.

    A slot owns a projection and one convolution for each op that has one, of as many channels
    as the output, and uses the leading ones.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.c_out = c_out
        slots = range(1, SLOTS)
        self.projections = nn.ModuleDict({str(t): ElasticConvNorm(c_in, c_out) for t in slots})
        self.convs = nn.ModuleDict(
            {
                f"{slot}_{kernel}": ElasticConvNorm(c_out, c_out, kernel)
                for slot in range(1, INNER + 1)
                for kernel in KERNELS
                if kernel
            }
        )

    def forward(self, x: Tensor, cell: Cell, trace: Trace) -> Tensor:
        widths = cell.widths(self.c_out)

        def project(slot: int) -> Tensor:
            return cast(Tensor, self.projections[str(slot)](x, widths[slot], trace))

        def operate(slot: int, total: Tensor) -> Tensor:
            kernel = KERNELS[cell.ops[slot - 1]]
            if not kernel:
                return functional.max_pool2d(total, 3, 1, 1)
            return cast(Tensor, self.convs[f"{slot}_{kernel}"](total, widths[slot], trace))

        return _flow(cell, x, widths, project, operate)

    def copy_into(self, plain: _PlainCell) -> None:
        """Copy the slices that a plain cell holds."""
        for slot, projection in plain.projections.items():
            own = cast(ElasticConvNorm, self.projections[slot])
            own.copy_into(cast(ConvNorm, projection))
        for slot, op in plain.ops.items():
            if isinstance(op, ConvNorm):
                own = cast(ElasticConvNorm, self.convs[f"{slot}_{op.conv.kernel_size[0]}"])
                own.copy_into(op)


class ElasticNasBench101Net(ElasticNetwork):
    """Every network of NAS-Bench-101 in one set of weights.

    Args:
        width: channels of the stem and of the first stack.
        num_classes: outputs of the classifier.
        in_channels: channels of the image.
        cell_of: the pruned cell of an architecture.
        seed: of the initial weights.
        init: see :func:`~scholarch.searchspace.elastic.initialise`.
    """

    traits: ClassVar[frozenset[str]] = frozenset({"bn", "relu"})

    def __init__(
        self,
        width: int,
        *,
        num_classes: int,
        in_channels: int,
        cell_of: Callable[[Architecture], Cell],
        seed: int = 0,
        init: str = "he",
    ) -> None:
        super().__init__()
        self._cell_of = cell_of
        self.width = width
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.stem = ElasticConvNorm(in_channels, width, 3)
        self.stacks = nn.ModuleList()
        previous = width
        for stack in range(STACKS):
            channels = width << stack
            cells = [_ElasticCell(previous if i == 0 else channels, channels) for i in range(CELLS)]
            self.stacks.append(nn.ModuleList(cells))
            previous = channels
        self.classifier = ElasticLinear(previous, num_classes)
        initialise(self, seed=seed, init=init)

    def _cell(self, stack: int, index: int) -> _ElasticCell:
        return cast(_ElasticCell, cast(nn.ModuleList, self.stacks[stack])[index])

    def steps(self, arch: Architecture) -> tuple[Step, ...]:
        cell = self._cell_of(arch)
        places = [(stack, i) for stack in range(STACKS) for i in range(CELLS)]
        cells = [Step("cell", (*place, cell.code, *cell.ops)) for place in places]
        return (Step("stem", ()), *cells)

    def run_step(self, step: Step, x: Tensor, trace: Trace) -> Tensor:
        if step.kind == "stem":
            return cast(Tensor, self.stem(x, self.width, trace))
        stack, index, code, *ops = step.args
        if stack and not index:
            x = functional.max_pool2d(x, 2, 2, ceil_mode=True)
        return cast(Tensor, self._cell(stack, index)(x, Cell(code, tuple(ops)), trace))

    def extract(self, arch: Architecture) -> NasBench101Net:
        plain = NasBench101Net(
            self._cell_of(arch),
            self.width,
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            seed=None,
        )
        self.stem.copy_into(plain.stem)
        for i in range(STACKS):
            for j, cell in enumerate(cast(nn.Sequential, plain.stacks[i])):
                self._cell(i, j).copy_into(cast(_PlainCell, cell))
        copy_linear(self.classifier, plain.fc)
        return plain.train(self.training)
