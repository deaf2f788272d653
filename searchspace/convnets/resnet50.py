"""Once-for-all's space of ResNet-50-D.

The space that the once-for-all project (Cai et al., ICLR 2020) searches for ResNets: widths
of stem and stages × {0.65, 0.8, 1}, 2/2/4/2 blocks a stage and 0 … 2 more, a bottleneck of
{0.2, 0.25, 0.35} of its stage's width in every block, and a convolution of the stem that
can be left out. Written as that project's dictionary, in JSON::

    {"d": [2, 1, 2, 2, 1], "e": [0.25, … 18 in all], "w": [2, 2, 2, 2, 2, 2]}

``d``: 2 keeps the stem's residual convolution and 0 skips it; then the blocks more than
2/2/4/2. ``e``: one ratio for each block of the largest network, also for those that are
absent. ``w``: index into the three factors, for the stem's inner convolutions, what it gives
out, and the four stages. The example is ResNet-50-D itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..architecture import Architecture, Gene
from ..errors import InvalidInputError
from ..space import Matrix, register_space
from .resnet50_net import STRIDES, ElasticResNet50D, ResNet50D, ResNet50Shape
from .staged import Count, Part, StagedSpace, check_width_mult, divisible, halved

__all__ = ["ResNet50Space"]

WIDTHS = (256, 512, 1024, 2048)
FACTORS = (0.65, 0.8, 1.0)
BASE_DEPTHS = (2, 2, 4, 2)
MORE = (0, 1, 2)
PERCENTS = (20, 25, 35)
MOST = tuple(base + max(MORE) for base in BASE_DEPTHS)
BLOCKS = sum(MOST)
LENGTHS = {"d": 1 + len(WIDTHS), "e": BLOCKS, "w": 2 + len(WIDTHS)}
#: First column of ``e`` and of ``w`` in the matrix, behind ``d``'s.
E, W = LENGTHS["d"], LENGTHS["d"] + BLOCKS


class ResNet50Space(StagedSpace):
    """ResNet-50-D of elastic depth, width and bottlenecks.

    ``size`` is 2 · 3⁴ · 3¹⁸ · 3⁶ = 45,753,584,909,922: combinations as once-for-all draws
    them, a ratio for every block that could be there. Blocks that are absent make many of
    these the same network: 1,639,276,531,308 differ (at ``width_mult`` 1), and have keys of
    their own. The resolution is no gene.

    Args:
        name: registered name.
        width_mult: factor on every width, rounded to multiples of 8.
        **options: see :class:`~scholarch.searchspace.space.SearchSpace`.
    """

    def __init__(self, name: str, *, width_mult: float = 1.0, **options: Any) -> None:
        factors = [factor * check_width_mult(width_mult) for factor in FACTORS]
        self._stem = np.array([divisible(64 * factor) for factor in factors])
        self._inner = np.array([divisible(width // 2) for width in self._stem])
        self._widths = np.array([[divisible(c * factor) for factor in factors] for c in WIDTHS])
        # By stage, factor and ratio.
        self._middles = np.array(
            [
                [[divisible(round(width * p / 100)) for p in PERCENTS] for width in stage]
                for stage in self._widths.tolist()
            ]
        )
        genes = [Gene("d0", (0, 2))]
        genes += [Gene(f"d{i + 1}", MORE) for i in range(len(WIDTHS))]
        genes += [Gene(f"e{i}", PERCENTS) for i in range(BLOCKS)]
        genes += [Gene(f"w{i}", tuple(range(len(FACTORS)))) for i in range(LENGTHS["w"])]
        super().__init__(name, genes, width_mult=width_mult, **options)

    # ------------------------------------------------------------------ shapes

    def _depths(self, matrix: Matrix) -> Matrix:
        """Blocks of each stage, ``[N, 4]``."""
        # Index and value of these genes are one and the same.
        return np.asarray(matrix[:, 1:E] + np.array(BASE_DEPTHS))

    def _shape(self, arch: Architecture) -> ResNet50Shape:
        row = self.encode([arch])
        depths = self._depths(row)[0].tolist()
        choices = row[0].tolist()
        inner, stem, *wide = choices[W:]
        middles, first = [], E
        for stage, depth in enumerate(depths):
            ratios = choices[first : first + depth]
            middles.append(tuple(self._middles[stage, wide[stage], ratios].tolist()))
            first += MOST[stage]
        return ResNet50Shape(
            int(self._inner[inner]),
            choices[0] == 1,
            int(self._stem[stem]),
            tuple(int(self._widths[stage, w]) for stage, w in enumerate(wide)),
            tuple(middles),
        )

    def canonical(self, matrix: Matrix) -> Matrix:
        out = matrix.copy()
        # The first of the choices that round to the same number of channels.
        out[:, W] = _first_equal(self._inner)[matrix[:, W]]
        out[:, W + 1] = _first_equal(self._stem)[matrix[:, W + 1]]
        first = E
        for stage, depth in enumerate(self._depths(matrix).T):
            wide = matrix[:, W + 2 + stage]
            out[:, W + 2 + stage] = _first_equal(self._widths[stage])[wide]
            equal = np.stack([_first_equal(row) for row in self._middles[stage]])
            columns = slice(first, first + MOST[stage])
            present = np.arange(MOST[stage]) < depth[:, None]
            out[:, columns] = np.where(present, equal[wide[:, None], matrix[:, columns]], 0)
            first += MOST[stage]
        return out

    def _parts(self, matrix: Matrix, resolution: int) -> list[Part]:
        inner = self._inner[matrix[:, W]].astype(np.float64)
        width: Count = self._stem[matrix[:, W + 1]].astype(np.float64)
        kept = matrix[:, 0].astype(np.float64)
        side = halved(resolution, 2)
        stem = Part("stem", halved(side, 2), 2.0 + kept, width)
        stem.tally.conv(self.in_channels, inner, 3, side, side_in=resolution)
        stem.tally.conv(inner, inner, 3, side, times=kept)
        stem.tally.conv(inner, width, 3, side)
        parts, side, first = [stem], stem.side, E
        for stage, (depth, stride) in enumerate(zip(self._depths(matrix).T, STRIDES, strict=True)):
            wide = matrix[:, W + 2 + stage]
            before, previous, width = side, width, self._widths[stage][wide].astype(np.float64)
            side = halved(side, stride)
            part = Part(f"stage {stage + 1}", side, depth.astype(np.float64), width)
            part.tally.conv(previous, width, 1, side, on_path=False)
            for j in range(MOST[stage]):
                middle = self._middles[stage][wide, matrix[:, first + j]].astype(np.float64)
                there: Count = 1.0
                if j >= BASE_DEPTHS[stage]:
                    there = (j < depth).astype(np.float64)
                # The 1×1 stands before the stride.
                part.tally.conv(previous, middle, 1, before, times=there)
                part.tally.conv(middle, middle, 3, side, side_in=before, times=there)
                part.tally.conv(middle, width, 1, side, times=there)
                before, previous = side, width
            parts.append(part)
            first += MOST[stage]
        head = Part("classifier", 1, 1.0, float(self.num_classes))
        head.tally.linear(width, self.num_classes)
        return [*parts, head]

    def _details(self, choices: tuple[int, ...]) -> Sequence[str]:  # noqa: ARG002
        stem = ["3×3 convolutions, stride 2", "max-pooling, stride 2"]
        bottlenecks = [f"bottlenecks, stride {stride}" for stride in STRIDES]
        return [", ".join(stem), *bottlenecks, "average pool, linear"]

    # ------------------------------------------------------------------ the contract

    def _format(self, choices: tuple[int, ...]) -> str:
        values = [gene.values[i] for gene, i in zip(self.genes, choices, strict=True)]
        ratios = [percent / 100 for percent in values[E:W]]
        return json.dumps({"d": values[:E], "e": ratios, "w": values[W:]})

    def _parse(self, text: str) -> Sequence[int]:
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict) or sorted(data) != sorted(LENGTHS):
            raise InvalidInputError(
                f"{text[:80]!r} is no architecture of {self.name!r}; write JSON with exactly the"
                ' keys d, e and w, like {"d": [2, 1, 2, 2, 1], "e": [0.25, …], "w": [2, …]}'
            )
        values: list[float] = []
        for key, length in LENGTHS.items():
            numbers = data[key]
            if not isinstance(numbers, list) or len(numbers) != length:
                raise InvalidInputError(f"{key} of {self.name!r} needs a list of {length} numbers")
            for number in numbers:
                if type(number) not in (int, float):
                    raise InvalidInputError(f"{key} holds {number!r}, which is no number")
            values += [100 * number for number in numbers] if key == "e" else numbers
        choices = []
        for gene, value in zip(self.genes, values, strict=True):
            near = [i for i, allowed in enumerate(gene.values) if abs(allowed - value) < 1e-6]
            if not near:
                scale = 100 if gene.name.startswith("e") else 1
                allowed = ", ".join(f"{allowed / scale:g}" for allowed in gene.values)
                raise InvalidInputError(f"{gene.name} = {value / scale:g} is not one of {allowed}")
            choices += near
        return choices

    def build(self, arch: Architecture, *, seed: int = 0) -> ResNet50D:
        return ResNet50D(
            self._shape(arch),
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            seed=seed,
        )

    def supernet(self, *, seed: int = 0, init: str = "he") -> ElasticResNet50D:
        largest = ResNet50Shape(
            int(self._inner.max()),
            True,
            int(self._stem.max()),
            tuple(self._widths.max(axis=1).tolist()),
            tuple(
                (int(middles.max()),) * most
                for middles, most in zip(self._middles, MOST, strict=True)
            ),
        )
        return ElasticResNet50D(
            largest,
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            shape_of=self._shape,
            seed=seed,
            init=init,
        )


def _first_equal(values: np.ndarray[Any, Any]) -> Matrix:
    """For each position, the first one with the same value."""
    return np.array([values.tolist().index(value) for value in values.tolist()], dtype=np.int64)


@register_space("resnet50")
def resnet50(name: str, **options: Any) -> ResNet50Space:
    """Once-for-all's ResNet-50-D: 4.6e13 combinations of depths, widths and bottlenecks."""
    return ResNet50Space(name, **{"resolution": 224, **options})
