"""The channels of an inverted residual block that can change places."""

from __future__ import annotations

from collections.abc import Sequence

from ..channels import ChannelGroup, conv_norm, layer, reads
from .mbconv import ElasticMBConv

__all__ = ["mbconv_groups"]


def mbconv_groups(block: ElasticMBConv, name: str, mids: Sequence[int]) -> list[ChannelGroup]:
    """The inner channels of a block, and those between the two layers of its gate.

    The importance of an inner channel is what the projection makes of it, of a squeezed one
    what the gate's second layer does, as in once-for-all's code. There the staged rule holds
    for inner channels alone, so squeezed ones have no boundaries.

    Args:
        block: one with an expanding convolution.
        name: of the block in its network.
        mids: inner channels that can be asked for, ascending.
    """
    slots = conv_norm(f"{name}.expand", f"{name}.depthwise")
    project = tuple(reads(f"{name}.project.conv"))
    groups = []
    if block.gate is not None:
        slots += [*layer(f"{name}.gate.expand"), *reads(f"{name}.gate.reduce")]
        inner = tuple(reads(f"{name}.gate.expand"))
        size = len(block.gate.reduce.weight)
        squeezed = (*layer(f"{name}.gate.reduce"), *inner)
        groups.append(ChannelGroup(f"{name}.gate", size, inner, squeezed))
    middle = ChannelGroup(f"{name}.middle", mids[-1], project, (*slots, *project), tuple(mids))
    return [middle, *groups]
