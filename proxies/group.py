"""Blocks of several candidates that were run at once, and what proxies measure of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..searchspace.elastic import ElasticNetwork
from .block import BlockProbe
from .ledger import Ledger
from .moments import Moments, moments

__all__ = ["BlockGroup"]


@dataclass(slots=True, eq=False)
class BlockGroup:
    """One step each of K candidates, run at once; K is 1 where candidates go one by one.

    Attributes:
        blocks: K of them, of equal shapes.
        network: the nested network that holds them.
        images: B, of each candidate.
        given: what the steps were run on, ``[K·B, C, H, W]``.
        output: what they gave, ``[K·B, C', H', W']``; in a graph from ``given`` on where a proxy
            needs block gradients.
        maps: centred Gram matrices ``[k, C, C]`` of convolutions' outputs, where a proxy needs
            them, the blocks each belongs to, and whether it was taken behind batch norm.
        ledger: where measurements are noted.
    """

    blocks: Sequence[BlockProbe]
    network: ElasticNetwork
    images: int
    given: Tensor
    output: Tensor
    ledger: Ledger
    maps: list[tuple[Tensor, Sequence[BlockProbe], bool]] = field(default_factory=list)
    _moments: Moments | None = None

    @property
    def is_primary(self) -> bool:
        """Whether these blocks lie between stem and head."""
        return self.blocks[0].step.kind not in {"stem", "head"}

    @property
    def moments(self) -> Moments:
        """Of the blocks' outputs, taken once."""
        if self._moments is None:
            self._moments = moments(self.output, self.images)
        return self._moments

    def states(self, name: str, start: Tensor) -> Tensor:
        """Activations of another pass before these blocks.

        Args:
            name: of the pass, under which :meth:`keep` kept those of the blocks before.
            start: ``[b, C, H, W]``, what the first block is given.

        Returns:
            ``[K·b, C, H, W]``.
        """
        found = [block.parent.states[name] if block.parent else start for block in self.blocks]
        return found[0] if len(found) == 1 else torch.cat(found)

    def keep(self, name: str, states: Tensor) -> None:
        """Keep activations of another pass behind these blocks, ``[K·b, C, H, W]``."""
        parts = states.split(len(states) // len(self.blocks))
        for block, part in zip(self.blocks, parts, strict=True):
            block.states[name] = part
