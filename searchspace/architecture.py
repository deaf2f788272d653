"""Genes and architectures: the nouns every space is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .errors import InvalidInputError

__all__ = ["Architecture", "Gene", "Stage"]


@dataclass(frozen=True, slots=True)
class Gene:
    """A named choice.

    Args:
        name: e.g. ``"depth2"``.
        values: what can be chosen, in the order of the integer matrix's indices.
    """

    name: str
    values: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.values or len(set(self.values)) != len(self.values):
            raise InvalidInputError(
                f"gene {self.name!r} needs distinct values, at least one; got {self.values}"
            )

    def index(self, value: int) -> int:
        """Index of ``value``; raises :class:`InvalidInputError` where it is no choice."""
        if value not in self.values:
            allowed = ", ".join(map(str, self.values))
            raise InvalidInputError(f"{self.name} = {value} is not one of {allowed}")
        return self.values.index(value)


@dataclass(frozen=True, slots=True)
class Architecture:
    """One point of a search space: frozen, hashable, JSON both ways.

    Made by a space (``sample``, ``parse``, ``decode``), never by hand.

    Attributes:
        space: name of the space it belongs to.
        choices: index chosen for each gene, in the space's gene order.
        key: hash of the canonical form; isomorphic architectures share it.
        text: the field's own notation; ``str(arch)`` gives it and ``space.parse`` reads it.
    """

    space: str
    choices: tuple[int, ...]
    key: str = field(compare=False)
    text: str = field(compare=False)

    def __str__(self) -> str:
        return self.text

    def to_json(self) -> dict[str, Any]:
        """Plain data that :meth:`from_json` reads back."""
        return {
            "space": self.space,
            "choices": list(self.choices),
            "key": self.key,
            "text": self.text,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Architecture:
        """The architecture that :meth:`to_json` wrote.

        Raises:
            InvalidInputError: if a field is missing or of another type.
        """
        try:
            choices = tuple(int(choice) for choice in data["choices"])
            return cls(str(data["space"]), choices, str(data["key"]), str(data["text"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInputError(f"not an architecture in JSON: {data!r}") from error


@dataclass(frozen=True, slots=True)
class Stage:
    """A run of blocks at one resolution, as reports draw it.

    Attributes:
        name: e.g. ``"stage 2"``.
        blocks: how many blocks it holds.
        width: channels it gives out.
        resolution: height and width it gives out, in pixels.
        params: parameters of the stage.
        macs: multiply-accumulates of one image through the stage.
        detail: one line of words, e.g. ``"3x3 basic blocks, stride 2"``.
    """

    name: str
    blocks: int
    width: int
    resolution: int
    params: int
    macs: int
    detail: str = ""
