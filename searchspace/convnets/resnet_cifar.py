"""Spaces of CIFAR ResNets: DisWOT's S0 of 64, and one of elastic depth and width.

``resnet-cifar-s0`` (Dong et al., CVPR 2023, §4.1): widths 16/16/32/64, blocks a stage in
{1, 3, 5, 7}; written ``"335"``. ``resnet-cifar``: stem and stage widths and depths 1 … 9
each chosen; written ``"16-16x3-32x3-64x5"``, the stem's width, then width × blocks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..architecture import Architecture, Gene, Stage
from ..errors import InvalidInputError
from ..space import BYTES, Columns, Matrix, SearchSpace, register_space
from .resnet_cifar_net import STRIDES, CifarResNet, ElasticCifarResNet

__all__ = ["CifarResNetSpace"]

S0_DEPTHS = (1, 3, 5, 7)
S0_WIDTHS = (16, 16, 32, 64)
DEPTHS = tuple(range(1, 10))
WIDTHS = (
    (8, 12, 16, 24, 32),
    (8, 12, 16, 20, 24, 28, 32),
    (16, 24, 32, 40, 48, 56, 64),
    (32, 48, 64, 80, 96, 112, 128),
)


def _scaled(width: int, mult: float) -> int:
    """``width * mult`` to the nearest multiple of 4, at least 4."""
    return max(4, int(width * mult / 4 + 0.5) * 4)


class CifarResNetSpace(SearchSpace):
    """CIFAR ResNets with three stages.

    Genes: blocks of each stage, then channels of the stem and of each stage. A width with
    one value is no gene of the written form, but stays a column of the matrix's values.

    Args:
        name: registered name.
        depths: allowed blocks a stage.
        widths: allowed channels of the stem and the three stages.
        width_mult: factor on every width, rounded to multiples of 4.
        **options: see :class:`~scholarch.searchspace.space.SearchSpace`.
    """

    def __init__(
        self,
        name: str,
        depths: Sequence[int],
        widths: Sequence[Sequence[int]],
        *,
        width_mult: float = 1.0,
        **options: Any,
    ) -> None:
        if not 0.25 <= width_mult <= 8.0:
            raise InvalidInputError(f"width_mult = {width_mult}; need a factor from 0.25 to 8")
        self.width_mult = width_mult
        self._widths = [
            tuple(dict.fromkeys(_scaled(width, width_mult) for width in choices))
            for choices in widths
        ]
        self._elastic_width = any(len(choices) > 1 for choices in self._widths)
        genes = [Gene(f"depth{i}", tuple(depths)) for i in (1, 2, 3)]
        if self._elastic_width:
            genes += [Gene(f"width{i}", choices) for i, choices in enumerate(self._widths)]
        super().__init__(name, genes, **options)

    def spec(self) -> dict[str, Any]:
        return super().spec() | {"width_mult": self.width_mult}

    # ------------------------------------------------------------------ shapes

    def _shapes(self, matrix: Matrix) -> tuple[Matrix, Matrix]:
        """Depths ``[N, 3]`` and widths ``[N, 4]``."""
        values = self.values(matrix)
        if self._elastic_width:
            return values[:, :3], values[:, 3:]
        fixed = np.array([choices[0] for choices in self._widths], dtype=np.int64)
        return values, np.broadcast_to(fixed, (len(values), 4))

    def _shape(self, arch: Architecture) -> tuple[tuple[int, ...], tuple[int, ...]]:
        depths, widths = self._shapes(self.encode([arch]))
        return tuple(depths[0].tolist()), tuple(widths[0].tolist())

    def _stage_costs(self, matrix: Matrix, resolution: int) -> list[tuple[Columns, int]]:
        """Params and MACs of stem, stages and classifier, with the resolution each gives out."""
        depths, widths = self._shapes(matrix)
        width = widths[:, 0].astype(np.float64)
        side = resolution
        weights = 9.0 * self.in_channels * width
        parts = [({"params": weights + 2 * width, "macs": weights * side**2}, side)]
        for i, stride in enumerate(STRIDES):
            previous, width = width, widths[:, i + 1].astype(np.float64)
            blocks = depths[:, i].astype(np.float64)
            side = -(-side // stride)
            weights = 9.0 * width * (previous + width) + (blocks - 1) * 18.0 * width**2
            norms = 4.0 * width * blocks
            if stride != 1:
                projected = np.ones_like(width)
            else:
                projected = (previous != width).astype(np.float64)
            weights += projected * previous * width
            norms += projected * 2.0 * width
            parts.append(({"params": weights + norms, "macs": weights * side**2}, side))
        weights = width * self.num_classes
        parts.append(({"params": weights + self.num_classes, "macs": weights}, 1))
        return parts

    # ------------------------------------------------------------------ the contract

    def _peak_memory(self, matrix: Matrix, resolution: int) -> npt.NDArray[np.float64]:
        """Most bytes that a convolution reads and writes, ``[N]``."""
        _, widths = self._shapes(matrix)
        side = float(resolution)
        peak = (self.in_channels + widths[:, 0]) * side**2
        for i, stride in enumerate(STRIDES):
            area, side = side**2, float(-(-side // stride))
            first = widths[:, i] * area + widths[:, i + 1] * side**2
            # Every block has a second convolution, of equal widths.
            peak = np.maximum(peak, np.maximum(first, 2.0 * widths[:, i + 1] * side**2))
        return np.asarray(BYTES * peak, dtype=np.float64)

    def _cost(self, matrix: Matrix, resolution: int) -> Columns:
        parts = [part for part, _ in self._stage_costs(matrix, resolution)]
        depths, _ = self._shapes(matrix)
        return {
            "params": np.sum([part["params"] for part in parts], axis=0),
            "macs": np.sum([part["macs"] for part in parts], axis=0),
            # The name's own count: ResNet-56 is 6 × 9 + 2 weighted layers.
            "depth": 2.0 * depths.sum(axis=1) + 2.0,
            "peak_memory": self._peak_memory(matrix, resolution),
        }

    def _format(self, choices: tuple[int, ...]) -> str:
        values = [gene.values[i] for gene, i in zip(self.genes, choices, strict=True)]
        if not self._elastic_width:
            return "".join(map(str, values))
        depths, (stem, *widths) = values[:3], values[3:]
        return "-".join([str(stem)] + [f"{w}x{d}" for w, d in zip(widths, depths, strict=True)])

    def _parse(self, text: str) -> Sequence[int]:
        if self._elastic_width:
            match = re.fullmatch(r"(\d+)-(\d+)x(\d+)-(\d+)x(\d+)-(\d+)x(\d+)", text)
            example = "16-16x3-32x3-64x5 (stem width, then width x blocks of each stage)"
            order = [2, 4, 6, 0, 1, 3, 5]
        else:
            match = re.fullmatch(r"(\d)(\d)(\d)", text)
            example = "335 (blocks of each stage)"
            order = [0, 1, 2]
        if match is None:
            raise InvalidInputError(
                f"{text!r} is no architecture of {self.name!r}; write it like {example}"
            )
        values = [int(match.groups()[i]) for i in order]
        return [gene.index(value) for gene, value in zip(self.genes, values, strict=True)]

    def build(self, arch: Architecture, *, seed: int = 0) -> CifarResNet:
        depths, widths = self._shape(arch)
        return CifarResNet(
            depths, widths, num_classes=self.num_classes, in_channels=self.in_channels, seed=seed
        )

    def supernet(self, *, seed: int = 0, init: str = "he") -> ElasticCifarResNet:
        return ElasticCifarResNet(
            [max(gene.values) for gene in self.genes[:3]],
            [max(choices) for choices in self._widths],
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            shape_of=self._shape,
            seed=seed,
            init=init,
        )

    def stages(self, arch: Architecture, *, resolution: int | None = None) -> list[Stage]:
        side = self.resolution if resolution is None else resolution
        parts = self._stage_costs(self.encode([arch]), side)
        depths, widths = self._shape(arch)
        names = ["stem", "stage 1", "stage 2", "stage 3", "classifier"]
        details = ["3×3 convolution"]
        details += [f"basic blocks of two 3×3, stride {stride}" for stride in STRIDES]
        details += ["average pool, linear"]
        return [
            Stage(name, blocks, width, size, int(part["params"][0]), int(part["macs"][0]), detail)
            for name, blocks, width, (part, size), detail in zip(
                names,
                (1, *depths, 1),
                (*widths, self.num_classes),
                parts,
                details,
                strict=True,
            )
        ]


@register_space("resnet-cifar-s0")
def resnet_cifar_s0(name: str, **options: Any) -> CifarResNetSpace:
    """DisWOT's S0: 64 ResNets of widths 16/16/32/64, blocks a stage in {1, 3, 5, 7}."""
    return CifarResNetSpace(name, S0_DEPTHS, [(width,) for width in S0_WIDTHS], **options)


@register_space("resnet-cifar")
def resnet_cifar(name: str, **options: Any) -> CifarResNetSpace:
    """1.25 million ResNets: blocks a stage 1 … 9, stem and stage widths elastic."""
    return CifarResNetSpace(name, DEPTHS, WIDTHS, **options)
