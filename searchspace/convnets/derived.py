"""A space derived from a convolutional teacher: its stages, widths and depths scaled down.

What is known of the teacher is its :class:`TeacherShape`, plain numbers; measuring it is the
business of ``scholarch.proxies.teacher_shape``. An architecture is written width × blocks,
stage by stage: ``"16x3-32x5-64x9"``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..architecture import Architecture, Gene
from ..errors import InvalidInputError
from ..space import Matrix, register_space
from .derived_net import (
    EXPANSION,
    KINDS,
    DerivedNet,
    DerivedShape,
    ElasticDerivedNet,
    bottleneck_channels,
)
from .staged import Count, Part, StagedSpace, check_width_mult, halved

__all__ = ["DerivedSpace", "TeacherShape", "derive_space"]

FRACTIONS = (1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8, 1.0)
MOST_DEPTHS = 6

#: The last map keeps so many pixels a side, where strides can be had for it.
LAST_SIDE = 4

#: ResNet-56's for CIFAR, what ``create_space("derived")`` makes without a teacher.
RESNET56 = ((16, 9, 1), (32, 9, 2), (64, 9, 2))

BLOCKS = {
    "basic": "two 3×3",
    "bottleneck": "1×1, 3×3, 1×1",
    "mbconv": "1×1, depthwise 3×3, 1×1",
}


@dataclass(frozen=True, slots=True)
class TeacherShape:
    """The outline of a convolutional network.

    Attributes:
        stem_stride: by which the image has shrunk when the first stage begins, 1, 2, 4 … 64.
        stages: width, depth (in blocks) and stride of each, shallow to deep.
        kind: of its blocks, ``"basic"``, ``"bottleneck"`` or ``"mbconv"``.

    Raises:
        InvalidInputError: if a number is out of range or the kind unknown.
    """

    stem_stride: int
    stages: tuple[tuple[int, int, int], ...]
    kind: str = "basic"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InvalidInputError(f"kind = {self.kind!r}; need one of {', '.join(KINDS)}")
        if not _is_power(self.stem_stride, 64):
            raise InvalidInputError(
                f"stem_stride = {self.stem_stride!r}; need 1, 2, 4, 8, 16, 32 or 64"
            )
        if not isinstance(self.stages, list | tuple) or not 1 <= len(self.stages) <= 16:
            raise InvalidInputError(
                f"stages = {self.stages!r}; need 1 to 16 of [width, depth, stride]"
            )
        for stage in self.stages:
            numbers = isinstance(stage, list | tuple) and len(stage) == 3
            if not numbers or not all(type(n) is int and 1 <= n <= 65536 for n in stage):
                raise InvalidInputError(
                    f"stage {stage!r}; need [width, depth, stride], whole numbers from 1"
                )
            if not _is_power(stage[2], 64):
                raise InvalidInputError(f"stride {stage[2]} of stage {stage!r}; need 1, 2, 4 … 64")
        # Lists, as JSON has them, would not compare equal.
        object.__setattr__(self, "stages", tuple(tuple(stage) for stage in self.stages))

    def fitted(self, resolution: int) -> TeacherShape:
        """The same without strides that images of ``resolution`` pixels are too small for.

        A teacher of images of 224 pixels shrinks them 32-fold; of 32 pixels one would be left.
        So the earliest strides are halved, as CIFAR's versions of ImageNet's networks do,
        until the last map has 4 pixels a side.
        """
        strides = [self.stem_stride, *(stage[2] for stage in self.stages)]
        while _last_side(resolution, strides) < LAST_SIDE and max(strides) > 1:
            first = next(i for i, stride in enumerate(strides) if stride > 1)
            strides[first] //= 2
        stages = tuple(
            (width, depth, stride)
            for (width, depth, _), stride in zip(self.stages, strides[1:], strict=True)
        )
        return replace(self, stem_stride=strides[0], stages=stages)


def _is_power(value: object, most: int) -> bool:
    return type(value) is int and 1 <= value <= most and value & (value - 1) == 0


def _last_side(resolution: int, strides: Sequence[int]) -> int:
    for stride in strides:
        resolution = halved(resolution, stride)
    return resolution


def _depths(depth: int) -> tuple[int, ...]:
    """1 … ``depth``, at most six of them, the two ends included."""
    return tuple(sorted({round(d) for d in np.linspace(1, depth, min(depth, MOST_DEPTHS))}))


def _widths(width: int, mult: float) -> tuple[int, ...]:
    """A quarter of the teacher's to all of it, in multiples of 8."""
    return tuple(sorted({max(8, int(width * f * mult / 8 + 0.5) * 8) for f in FRACTIONS}))


class DerivedSpace(StagedSpace):
    """Residual networks of at most a teacher's widths and depths, at its strides.

    Genes: for each stage its channels, ¼ … 1 of the teacher's, and its blocks, 1 … the
    teacher's. The stem has as many channels as the first stage, or as its bottlenecks.
    ``size`` counts distinct networks: no choice is ever without effect.

    Args:
        name: registered name.
        shape: of the teacher.
        width_mult: factor on every width.
        **options: see :class:`~scholarch.searchspace.space.SearchSpace`.
    """

    def __init__(
        self, name: str, shape: TeacherShape, *, width_mult: float = 1.0, **options: Any
    ) -> None:
        mult = check_width_mult(width_mult)
        self.shape = shape
        self.strides = tuple(stride for _, _, stride in shape.stages)
        genes = []
        for i, (width, depth, _) in enumerate(shape.stages, start=1):
            genes.append(Gene(f"width{i}", _widths(width, mult)))
            genes.append(Gene(f"depth{i}", _depths(depth)))
        super().__init__(name, genes, width_mult=mult, **options)

    def spec(self) -> dict[str, Any]:
        return super().spec() | {
            "stem_stride": self.shape.stem_stride,
            "stages": [list(stage) for stage in self.shape.stages],
            "kind": self.shape.kind,
        }

    # ------------------------------------------------------------------ shapes

    def _inside(self, width: int) -> int:
        return bottleneck_channels(width) if self.shape.kind == "bottleneck" else width

    def _shape_of_values(self, values: Sequence[int]) -> DerivedShape:
        return DerivedShape(
            self.shape.kind,
            self.shape.stem_stride.bit_length() - 1,
            self._inside(values[0]),
            tuple(values[::2]),
            tuple(values[1::2]),
            self.strides,
        )

    def _shape(self, arch: Architecture) -> DerivedShape:
        return self._shape_of_values(self.values(self.encode([arch]))[0].tolist())

    def _parts(self, matrix: Matrix, resolution: int) -> list[Part]:
        values = self.values(matrix).T.astype(np.float64)
        insides = [
            np.array([float(self._inside(width)) for width in gene.values])[column]
            for gene, column in zip(self.genes[::2], matrix.T[::2], strict=True)
        ]
        kind, side, width = self.shape.kind, resolution, insides[0]
        stem = Part("stem", side, float(max(1, self.shape.stem_stride.bit_length() - 1)), width)
        c_in: Count = float(self.in_channels)
        for _ in range(int(np.asarray(stem.blocks))):
            before, side = side, halved(side, min(2, self.shape.stem_stride))
            stem.tally.conv(c_in, width, 3, side, side_in=before)
            c_in = width
        stem.side = side
        parts = [stem]
        for i, stride in enumerate(self.strides):
            before, previous, side = side, width, halved(side, stride)
            width, depth, inside = values[2 * i], values[2 * i + 1], insides[i]
            part = Part(f"stage {i + 1}", side, depth, width)
            count, more = part.tally.conv, depth - 1.0
            if kind != "mbconv":
                changes = np.ones_like(width) if stride > 1 else (previous != width) * 1.0
                count(previous, width, 1, side, side_in=before, times=changes, on_path=False)
            if kind == "basic":
                count(previous, width, 3, side, side_in=before)
                count(width, width, 3, side, times=depth + more)
            elif kind == "bottleneck":
                # The first 1×1 stands before the stride.
                count(previous, inside, 1, before)
                count(width, inside, 1, side, times=more)
                count(inside, inside, 3, side, side_in=before, times=depth)
                count(inside, width, 1, side, times=depth)
            else:
                for c, times, at in ((previous, 1.0, before), (width, more, side)):
                    count(c, EXPANSION * c, 1, at, times=times)
                    count(
                        EXPANSION * c,
                        EXPANSION * c,
                        3,
                        side,
                        side_in=at,
                        times=times,
                        depthwise=True,
                    )
                    count(EXPANSION * c, width, 1, side, times=times)
            parts.append(part)
        head = Part("classifier", 1, 1.0, float(self.num_classes))
        head.tally.linear(width, self.num_classes)
        return [*parts, head]

    def _details(self, choices: tuple[int, ...]) -> Sequence[str]:  # noqa: ARG002
        blocks = [f"{BLOCKS[self.shape.kind]}, stride {stride}" for stride in self.strides]
        stem = f"3×3 convolutions, stride {self.shape.stem_stride}"
        return [stem, *blocks, "average pool, linear"]

    # ------------------------------------------------------------------ the contract

    def _format(self, choices: tuple[int, ...]) -> str:
        values = [gene.values[i] for gene, i in zip(self.genes, choices, strict=True)]
        return "-".join(f"{w}x{d}" for w, d in zip(values[::2], values[1::2], strict=True))

    def _parse(self, text: str) -> Sequence[int]:
        stages = [re.fullmatch(r"(\d{1,6})x(\d{1,6})", stage) for stage in text.split("-")]
        if len(stages) != len(self.strides) or None in stages:
            example = self._format(tuple(len(gene.values) - 1 for gene in self.genes))
            raise InvalidInputError(
                f"{text[:80]!r} is no architecture of {self.name!r}; write it like {example}"
                " (width x blocks of each stage)"
            )
        values = [int(number) for stage in stages if stage for number in stage.groups()]
        return [gene.index(value) for gene, value in zip(self.genes, values, strict=True)]

    def build(self, arch: Architecture, *, seed: int = 0) -> DerivedNet:
        return DerivedNet(
            self._shape(arch),
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            seed=seed,
        )

    def supernet(self, *, seed: int = 0, init: str = "he") -> ElasticDerivedNet:
        return ElasticDerivedNet(
            self._shape_of_values([max(gene.values) for gene in self.genes]),
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            shape_of=self._shape,
            seed=seed,
            init=init,
        )


def derive_space(
    shape: TeacherShape, *, num_classes: int, resolution: int, in_channels: int = 3, **options: Any
) -> DerivedSpace:
    """The space of a teacher's students, for given images.

    Args:
        shape: of the teacher; ``proxies.teacher_shape.find_teacher_shape`` measures it.
        num_classes: outputs of the classifier.
        resolution: height and width of the student's images, in pixels; strides that these
            are too small for are left out (:meth:`TeacherShape.fitted`).
        in_channels: channels of the images.
        **options: ``width_mult``.
    """
    return DerivedSpace(
        "derived",
        shape.fitted(resolution),
        num_classes=num_classes,
        resolution=resolution,
        in_channels=in_channels,
        **options,
    )


@register_space("derived")
def derived(
    name: str,
    *,
    stem_stride: int = 1,
    stages: Sequence[Sequence[int]] = RESNET56,
    kind: str = "basic",
    **options: Any,
) -> DerivedSpace:
    """Residual networks of a teacher's stages, at most as wide and deep (default: ResNet-56)."""
    shape = TeacherShape(stem_stride, stages, kind)  # type: ignore[arg-type] # checked there
    return DerivedSpace(name, shape, **options)
