"""``vitbench-pit``: the pooling-based Vision Transformers of ViT-Bench-101.

PiT (Heo et al., ICCV 2021) in the space of Auto-Prox (Wei et al., AAAI 2024): one base width
and feed-forward ratio for all stages, heads and depth by stage. A stage is ``base · heads``
wide, so every head has the base width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import Any, ClassVar

import numpy as np

from ..architecture import Architecture, Gene
from ..convnets.staged import Part, StagedSpace, check_width_mult
from ..errors import InvalidInputError
from ..space import Matrix, register_space
from .counts import check_patch, count_blocks, count_head, count_pool, count_stem, patches_in
from .notation import choose, numbers, read, write
from .pit_net import ElasticPiT, PiT, PiTShape

__all__ = ["PiTSpace"]

BASES = (16, 24, 32, 40)
RATIOS = (2, 4, 6, 8)
#: Never fewer than in the stage before, since a pooling gives each channel one or more.
HEADS = tuple(combinations_with_replacement((2, 4, 8), 3))
DEPTHS = ((1, 2, 3), (4, 6, 8), (2, 4, 6))

_NAMES = ("base_dim", "mlp_ratio", "depth", "num_heads")
_EXAMPLE = '{"base_dim": 16, "mlp_ratio": 4, "depth": [2, 6, 4], "num_heads": [2, 4, 8]}'


class PiTSpace(StagedSpace):
    """4,320 PiTs of three stages.

    Genes: base width, feed-forward ratio, the heads of all stages as one number of three
    digits, the depth of each stage. The cost ``depth`` is four a block (qkv, proj, fc1, fc2), one
    a pooling, the patches' convolution and the classifier.

    The learned positions belong to ``resolution``; for other images the networks interpolate
    them, so ``params`` are the same at any resolution that costs are asked for.

    Args:
        name: registered name.
        width_mult: factor on the base widths, rounded to whole numbers.
        patch_size: side of a patch in pixels, even; patches overlap by half of it, and what is
            left over at the edge is not seen.
        **options: see :class:`~scholarch.searchspace.space.SearchSpace`.
    """

    family: ClassVar[str] = "transformer"

    def __init__(
        self, name: str, *, width_mult: float = 1.0, patch_size: int = 16, **options: Any
    ) -> None:
        mult = check_width_mult(width_mult)
        self.bases = tuple(int(base * mult + 0.5) for base in BASES)
        genes = [
            Gene("base_dim", self.bases),
            Gene("mlp_ratio", RATIOS),
            Gene("num_heads", tuple(100 * a + 10 * b + c for a, b, c in HEADS)),
            *(Gene(f"depth{i + 1}", depths) for i, depths in enumerate(DEPTHS)),
        ]
        super().__init__(name, genes, width_mult=width_mult, **options)
        self.patch_size = check_patch(name, patch_size, self.resolution, by=2)

    def spec(self) -> dict[str, Any]:
        return super().spec() | {"patch_size": self.patch_size}

    def _shape(self, arch: Architecture) -> PiTShape:
        self.encode([arch])
        base, ratio = self.bases[arch.choices[0]], RATIOS[arch.choices[1]]
        heads = HEADS[arch.choices[2]]
        depths = tuple(d[i] for d, i in zip(DEPTHS, arch.choices[3:], strict=True))
        dims = tuple(base * h for h in heads)
        return PiTShape(dims, heads, tuple(ratio * dim for dim in dims), depths)

    # ------------------------------------------------------------------ costs

    def _grid(self, resolution: int) -> int:
        return patches_in(resolution, self.patch_size, self.patch_size // 2)

    def _parts(self, matrix: Matrix, resolution: int) -> list[Part]:
        base = np.array(self.bases, dtype=np.float64)[matrix[:, 0]]
        ratio = np.array(RATIOS, dtype=np.float64)[matrix[:, 1]]
        dims = [base * row for row in np.array(HEADS, dtype=np.float64)[matrix[:, 2]].T]
        side = self._grid(resolution)
        stem = Part("stem", side, 1.0, dims[0])
        count_stem(
            stem.tally,
            dims[0],
            in_channels=self.in_channels,
            side=resolution,
            patch=self.patch_size,
            grid=side,
            vectors=1 + self._grid(self.resolution) ** 2,
        )
        parts = [stem]
        for i, dim in enumerate(dims):
            depth = np.array(DEPTHS[i], dtype=np.float64)[matrix[:, 3 + i]]
            smaller = (side + 1) // 2 if i else side
            part = Part(f"stage {i + 1}", smaller, depth, dim)
            if i:
                count_pool(part.tally, dims[i - 1], dim, side, smaller)
            side = smaller
            count_blocks(part.tally, dim, ratio * dim, 1 + side**2, depth)
            parts.append(part)
        head = Part("classifier", 1, 1.0, float(self.num_classes))
        count_head(head.tally, dims[-1], self.num_classes)
        return [*parts, head]

    def _details(self, choices: tuple[int, ...]) -> Sequence[str]:
        p = self.patch_size
        stages = [f"{h} heads, feed-forward ratio {RATIOS[choices[1]]}" for h in HEADS[choices[2]]]
        return [
            f"{p}×{p} patches, stride {p // 2}, class token, positions",
            stages[0],
            *(f"pooling, {stage}" for stage in stages[1:]),
            "layer norm, linear on the class token",
        ]

    # ------------------------------------------------------------------ the contract

    def _format(self, choices: tuple[int, ...]) -> str:
        depths = [d[i] for d, i in zip(DEPTHS, choices[3:], strict=True)]
        base, ratio = self.bases[choices[0]], RATIOS[choices[1]]
        values = (base, ratio, depths, HEADS[choices[2]])
        return write(dict(zip(_NAMES, values, strict=True)))

    def _parse(self, text: str) -> Sequence[int]:
        entries = read(text, _NAMES, _EXAMPLE)
        base = choose("base_dim", entries["base_dim"], self.bases)
        ratio = choose("mlp_ratio", entries["mlp_ratio"], RATIOS)
        heads = numbers("num_heads", entries["num_heads"], len(DEPTHS))
        if heads not in [list(row) for row in HEADS]:
            raise InvalidInputError(
                f"num_heads = {heads}; need three of 2, 4, 8, none below the one before"
            )
        depths = numbers("depth", entries["depth"], len(DEPTHS))
        indices = [
            choose(f"depth of stage {i + 1}", depth, allowed)
            for i, (depth, allowed) in enumerate(zip(depths, DEPTHS, strict=True))
        ]
        return [base, ratio, HEADS.index((heads[0], heads[1], heads[2])), *indices]

    def _options(self) -> dict[str, int]:
        return {
            "grid": self._grid(self.resolution),
            "patch": self.patch_size,
            "num_classes": self.num_classes,
            "in_channels": self.in_channels,
        }

    def build(self, arch: Architecture, *, seed: int = 0) -> PiT:
        return PiT(self._shape(arch), **self._options(), seed=seed)

    def supernet(self, *, seed: int = 0, init: str = "he") -> ElasticPiT:
        heads = HEADS[-1]
        dims = tuple(max(self.bases) * h for h in heads)
        ffns = tuple(max(RATIOS) * dim for dim in dims)
        largest = PiTShape(dims, heads, ffns, tuple(max(depths) for depths in DEPTHS))
        return ElasticPiT(largest, **self._options(), shape_of=self._shape, seed=seed, init=init)


@register_space("vitbench-pit")
def vitbench_pit(name: str, **options: Any) -> PiTSpace:
    """ViT-Bench's PiT: 4,320 pooling-based Vision Transformers."""
    return PiTSpace(name, **{"resolution": 224, **options})
