"""Which channels of an elastic network can change places without changing the largest one.

Once-for-all sorts channels by importance before it lets widths shrink (Cai et al., ICLR 2020,
§3.3). A network says here which tensors hold a channel; sorting is the supernet's business.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from .errors import InvalidInputError

__all__ = [
    "ChannelGroup",
    "Slot",
    "Stream",
    "batch_norm",
    "conv_norm",
    "feed_forward",
    "layer",
    "reads",
]


class Slot(NamedTuple):
    """Where a tensor holds the channels of a group.

    Attributes:
        name: of a parameter or buffer, as in ``state_dict()``.
        dim: along which the channels lie.
        offset: index of the first of them.
    """

    name: str
    dim: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class ChannelGroup:
    """Channels that may be permuted, if they are in every slot at once.

    The largest architecture's outputs then stay what they are; smaller ones, which use the
    leading channels alone, change.

    Attributes:
        name: unique in its network.
        size: how many channels.
        importance: where the absolute weights lie whose sum over all other dimensions is a
            channel's importance: the input sides of what reads it.
        slots: everything to permute.
        boundaries: prefixes of the channels that sub-networks use, ascending, the last one
            ``size``; empty where they are not known, or where once-for-all's staged rule (see
            :func:`~scholarch.supernet.sort.sort_channels`) keeps nothing apart.

    Raises:
        InvalidInputError: if boundaries do not ascend to ``size``.
    """

    name: str
    size: int
    importance: tuple[Slot, ...]
    slots: tuple[Slot, ...]
    boundaries: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        ascending = sorted({b for b in self.boundaries if b > 0})
        if self.boundaries and (list(self.boundaries) != ascending or ascending[-1] != self.size):
            raise InvalidInputError(
                f"boundaries {self.boundaries} of {self.name!r}; need ascending numbers from 1 "
                f"to its size, {self.size}"
            )


@dataclass(slots=True, eq=False)
class Stream:
    """A group that is still being put together, such as the residual stream of a stage.

    Attributes:
        name: of the group.
        size: channels.
        writes: slots of what gives the channels out.
        reads: slots of what takes them in; their sum is the importance.
    """

    name: str
    size: int
    writes: list[Slot] = field(default_factory=list)
    reads: list[Slot] = field(default_factory=list)

    def group(self) -> ChannelGroup:
        """The group as it is now."""
        reads = tuple(self.reads)
        return ChannelGroup(self.name, self.size, reads, (*self.writes, *reads))


def batch_norm(*prefixes: str) -> list[Slot]:
    """All that batch norms of these names hold of their channels."""
    names = ("weight", "bias", "running_mean", "running_var")
    return [Slot(f"{prefix}.{name}", 0) for prefix in prefixes for name in names]


def conv_norm(*prefixes: str) -> list[Slot]:
    """The channels that convolutions ``….conv``, each with its ``….norm``, give out."""
    return [
        slot
        for prefix in prefixes
        for slot in (Slot(f"{prefix}.conv.weight", 0), *batch_norm(f"{prefix}.norm"))
    ]


def layer(*prefixes: str) -> list[Slot]:
    """The outputs of layers with a bias; also scale and shift of a layer norm."""
    return [Slot(f"{prefix}.{name}", 0) for prefix in prefixes for name in ("weight", "bias")]


def reads(*prefixes: str) -> list[Slot]:
    """The inputs of the layers of these names."""
    return [Slot(f"{prefix}.weight", 1) for prefix in prefixes]


def feed_forward(block: str, size: int) -> ChannelGroup:
    """The features between the linear layers ``fc1`` and ``fc2`` of the block of that name."""
    inside = Stream(f"{block}.inner", size, layer(f"{block}.fc1"), reads(f"{block}.fc2"))
    return inside.group()
