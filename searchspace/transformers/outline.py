"""The outline of a Transformer teacher, plain data, and the choices made from it by ratios."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ..errors import InvalidInputError
from .encoder_space import EncoderChoices

__all__ = ["FRACTIONS", "Outline", "choices_of"]

#: Of the teacher's width, heads, feed-forward ratio and depth that a student may have.
FRACTIONS = (1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8, 1.0)


@dataclass(frozen=True)
class Outline:
    """An encoder's measures.

    Attributes:
        dim: width of the tokens.
        depth: layers.
        heads: of a layer.
        head_dim: width of a head.
        tenths: feed-forward features to ten of a token.
        style: fields of :class:`~scholarch.searchspace.transformers.style.EncoderStyle` that
            differ from what the space's modality has anyway.
        stem: options of the space about its stem, e.g. ``{"patch_size": 16}``.
        unit: what widths are multiples of.
        keep: depth → which of the teacher's layers a student of so many takes; where it is empty,
            evenly spaced ones.

    Raises:
        InvalidInputError: if a number is out of range.
    """

    dim: int
    depth: int
    heads: int
    head_dim: int
    tenths: int
    style: Mapping[str, Any] = field(default_factory=dict)
    stem: Mapping[str, Any] = field(default_factory=dict)
    unit: int = 8
    keep: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("dim", "depth", "heads", "head_dim", "tenths", "unit"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= 65536:
                raise InvalidInputError(f"{name} = {value!r}; need a whole number 1 to 65536")
        for name in ("style", "stem", "keep"):
            if not isinstance(getattr(self, name), Mapping):
                raise InvalidInputError(f"{name} = {getattr(self, name)!r}; need a mapping")
        object.__setattr__(self, "keep", _layers(self.keep, self.depth))

    def to_json(self) -> dict[str, Any]:
        """Plain data that :meth:`read` takes."""
        keep = {str(depth): list(layers) for depth, layers in self.keep.items()}
        return asdict(self) | {"keep": keep}

    @classmethod
    def read(cls, given: Any, default: Outline) -> Outline:
        """An outline as it is or as plain data; ``None``: the default.

        Raises:
            InvalidInputError: if it is neither.
        """
        if given is None:
            return default
        if isinstance(given, cls):
            return given
        names = {one.name for one in fields(cls)}
        if not isinstance(given, Mapping) or not {*given} <= names:
            raise InvalidInputError(f"outline = {given!r}; need a mapping of {', '.join(names)}")
        try:
            return cls(**given)
        except TypeError as error:
            raise InvalidInputError(f"outline = {given!r}: {error}") from error


def choices_of(outline: Outline) -> EncoderChoices:
    """Encoders at most as wide, deep and many-headed as a teacher; every layer its own."""
    unit = outline.unit
    dims = {max(unit, int(f * outline.dim / unit + 0.5) * unit) for f in FRACTIONS}
    dims = {dim for dim in dims if dim <= outline.dim} | {outline.dim}
    return EncoderChoices(
        tuple(sorted(dims)),
        _up_to(outline.depth),
        _up_to(outline.heads),
        tuple(sorted({max(1, round(f * outline.tenths)) for f in (1 / 4, 1 / 2, 3 / 4, 1.0)})),
        keep=outline.keep or "even",
        unit=unit,
    )


def _layers(keep: Mapping[Any, Any], depth: int) -> dict[int, tuple[int, ...]]:
    """A map of layers, JSON's words for numbers read."""
    try:
        found = {int(few): tuple(int(one) for one in layers) for few, layers in keep.items()}
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"keep = {keep!r}; need depth: list of layers") from error
    for few, layers in found.items():
        if len(layers) != few or not all(0 <= one < depth for one in layers):
            raise InvalidInputError(
                f"keep = {few}: {list(layers)}; need {few} layers of 0 to {depth - 1}"
            )
    return found


def _up_to(most: int) -> tuple[int, ...]:
    return tuple(sorted({max(1, round(f * most)) for f in FRACTIONS}))
