"""What turns inputs into tokens: the one part of an encoder that knows what its inputs are.

A :class:`StemSpec` is plain data; it makes the plain :class:`Stem`, the :class:`ElasticStem`
that holds every width of it, and counts what they cost. Inputs come as batches hold them,
``[B, C, H, W]`` in [0, 1] (see :mod:`scholarch.searchspace.inputs`), or as the network's users
have them: token ids ``[B, L]``, a waveform ``[B, T]``.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from ..channels import ChannelGroup, Slot
from ..convnets.staged import Count, Tally
from ..trace import Trace

__all__ = ["ElasticStem", "Stem", "StemSpec"]


class Stem(nn.Module, abc.ABC):
    """Inputs to tokens, of one width."""

    @abc.abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Inputs → tokens ``[B, N, C]``."""

    def mask(self, x: Tensor) -> Tensor | None:  # noqa: ARG002
        """Which tokens are real, bool ``[B, N]``; ``None``: all of them."""
        return None


class ElasticStem(nn.Module, abc.ABC):
    """:class:`Stem` of every width up to the largest."""

    #: The token stream's channel ``c`` belongs to group ``c % interleave`` of a grouped
    #: convolution, so that channels may be put in another order within their group alone.
    interleave: int = 1

    @abc.abstractmethod
    def forward(self, x: Tensor, dim: int, trace: Trace) -> Tensor:
        """Inputs → tokens ``[B, N, dim]``."""

    @abc.abstractmethod
    def copy_into(self, plain: Any) -> None:
        """Copy the slices that a plain stem of the same spec holds."""

    @abc.abstractmethod
    def slots(self) -> tuple[Sequence[Slot], Sequence[Slot]]:
        """Where its tensors hold the token stream's channels: what writes and what reads them.

        Names are those of its own ``state_dict()``.
        """

    def groups(self) -> Sequence[ChannelGroup]:
        """Channels inside it that can change places; names as in its own ``state_dict()``."""
        return ()

    def mask(self, x: Tensor) -> Tensor | None:  # noqa: ARG002
        """Which tokens are real, bool ``[B, N]``; ``None``: all of them."""
        return None


@dataclass(frozen=True)
class StemSpec(abc.ABC):
    """A stem as plain data."""

    #: ``"image"``, ``"text"`` or ``"sound"``.
    modality: ClassVar[str]

    @abc.abstractmethod
    def plain(self, dim: int) -> Stem:
        """The stem of one width."""

    @abc.abstractmethod
    def elastic(self, dim: int) -> ElasticStem:
        """The stem of every width up to ``dim``."""

    @abc.abstractmethod
    def tokens(self, resolution: int) -> int:
        """Tokens that it makes of an input of ``resolution`` pixels a side, tokens or samples.

        Raises:
            InvalidInputError: if it can make none of so small or so long an input.
        """

    @abc.abstractmethod
    def count(self, tally: Tally, dim: Count, resolution: int) -> None:
        """Add its costs for N widths at once."""

    @abc.abstractmethod
    def details(self) -> str:
        """A line of words for reports."""

    def to_json(self) -> dict[str, Any]:
        """Plain data: the fields."""
        return asdict(self)
