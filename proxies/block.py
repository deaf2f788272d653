"""One step of the forward pass that proxies share, and what they remember there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from torch import Tensor

from ..searchspace.elastic import Step

__all__ = ["BlockProbe", "Memo"]

T = TypeVar("T")


class Memo:
    """Values computed once, by name."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def get(self, name: str, compute: Callable[[], T]) -> T:
        if name not in self._values:
            self._values[name] = compute()
        return cast(T, self._values[name])


@dataclass(slots=True, eq=False)
class BlockProbe:
    """One step of the forward pass, shared by every candidate with the same prefix.

    Attributes:
        step: what was computed.
        output: ``[B, C, H, W]``.
        relus: outputs of the ReLUs inside, where a proxy needs them.
        weights: the weight slices used, where a proxy needs gradients.
        maps: outputs of the convolutions and a Transformer's linear layers inside, where a
            proxy needs them.
        parent: the block before; ``None`` of the first.
        numbers: what proxies measured as the block was run, by name.
        states: activations of other passes behind this block, by the pass's name.
    """

    step: Step
    output: Tensor
    relus: list[Tensor] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)
    maps: list[Tensor] = field(default_factory=list)
    parent: BlockProbe | None = None
    numbers: dict[str, float] = field(default_factory=dict)
    states: dict[str, Tensor] = field(default_factory=dict)
    _memo: Memo = field(default_factory=Memo)

    def memo(self, name: str, compute: Callable[[BlockProbe], T]) -> T:
        """``compute(self)``, the first time it is asked for under ``name``."""
        return self._memo.get(name, lambda: compute(self))

    def let_go(self, output: Tensor) -> None:
        """Drop the graph when all has been taken from it; ``output`` is the same without."""
        self.output = output
        self.relus = [x.detach() for x in self.relus]
        self.maps = [x.detach() for x in self.maps]
