"""Spaces of encoders: one width for all layers; heads and feed-forward ratio of each, or of all.

A modality's space subclasses :class:`EncoderSpace` and says what its stem is.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..architecture import Architecture, Gene
from ..conditional import ConditionalSpace
from ..convnets.staged import Part, StagedSpace, check_width_mult, divisible
from ..errors import InvalidInputError
from ..narrow import narrow
from ..space import Matrix, SearchSpace
from .counts import count_head, count_layers
from .encoder import ElasticEncoder, Encoder
from .notation import choose, numbers, read, write
from .stem import StemSpec
from .style import EncoderShape, EncoderStyle, LayerShape

__all__ = ["EncoderChoices", "EncoderSpace", "evenly_spaced_layers", "scaled_dims"]

_NAMES = ("embed_dim", "depth", "num_heads", "mlp_ratio")

#: Heads are at least so wide where a space is made narrower.
_LEAST_HEAD = 4


@dataclass(frozen=True, slots=True)
class EncoderChoices:
    """What an encoder of a space may be.

    Attributes:
        dims: widths of the tokens, ascending.
        depths: numbers of layers, ascending.
        heads: of a layer, ascending.
        tenths: feed-forward features to ten of a token, ascending.
        per_layer: whether every layer has its own heads and ratio.
        keep: which of the supernet's layers a shallower encoder takes: the ``"first"``,
            ``"even"``-ly spaced ones, or those named for its depth.
        unit: what widths are rounded to where a space is scaled.
    """

    dims: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    tenths: tuple[int, ...]
    per_layer: bool = True
    keep: str | Mapping[int, tuple[int, ...]] = "first"
    unit: int = 8

    def __post_init__(self) -> None:
        for name in ("dims", "depths", "heads", "tenths"):
            values = getattr(self, name)
            fine = all(type(v) is int and v >= 1 for v in values)
            if not values or not fine or sorted(set(values)) != list(values):
                raise InvalidInputError(f"{name} = {values!r}; need ascending whole numbers from 1")
        if isinstance(self.keep, str) and self.keep not in ("first", "even"):
            raise InvalidInputError(f"keep = {self.keep!r}; need first, even or a map")

    def scaled(self, factor: float) -> EncoderChoices:
        """The same with all widths times a factor."""
        return replace(self, dims=scaled_dims(self.dims, factor, self.unit))

    def sources(self, depth: int) -> tuple[int, ...]:
        """The supernet's layers that an encoder of so many takes."""
        most = max(self.depths)
        if isinstance(self.keep, Mapping):
            return tuple(self.keep.get(depth, range(depth)))
        return evenly_spaced_layers(depth, most) if self.keep == "even" else tuple(range(depth))


def evenly_spaced_layers(few: int, many: int) -> tuple[int, ...]:
    """``few`` of ``many`` layers, the last one always.

    Example:
        >>> evenly_spaced_layers(4, 12)
        (2, 5, 8, 11)
    """
    return tuple((i + 1) * many // few - 1 for i in range(few))


def scaled_dims(dims: Sequence[int], factor: float, unit: int) -> tuple[int, ...]:
    """Widths times a factor: multiples of ``unit``, no two equal."""
    if factor == 1.0:
        return tuple(dims)
    found: list[int] = []
    for dim in dims:
        least = found[-1] + unit if found else unit
        found.append(max(divisible(dim * factor, unit), least))
    return tuple(found)


class EncoderSpace(ConditionalSpace, StagedSpace):
    """Encoders of one modality.

    Genes: width, depth, then the feed-forward ratio (in tenths) and the heads, of each layer
    (inactive beyond the depth) or one of each for all. ``depth`` among the costs is four a layer
    (qkv, proj, fc1, fc2), the stem's layers and the classifier. Rows are uniform over gene values.

    Args:
        name: registered name.
        choices: what an encoder may be, before scaling.
        style: what layers share, before scaling.
        width_mult: factor on the widths of tokens and of heads.
        **options: see :class:`~scholarch.searchspace.space.SearchSpace`.
    """

    family: ClassVar[str] = "transformer"

    def __init__(
        self,
        name: str,
        choices: EncoderChoices,
        style: EncoderStyle,
        *,
        width_mult: float = 1.0,
        **options: Any,
    ) -> None:
        factor = check_width_mult(width_mult)
        self.choices = choices.scaled(factor)
        head = max(_LEAST_HEAD, divisible(style.head_dim * factor, 4))
        self.style = style if factor == 1.0 else replace(style, head_dim=head)
        self.deepest = max(choices.depths)
        self._times = self.deepest if choices.per_layer else 1
        genes = [Gene("embed_dim", self.choices.dims), Gene("depth", choices.depths)]
        ends = [str(i + 1) for i in range(self._times)] if choices.per_layer else [""]
        genes += [Gene(f"mlp_tenths{end}", choices.tenths) for end in ends]
        genes += [Gene(f"num_heads{end}", choices.heads) for end in ends]
        super().__init__(name, genes, width_mult=width_mult, **options)

    @property
    @abc.abstractmethod
    def stem(self) -> StemSpec:
        """What makes tokens of the inputs."""

    # ------------------------------------------------------------------ the matrix

    @property
    def size(self) -> int:
        """Number of different networks: rows that differ in inactive genes count once."""
        own = self.choices
        kinds = len(own.tenths) * len(own.heads)
        if not own.per_layer:
            return len(own.dims) * len(own.depths) * kinds
        return len(own.dims) * sum(math.prod([kinds] * depth) for depth in own.depths)

    def _active(self, matrix: Matrix) -> npt.NDArray[np.bool_]:
        if not self.choices.per_layer:
            return np.ones(matrix.shape, dtype=np.bool_)
        depths = np.array(self.choices.depths)[matrix[:, 1], None]
        layers = np.arange(self._times) < depths
        always = np.ones((len(matrix), 2), dtype=np.bool_)
        return np.concatenate([always, layers, layers], axis=1)

    def decode(self, matrix: Matrix) -> list[Architecture]:
        matrix = np.asarray(matrix, dtype=np.int64).reshape(-1, len(self.genes))
        # The notation has no place for what is not there.
        return super().decode(self.canonical(matrix) if self.valid(matrix).all() else matrix)

    def shape_of(self, arch: Architecture) -> EncoderShape:
        """Width and layers of an architecture."""
        dim, depth, *rest = (int(v) for v in self.values(self.encode([arch]))[0])
        tenths, heads = rest[: self._times], rest[self._times :]
        if not self.choices.per_layer:
            tenths, heads = tenths * depth, heads * depth
        layers = zip(heads, tenths, self.choices.sources(depth), strict=False)
        return EncoderShape(dim, tuple(LayerShape(h, dim * t // 10, s) for h, t, s in layers))

    def partition(self, k: int) -> list[SearchSpace]:
        """The space in ``k`` parts by width, disjoint and as even in their count as can be.

        AutoDistil's heuristic (Xu et al., NeurIPS 2022, §3.1): sub-spaces of similar networks
        interfere less in one supernet than all sizes together.

        Raises:
            InvalidInputError: if there are fewer widths than parts.
        """
        dims = self.choices.dims
        if type(k) is not int or not 1 <= k <= len(dims):
            raise InvalidInputError(f"partition in {k!r} parts; need 1 to {len(dims)}, its widths")
        parts = np.array_split(np.array(dims), k)
        return [narrow(self, {"embed_dim": [int(dim) for dim in part]}) for part in parts]

    # ------------------------------------------------------------------ costs

    def _parts(self, matrix: Matrix, resolution: int) -> list[Part]:
        own, stem = self.choices, self.stem
        dim = np.array(own.dims, dtype=np.float64)[matrix[:, 0]]
        depth = np.array(own.depths, dtype=np.float64)[matrix[:, 1]]
        tokens = stem.tokens(resolution)
        first = Part("stem", tokens, 1.0, dim)
        stem.count(first.tally, dim, resolution)
        body = Part("layers", tokens, depth, dim)
        active = self._active(matrix)
        split = 2 + self._times
        ratios, heads = matrix[:, 2:split], matrix[:, split:]
        for i, tenths in enumerate(own.tenths):
            for j, count in enumerate(own.heads):
                here = (ratios == i) & (heads == j) & active[:, 2:split]
                times = here.sum(axis=1).astype(np.float64)
                if not own.per_layer:
                    times = times * depth
                ffn = np.floor(dim * tenths / 10.0)
                count_layers(body.tally, dim, float(count), ffn, tokens, self.style, times)
        last = Part("classifier", 1, 1.0, float(self.num_classes))
        wide = float(self.style.embed)
        count_head(last.tally, wide or dim, self.num_classes)
        if wide:  # the layer norm is the tokens', not the embedding's
            last.tally.params = last.tally.params + dim * (2.0 + wide) - wide
            last.tally.macs, last.tally.layers = last.tally.macs + dim * wide, 2.0
            last.tally.peak = np.maximum(last.tally.peak, dim + wide)
        if not self.style.final_norm:
            last.tally.params = last.tally.params - 2.0 * dim
        return [first, body, last]

    def _details(self, choices: tuple[int, ...]) -> Sequence[str]:
        entries = self._entries(choices)
        heads, ratios = (_words(entries[name]) for name in ("num_heads", "mlp_ratio"))
        norm = "layer norm, " if self.style.final_norm else ""
        embedding = f"embedding of {self.style.embed}, " if self.style.embed else ""
        pools = {"mean": "mean over tokens", "first": "first token", "patches": "mean over patches"}
        return [
            self.stem.details(),
            f"heads of {self.style.head_dim}: {heads}; feed-forward ratios {ratios}",
            f"{norm}{pools[self.style.pool]}, {embedding}linear",
        ]

    # ------------------------------------------------------------------ the contract

    def _entries(self, choices: tuple[int, ...]) -> dict[str, Any]:
        own, split = self.choices, 2 + self._times
        depth = own.depths[choices[1]]
        ratios: Any = [_ratio(own.tenths[i]) for i in choices[2:split][:depth]]
        heads: Any = [own.heads[i] for i in choices[split:][:depth]]
        if not own.per_layer:
            ratios, heads = ratios[0], heads[0]
        values = (own.dims[choices[0]], depth, heads, ratios)
        return dict(zip(_NAMES, values, strict=True))

    def _format(self, choices: tuple[int, ...]) -> str:
        return write(self._entries(choices))

    def _parse(self, text: str) -> Sequence[int]:
        own = self.choices
        entries = read(text, _NAMES, self._format((0,) * len(self.genes)))
        dim = entries["embed_dim"]
        if isinstance(dim, list | tuple) and len({*dim}) == 1:
            dim = dim[0]  # AutoFormer's own lists name it once a layer
        index = choose("depth", entries["depth"], own.depths)
        depth = own.depths[index]
        row = [choose("embed_dim", dim, own.dims), index]
        ratios = tuple(_ratio(t) for t in own.tenths)
        for name, allowed in (("mlp_ratio", ratios), ("num_heads", own.heads)):
            if not own.per_layer:
                row.append(choose(name, entries[name], allowed))
                continue
            values = numbers(name, entries[name], depth)
            picks = [choose(f"{name} of layer {i + 1}", v, allowed) for i, v in enumerate(values)]
            row += picks + [0] * (self._times - depth)
        return row

    def build(self, arch: Architecture, *, seed: int = 0) -> Encoder:
        shape = self.shape_of(arch)
        return Encoder(self.stem, self.style, shape, num_classes=self.num_classes, seed=seed)

    def supernet(self, *, seed: int = 0, init: str = "he") -> ElasticEncoder:
        own = self.choices
        dim = max(own.dims)
        return ElasticEncoder(
            self.stem,
            self.style,
            dim,
            (max(own.heads),) * self.deepest,
            (dim * max(own.tenths) // 10,) * self.deepest,
            num_classes=self.num_classes,
            shape_of=self.shape_of,
            seed=seed,
            init=init,
        )


def _ratio(tenths: int) -> float:
    return tenths / 10


def _words(values: Any) -> str:
    listed = values if isinstance(values, list) else [values]
    distinct = list(dict.fromkeys(listed))
    return ", ".join(f"{v:g}" for v in (distinct if len(distinct) == 1 else listed))
