"""Zen-NAS' space of PlainNets, in which DisWOT searches ImageNet students.

Lin et al., ICCV 2021: residual blocks ``SuperResK1KXK1`` and ``SuperResKXKX`` with kernels
3, 5 and 7, whose channels are those of an initial structure × {1/2.5, 1/2, 1/1.5, 1/1.25, 1,
1.25, 1.5, 2, 2.5}, to multiples of 8. There, mutations may drift from the initial structure
without end; here the space is what surrounds it, as a fixed set of genes: the initial number
of stages and strides, and 2 ± {0, 1, 2} layers a stage, of which no stage without a layer.
So no network has more than 18 layers, DisWOT's limit (counted as there, the two outer
convolutions included).

Written as in Zen-NAS: ``SuperConvK3BNRELU(3,32,2,1)`` for the stem: in, out, stride, layers;
``SuperResK3K3(32,64,2,32,1)``: in, out, stride, bottleneck, layers; and at the end
``SuperConvK1BNRELU(512,512,1,1)``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..architecture import Architecture, Gene
from ..errors import InvalidInputError
from ..space import Matrix, register_space
from .plainnet_net import KERNELS, ElasticPlainNet, PlainNet, PlainShape, PlainStage
from .staged import Count, Part, StagedSpace, check_width_mult, halved

__all__ = ["PlainNetSpace", "Structure"]

MULTIPLIERS = (1 / 2.5, 1 / 2, 1 / 1.5, 1 / 1.25, 1.0, 1.25, 1.5, 2.0, 2.5)
MOST_CHANNELS = 2048
LAYERS = (1, 2, 3, 4)
MOST_LAYERS = 18
#: A block's gene value spells its kernels: 131 is ``SuperResK1K3K1``, 33 ``SuperResK3K3``.
BLOCKS = {f"SuperResK1K{k}K1": 101 + 10 * k for k in KERNELS}
BLOCKS |= {f"SuperResK{k}K{k}": 11 * k for k in KERNELS}
NAMES = {value: name for name, value in BLOCKS.items()}
STEM, HEAD = "SuperConvK3BNRELU", "SuperConvK1BNRELU"
#: Columns of the matrix: the stem's width, so many for each stage, the head's width.
PER_STAGE = 4
TOKEN = re.compile(r"([A-Za-z]\w*)\((\d{1,6}(?:,\d{1,6})*)\)")


@dataclass(frozen=True, slots=True)
class Structure:
    """An initial structure.

    Attributes:
        stem: channels of the stem.
        stages: channels and bottleneck channels of each stage.
        head: channels of the last convolution.
        strides: of the stem and of each stage.
    """

    stem: int
    stages: tuple[tuple[int, int], ...]
    head: int
    strides: tuple[int, ...]


#: Those that Zen-NAS' searches start from.
IMAGENET = Structure(32, ((64, 32), (128, 64), (256, 128), (512, 256)), 512, (2, 2, 2, 2, 2))
CIFAR = Structure(8, ((16, 8), (32, 16), (64, 32), (64, 32)), 128, (1, 1, 2, 2, 2))


def _round(channels: float) -> int:
    return max(8, round(min(channels, MOST_CHANNELS) / 8) * 8)


def _around(channels: int) -> tuple[int, ...]:
    """Channels that can be chosen around initial ones."""
    return tuple(sorted({_round(channels * factor) for factor in MULTIPLIERS}))


class PlainNetSpace(StagedSpace):
    """PlainNets around an initial structure.

    ``size`` counts distinct networks: every combination of stem, four choices a stage (block
    with its kernel, layers, channels, bottleneck channels) and head is one. The supernet of
    the ImageNet space holds 420 million weights (1.7 GB) at ``width_mult`` 1, a sixteenth of
    that at ¼.

    Args:
        name: registered name.
        structure: the initial one.
        width_mult: factor on its channels, rounded to multiples of 8.
        **options: see :class:`~scholarch.searchspace.space.SearchSpace`.
    """

    def __init__(
        self, name: str, structure: Structure, *, width_mult: float = 1.0, **options: Any
    ) -> None:
        mult = check_width_mult(width_mult)
        self.strides = structure.strides
        blocks, layers = tuple(BLOCKS.values()), LAYERS
        genes = [Gene("stem", _around(_round(structure.stem * mult)))]
        for i, (width, bottleneck) in enumerate(structure.stages, start=1):
            genes += [
                Gene(f"block{i}", blocks),
                Gene(f"layers{i}", layers),
                Gene(f"width{i}", _around(_round(width * mult))),
                Gene(f"bottleneck{i}", _around(_round(bottleneck * mult))),
            ]
        genes.append(Gene("head", _around(_round(structure.head * mult))))
        super().__init__(name, genes, width_mult=mult, **options)

    # ------------------------------------------------------------------ shapes

    def _shape(self, arch: Architecture) -> PlainShape:
        stem, *inner, head = self.values(self.encode([arch]))[0].tolist()
        stages = []
        for i in range(0, len(inner), PER_STAGE):
            block, layers, width, bottleneck = inner[i : i + PER_STAGE]
            stages.append(PlainStage(_kernel(block), block > 100, layers, width, bottleneck))
        return PlainShape(stem, tuple(stages), head)

    def _parts(self, matrix: Matrix, resolution: int) -> list[Part]:
        values = self.values(matrix).T.astype(np.float64)
        width: Count = values[0]
        side = halved(resolution, self.strides[0])
        stem = Part("stem", side, 1.0, width)
        stem.tally.conv(self.in_channels, width, 3, side, side_in=resolution)
        parts = [stem]
        for i, stride in enumerate(self.strides[1:]):
            before, previous, side = side, width, halved(side, stride)
            block, layers, width, inner = values[1 + PER_STAGE * i : 1 + PER_STAGE * (i + 1)]
            kernel = block // 10 % 10
            narrow = (block > 100).astype(np.float64)
            wide, units = (1.0 - narrow) * layers, 2.0 * layers * narrow
            part = Part(f"stage {i + 1}", side, layers, width)
            count = part.tally.conv
            count(previous, width, 1, side, side_in=before, on_path=False)
            count(previous, inner, kernel, side, side_in=before, times=1.0 - narrow)
            count(width, inner, kernel, side, times=wide - (1.0 - narrow))
            count(inner, width, kernel, side, times=wide)
            # The first 1×1 stands before the stride.
            count(previous, inner, 1, before, times=narrow)
            count(width, inner, 1, side, times=units - narrow)
            count(inner, inner, kernel, side, side_in=before, times=units)
            count(inner, width, 1, side, times=units)
            parts.append(part)
        head = Part("head", side, 1.0, values[-1])
        head.tally.conv(width, values[-1], 1, side)
        classifier = Part("classifier", 1, 1.0, float(self.num_classes))
        classifier.tally.linear(values[-1], self.num_classes)
        return [*parts, head, classifier]

    def _details(self, choices: tuple[int, ...]) -> Sequence[str]:
        blocks = [self.genes[i].values[choices[i]] for i in self._block_columns]
        stages = [
            f"{NAMES[block]}, stride {stride}"
            for block, stride in zip(blocks, self.strides[1:], strict=True)
        ]
        stem = f"3×3 convolution, stride {self.strides[0]}"
        return [stem, *stages, "1×1 convolution", "average pool, linear"]

    @property
    def _block_columns(self) -> range:
        return range(1, len(self.genes) - 1, PER_STAGE)

    # ------------------------------------------------------------------ the contract

    def valid(self, matrix: Matrix) -> np.ndarray[Any, np.dtype[np.bool_]]:
        inside = super().valid(matrix)
        layers = np.zeros(len(matrix), dtype=np.int64)
        for column in self._block_columns:
            most = len(LAYERS) - 1
            layers += np.asarray(LAYERS)[np.clip(matrix[:, column + 1], 0, most)]
        return np.asarray(inside & (layers + 2 <= MOST_LAYERS))

    def _format(self, choices: tuple[int, ...]) -> str:
        values = [gene.values[i] for gene, i in zip(self.genes, choices, strict=True)]
        width = values[0]
        text = f"{STEM}({self.in_channels},{width},{self.strides[0]},1)"
        for i, stride in zip(self._block_columns, self.strides[1:], strict=True):
            block, layers, out, bottleneck = values[i : i + PER_STAGE]
            text += f"{NAMES[block]}({width},{out},{stride},{bottleneck},{layers})"
            width = out
        return f"{text}{HEAD}({width},{values[-1]},1,1)"

    def _parse(self, text: str) -> Sequence[int]:
        text = re.sub(r"\s", "", text)
        found = [(name, [int(n) for n in args.split(",")]) for name, args in TOKEN.findall(text)]
        if not found or TOKEN.sub("", text):
            raise InvalidInputError(
                f"{text[:80]!r} is no PlainNet; write it like {STEM}(3,32,2,1)"
                f"SuperResK3K3(32,64,2,32,1)…{HEAD}(512,512,1,1)"
            )
        if len(found) != len(self.strides) + 1:
            raise self._outside(f"{len(found)} blocks", f"it has {len(self.strides) + 1}")
        values, width = [], self.in_channels
        for i, (name, args) in enumerate(found):
            allowed = [STEM] if i == 0 else [HEAD] if i == len(self.strides) else list(BLOCKS)
            if name not in allowed:
                raise self._outside(f"{name} as block {i + 1}", f"there: {', '.join(allowed)}")
            if len(args) != (5 if name in BLOCKS else 4):
                raise self._outside(f"{len(args)} numbers for {name}", "they are 4, of SuperRes 5")
            stride = self.strides[i] if i < len(self.strides) else 1
            for what, number, fixed in (
                (f"{args[0]} input channels", args[0], width),
                (f"stride {args[2]}", args[2], stride),
                *([] if name in BLOCKS else [(f"{args[3]} layers", args[3], 1)]),
            ):
                if number != fixed:
                    raise self._outside(f"{what} of block {i + 1}, {name},", f"there: {fixed}")
            width = args[1]
            values += [BLOCKS[name], args[4], width, args[3]] if name in BLOCKS else [width]
        return [gene.index(value) for gene, value in zip(self.genes, values, strict=True)]

    def _outside(self, what: str, instead: str) -> InvalidInputError:
        return InvalidInputError(f"{what} lies outside space {self.name!r}; {instead}")

    def build(self, arch: Architecture, *, seed: int = 0) -> PlainNet:
        return PlainNet(
            self._shape(arch),
            self.strides,
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            seed=seed,
        )

    def supernet(self, *, seed: int = 0, init: str = "he") -> ElasticPlainNet:
        stem, *inner, head = (max(gene.values) for gene in self.genes)
        stages = [
            PlainStage(max(KERNELS), False, *inner[i + 1 : i + PER_STAGE])
            for i in range(0, len(inner), PER_STAGE)
        ]
        return ElasticPlainNet(
            PlainShape(stem, tuple(stages), head),
            self.strides,
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            shape_of=self._shape,
            seed=seed,
            init=init,
        )


def _kernel(block: int) -> int:
    return block // 10 % 10


@register_space("plainnet")
def plainnet(name: str, **options: Any) -> PlainNetSpace:
    """Zen-NAS' and DisWOT's ImageNet space: K1KxK1 and KxKx blocks, four stages."""
    return PlainNetSpace(name, IMAGENET, **{"resolution": 224, **options})


@register_space("plainnet-cifar")
def plainnet_cifar(name: str, **options: Any) -> PlainNetSpace:
    """The same around Zen-NAS' initial CIFAR structure, four to eight times thinner."""
    return PlainNetSpace(name, CIFAR, **options)
