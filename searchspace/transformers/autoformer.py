"""``vitbench-autoformer``: AutoFormer's tiny space as ViT-Bench trained it.

AutoFormer (Chen et al., ICCV 2021, Table 2) with the simpler blocks of Auto-Prox's
ViT-Bench-101 (Wei et al., AAAI 2024): queries, keys and values have the tokens' width, and
there is no relative position. One width for all layers; every layer its own heads and
feed-forward ratio.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..architecture import Architecture, Gene
from ..conditional import ConditionalSpace
from ..convnets.staged import Part, StagedSpace, check_width_mult, divisible
from ..space import Matrix, register_space
from .autoformer_net import ElasticVisionTransformer, VisionTransformer, ViTShape
from .counts import check_patch, count_blocks, count_head, count_stem, patches_in
from .notation import choose, numbers, read, write

__all__ = ["AutoFormerSpace"]

DIMS = (192, 216, 240)
DEPTHS = (12, 13, 14)
#: Feed-forward features to ten of a token.
TENTHS = (35, 40)
RATIOS = (3.5, 4.0)
HEADS = (3, 4)
LAYERS = max(DEPTHS)

_NAMES = ("hidden_dim", "mlp_ratio", "depth", "num_heads")
_EXAMPLE = '{"hidden_dim": 192, "mlp_ratio": [3.5, …], "depth": 12, "num_heads": [4, …]}'


def _scaled(width_mult: float) -> tuple[int, ...]:
    """The widths times a factor: multiples of 12, since 3 and 4 heads divide them, no two equal."""
    dims: list[int] = []
    for dim in DIMS:
        least = dims[-1] + 12 if dims else 12
        dims.append(max(divisible(dim * width_mult, 12), least))
    return tuple(dims)


class AutoFormerSpace(ConditionalSpace, StagedSpace):
    """ViTs of one width, 12 to 14 layers, each with its heads and feed-forward ratio.

    Genes: width, depth, the ratio of each of 14 layers (in tenths), then its heads. Genes of
    layers beyond the depth are inactive: their canonical index is 0, and architectures hold
    canonical rows. Rows are uniform over gene values. No cost depends on the number of heads;
    ``depth`` is four a block (qkv, proj, fc1, fc2), the patches' convolution and the classifier.

    The learned positions belong to ``resolution``; for other images the networks interpolate
    them, so ``params`` are the same at any resolution that costs are asked for.

    Args:
        name: registered name.
        width_mult: factor on the widths, rounded to multiples of 12 that differ.
        patch_size: side of a patch in pixels; what is left over at the edge is not seen.
        **options: see :class:`~scholarch.searchspace.space.SearchSpace`.
    """

    family: ClassVar[str] = "transformer"

    def __init__(
        self, name: str, *, width_mult: float = 1.0, patch_size: int = 16, **options: Any
    ) -> None:
        self.dims = _scaled(check_width_mult(width_mult))
        genes = [Gene("hidden_dim", self.dims), Gene("depth", DEPTHS)]
        genes += [Gene(f"mlp_tenths{i + 1}", TENTHS) for i in range(LAYERS)]
        genes += [Gene(f"num_heads{i + 1}", HEADS) for i in range(LAYERS)]
        super().__init__(name, genes, width_mult=width_mult, **options)
        self.patch_size = check_patch(name, patch_size, self.resolution)

    def spec(self) -> dict[str, Any]:
        return super().spec() | {"patch_size": self.patch_size}

    @property
    def size(self) -> int:
        """Number of different networks: rows that differ in inactive genes count once."""
        per_layer = len(TENTHS) * len(HEADS)
        return len(self.dims) * sum(math.prod([per_layer] * depth) for depth in DEPTHS)

    # ------------------------------------------------------------------ the matrix

    def _active(self, matrix: Matrix) -> npt.NDArray[np.bool_]:
        layers = np.arange(LAYERS) < np.array(DEPTHS)[matrix[:, 1], None]
        always = np.ones((len(matrix), 2), dtype=np.bool_)
        return np.concatenate([always, layers, layers], axis=1)

    def decode(self, matrix: Matrix) -> list[Architecture]:
        matrix = np.asarray(matrix, dtype=np.int64).reshape(-1, len(self.genes))
        # The notation has no place for what is not there.
        return super().decode(self.canonical(matrix) if self.valid(matrix).all() else matrix)

    def _shape(self, arch: Architecture) -> ViTShape:
        dim, depth, *rest = (int(v) for v in self.values(self.encode([arch]))[0])
        layers = zip(rest[LAYERS:], rest[:LAYERS], strict=True)
        return ViTShape(dim, tuple((h, dim * t // 10) for h, t in layers)[:depth])

    # ------------------------------------------------------------------ costs

    def _parts(self, matrix: Matrix, resolution: int) -> list[Part]:
        grid = patches_in(resolution, self.patch_size, self.patch_size)
        dim = np.array(self.dims, dtype=np.float64)[matrix[:, 0]]
        depth = np.array(DEPTHS, dtype=np.float64)[matrix[:, 1]]
        stem = Part("stem", grid, 1.0, dim)
        own = patches_in(self.resolution, self.patch_size, self.patch_size)
        count_stem(
            stem.tally,
            dim,
            in_channels=self.in_channels,
            side=resolution,
            patch=self.patch_size,
            grid=grid,
            vectors=2 + own**2,
        )
        body = Part("blocks", grid, depth, dim)
        layers = slice(2, 2 + LAYERS)
        active = self._active(matrix)[:, layers]
        for i, tenths in enumerate(TENTHS):
            times = ((matrix[:, layers] == i) & active).sum(axis=1).astype(np.float64)
            count_blocks(body.tally, dim, dim * tenths / 10.0, 1 + grid**2, times)
        head = Part("classifier", 1, 1.0, float(self.num_classes))
        count_head(head.tally, dim, self.num_classes)
        return [stem, body, head]

    def _details(self, choices: tuple[int, ...]) -> Sequence[str]:
        entries = self._entries(choices)
        heads = ", ".join(str(h) for h in entries["num_heads"])
        ratios = ", ".join(f"{r:g}" for r in entries["mlp_ratio"])
        p = self.patch_size
        return [
            f"{p}×{p} patches, class token, positions",
            f"heads {heads}; feed-forward ratios {ratios}",
            "layer norm, mean over patches, linear",
        ]

    # ------------------------------------------------------------------ the contract

    def _entries(self, choices: tuple[int, ...]) -> dict[str, Any]:
        depth = DEPTHS[choices[1]]
        ratios, heads = choices[2 : 2 + LAYERS], choices[2 + LAYERS :]
        return {
            "hidden_dim": self.dims[choices[0]],
            "mlp_ratio": [RATIOS[i] for i in ratios[:depth]],
            "depth": depth,
            "num_heads": [HEADS[i] for i in heads[:depth]],
        }

    def _format(self, choices: tuple[int, ...]) -> str:
        return write(self._entries(choices))

    def _parse(self, text: str) -> Sequence[int]:
        entries = read(text, _NAMES, _EXAMPLE)
        dim = choose("hidden_dim", entries["hidden_dim"], self.dims)
        index = choose("depth", entries["depth"], DEPTHS)
        depth = DEPTHS[index]
        choices = [dim, index]
        for name, allowed in (("mlp_ratio", RATIOS), ("num_heads", HEADS)):
            values = numbers(name, entries[name], depth)
            row = [choose(f"{name} of layer {i + 1}", v, allowed) for i, v in enumerate(values)]
            choices += row + [0] * (LAYERS - depth)
        return choices

    def _options(self) -> dict[str, int]:
        return {
            "grid": patches_in(self.resolution, self.patch_size, self.patch_size),
            "patch": self.patch_size,
            "num_classes": self.num_classes,
            "in_channels": self.in_channels,
        }

    def build(self, arch: Architecture, *, seed: int = 0) -> VisionTransformer:
        return VisionTransformer(self._shape(arch), **self._options(), seed=seed)

    def supernet(self, *, seed: int = 0, init: str = "he") -> ElasticVisionTransformer:
        dim = max(self.dims)
        ffns = (dim * max(TENTHS) // 10,) * LAYERS
        return ElasticVisionTransformer(
            dim, ffns, **self._options(), shape_of=self._shape, seed=seed, init=init
        )


@register_space("vitbench-autoformer")
def vitbench_autoformer(name: str, **options: Any) -> AutoFormerSpace:
    """ViT-Bench's AutoFormer-Ti: 1.06e9 Vision Transformers of 5 to 10 million parameters."""
    return AutoFormerSpace(name, **{"resolution": 224, **options})
