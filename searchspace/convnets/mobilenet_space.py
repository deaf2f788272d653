"""The space of MobileNets that one configuration spans.

Cai et al., ICLR 2020, §3 and §4.1: depth by stage, kernel and expand ratio by block; with
CompOFA's rule (Sahni et al., ICLR 2021, §3.2) the depth of a stage fixes its expand ratios.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..architecture import Architecture, Gene
from ..conditional import ConditionalSpace
from ..errors import InvalidInputError
from ..space import Matrix
from . import mobilenet_notation
from .mobilenet_config import MobileNetConfig, Shape
from .mobilenet_net import ElasticMobileNet, ElasticReluMobileNet, MobileNet
from .staged import Count, Part, StagedSpace, Tally, check_width_mult, halved

__all__ = ["MobileNetSpace"]


class MobileNetSpace(ConditionalSpace, StagedSpace):
    """MobileNets of one configuration.

    Genes: the depth of each stage, then the kernel of each block, then its expand ratio;
    what has one value is no gene. Genes of blocks beyond a stage's depth are inactive: their
    canonical index is 0, so that rows which differ there alone share a key. Rows are uniform
    over gene values, as once-for-all samples them, not over architectures, of which most are
    deep. The resolution is an option of the space, not a gene.

    Args:
        name: registered name.
        config: widths, strides and choices at width 1.
        compound: depth → expand ratio, or empty where every block has its own.
        width_mult: factor on every width, rounded to multiples of 8.
        **options: see :class:`~scholarch.searchspace.space.SearchSpace`.
    """

    def __init__(
        self,
        name: str,
        config: MobileNetConfig,
        *,
        compound: Mapping[int, int] | None = None,
        width_mult: float = 1.0,
        **options: Any,
    ) -> None:
        self.config = config.scaled(check_width_mult(width_mult))
        self._compound = dict(compound or {})
        stages = self.config.stages
        self._blocks = [(i, j) for i, s in enumerate(stages) for j in range(max(s.depths))]
        genes: list[Gene] = []
        self._columns: dict[tuple[str, int], int] = {}
        for i, stage in enumerate(stages):
            self._add(genes, "d", i, f"depth{i + 1}", stage.depths)
        for b, (i, j) in enumerate(self._blocks):
            self._add(genes, "ks", b, f"kernel{i + 1}.{j + 1}", stages[i].kernels)
        if not self._compound:
            for b, (i, j) in enumerate(self._blocks):
                self._add(genes, "e", b, f"expand{i + 1}.{j + 1}", stages[i].expands)
        super().__init__(name, genes, width_mult=width_mult, **options)

    def _add(
        self, genes: list[Gene], kind: str, at: int, name: str, values: tuple[int, ...]
    ) -> None:
        if len(values) > 1:
            self._columns[kind, at] = len(genes)
            genes.append(Gene(name, values))

    @property
    def size(self) -> int:
        """Number of different networks: rows that differ in inactive genes count once.

        7371⁵ ≈ 2.18e19 for ``mobilenetv3``, once-for-all's own count at one resolution.
        """
        total = 1
        for stage in self.config.stages:
            choices = len(stage.kernels) * (1 if self._compound else len(stage.expands))
            total *= sum(choices**depth for depth in stage.depths)
        return total

    # ------------------------------------------------------------------ the matrix

    def _depth(self, matrix: Matrix, stage: int) -> npt.NDArray[np.int64]:
        """Blocks of a stage, ``[N]``."""
        depths = np.array(self.config.stages[stage].depths)
        column = self._columns.get(("d", stage))
        return depths[matrix[:, column]] if column is not None else depths[:1].repeat(len(matrix))

    def _index(self, matrix: Matrix, kind: str, block: int) -> npt.NDArray[np.int64]:
        """Index of a block's kernel (``"ks"``) or expand ratio (``"e"``), ``[N]``."""
        stage = self.config.stages[self._blocks[block][0]]
        if kind == "e" and self._compound:
            ratios = [stage.expands.index(self._compound[depth]) for depth in stage.depths]
            return np.array(ratios)[matrix[:, self._columns["d", self._blocks[block][0]]]]
        column = self._columns.get((kind, block))
        return matrix[:, column] if column is not None else np.zeros(len(matrix), np.int64)

    def _active(self, matrix: Matrix) -> npt.NDArray[np.bool_]:
        active = np.ones(matrix.shape, dtype=np.bool_)
        for b, (i, j) in enumerate(self._blocks):
            for kind in ("ks", "e"):
                if (column := self._columns.get((kind, b))) is not None:
                    active[:, column] = self._depth(matrix, i) > j
        return active

    def _shape(self, arch: Architecture) -> Shape:
        return self._shape_of_row(self.encode([arch]))

    def _shape_of_row(self, row: Matrix) -> Shape:
        """Kernel and inner channels of every block there is, of a matrix of one row."""
        shape: list[list[tuple[int, int]]] = [[] for _ in self.config.stages]
        for b, (i, j) in enumerate(self._blocks):
            if j < int(self._depth(row, i)[0]):
                stage = self.config.stages[i]
                kernel = stage.kernels[int(self._index(row, "ks", b)[0])]
                expand = stage.expands[int(self._index(row, "e", b)[0])]
                shape[i].append((kernel, expand * self.config.in_channels(i, j)))
        return tuple(map(tuple, shape))

    # ------------------------------------------------------------------ costs

    def _parts(self, matrix: Matrix, resolution: int) -> list[Part]:
        config = self.config
        side = halved(resolution, config.stem_stride)
        stem = Part("stem", side, 2.0, float(config.first))
        stem.tally.conv(self.in_channels, config.stem, 3, side, side_in=resolution)
        first = config.first_block
        _add(stem.tally, [*first.cost(side), first.layers, first.peak(side)])
        parts = [stem]
        for i, stage in enumerate(config.stages):
            depth = self._depth(matrix, i)
            part = Part(
                f"stage {i + 1}",
                halved(side, stage.stride),
                depth.astype(np.float64),
                float(stage.width),
            )
            for b, (_, j) in (item for item in enumerate(self._blocks) if item[1][0] == i):
                width = config.in_channels(i, j)
                grid = [config.block(i, j, k, e * width) for k, e in stage.choices]
                # Looked up, not computed N times; the first line is a block that is not there.
                lines = [(0, 0, 0, 0)]
                lines += [(*b.cost(side), b.layers, b.peak(side)) for b in grid]
                cell = self._index(matrix, "ks", b) * len(stage.expands)
                cell = 1 + cell + self._index(matrix, "e", b)
                table = np.array(lines, dtype=np.float64).T
                _add(part.tally, table[:, np.where(depth > j, cell, 0)])
                side = part.side
            parts.append(part)
        head = Part("head", 1, 1.0, float(config.features))
        head.tally.conv(config.stages[-1].width, config.head, 1, side)
        if config.mix:
            weights = config.head * config.mix
            _add(head.tally, [weights, weights, 1, config.head + config.mix])
        last = Part("classifier", 1, 1.0, float(self.num_classes))
        last.tally.linear(config.features, self.num_classes)
        return [*parts, head, last]

    def _details(self, choices: tuple[int, ...]) -> Sequence[str]:
        config = self.config
        details = ["3×3 convolution, 3×3 depthwise and 1×1"]
        for i, blocks in enumerate(self._shape_of_row(np.array([choices]))):
            stage = config.stages[i]
            sizes = (
                f"{k}×{k} e{mid // config.in_channels(i, j)}" for j, (k, mid) in enumerate(blocks)
            )
            gated = "gated " if stage.gated else ""
            details.append(f"{gated}inverted residuals {', '.join(sizes)}, stride {stage.stride}")
        after = "average pool, 1×1 convolution" if config.mix else "average pool"
        return [*details, f"1×1 convolution, {after}", "linear"]

    # ------------------------------------------------------------------ the contract

    def _format(self, choices: tuple[int, ...]) -> str:
        row = np.array([choices], dtype=np.int64)
        stages = self.config.stages
        kernels, expands = [], []
        for b, (i, _) in enumerate(self._blocks):
            kernels.append(stages[i].kernels[int(self._index(row, "ks", b)[0])])
            expands.append(stages[i].expands[int(self._index(row, "e", b)[0])])
        depths = [int(self._depth(row, i)[0]) for i in range(len(stages))]
        return mobilenet_notation.write(kernels, expands, depths)

    def _parse(self, text: str) -> Sequence[int]:
        stages = self.config.stages
        lists = mobilenet_notation.read(
            text, blocks=len(self._blocks), stages=len(stages), width_mult=self.width_mult
        )
        if lists["d"] is None:
            raise InvalidInputError(f"an architecture of {self.name!r} needs its depths, d")
        choices = [0] * len(self.genes)
        # A stage without a choice takes any depth down to its own, as once-for-all's code does.
        depths = [
            min(depth, *stage.depths) if len(stage.depths) == 1 else depth
            for stage, depth in zip(stages, lists["d"], strict=True)
        ]
        for i, (stage, depth) in enumerate(zip(stages, depths, strict=True)):
            index = Gene(f"d of stage {i + 1}", stage.depths).index(depth)
            self._choose(choices, ("d", i), index)
        for kind in ("ks", "e"):
            self._parse_blocks(kind, lists[kind], depths, choices)
        return choices

    def _parse_blocks(
        self, kind: str, values: list[int] | None, depths: list[int], choices: list[int]
    ) -> None:
        """Fill in the genes of kernels or expand ratios; ``values`` may lack what is fixed."""
        for b, (i, j) in enumerate(self._blocks):
            stage = self.config.stages[i]
            allowed = stage.kernels if kind == "ks" else stage.expands
            if kind == "e" and self._compound:
                allowed = (self._compound[depths[i]],)
            if values is None and len(allowed) > 1:
                raise InvalidInputError(f"an architecture of {self.name!r} needs {kind}")
            value = allowed[0] if values is None else values[b]
            # What a block holds that is not there is of no matter.
            if j < depths[i] or value in allowed:
                index = Gene(f"{kind} of stage {i + 1}, block {j + 1}", allowed).index(value)
                self._choose(choices, (kind, b), index)

    def _choose(self, choices: list[int], column: tuple[str, int], index: int) -> None:
        if column in self._columns:
            choices[self._columns[column]] = index

    def build(self, arch: Architecture, *, seed: int = 0) -> MobileNet:
        return MobileNet(
            self.config,
            self._shape(arch),
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            seed=seed,
        )

    def supernet(self, *, seed: int = 0, init: str = "he") -> ElasticMobileNet:
        kind = ElasticReluMobileNet if self.config.purely_relu else ElasticMobileNet
        return kind(
            self.config,
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            shape_of=self._shape,
            seed=seed,
            init=init,
        )


def _add(tally: Tally, costs: Sequence[Count] | npt.NDArray[np.float64]) -> None:
    """Add parameters, multiply-accumulates, layers and a peak, in this order."""
    tally.params = tally.params + costs[0]
    tally.macs = tally.macs + costs[1]
    tally.layers = tally.layers + costs[2]
    tally.peak = np.maximum(tally.peak, costs[3])
