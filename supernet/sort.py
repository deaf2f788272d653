"""Sorting channels by importance, so that the leading ones are the ones to keep.

Cai et al., ICLR 2020, §3.3: before widths shrink, channels are put in descending order of the
L1 norm of the weights that read them. The largest network's outputs stay what they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ..searchspace.channels import ChannelGroup, Slot
from ..searchspace.elastic import ElasticNetwork
from ..searchspace.errors import InvalidInputError

__all__ = ["RULES", "importance", "sort_channels"]

RULES = ("stage0", "stage1")


def importance(group: ChannelGroup, tensors: Mapping[str, Tensor]) -> Tensor:
    """Importance of each channel of a group, float64 ``[size]`` on the CPU.

    Args:
        group: of a network.
        tensors: its ``state_dict()``.
    """
    # On the CPU in float64, so that no device or precision settles an order of its own.
    total = torch.zeros(group.size, dtype=torch.float64)
    for slot in group.importance:
        weight = _channels(tensors[slot.name].detach(), slot, group.size).cpu().double()
        total += weight.abs().movedim(slot.dim, 0).reshape(group.size, -1).sum(dim=1)
    return total


@torch.no_grad()
def sort_channels(
    network: ElasticNetwork, *followers: Mapping[str, Tensor], rule: str = "stage0"
) -> dict[str, Tensor]:
    """Put the channels of every group in descending order of importance, in place.

    What an optimizer or an average keeps of a channel has to move with it, or the next step
    adds one channel's momentum to another: name it among the followers. To leave them out is
    a defect of the released DepS code, which sorts in the middle of training.

    ``"stage0"`` lets every channel move anywhere. ``"stage1"`` is what DepS ran, by once-for-all's
    ``re_organize_middle_weights(expand_ratio_stage=1)``: there 2·10⁵ is taken off the
    importance of all channels beyond the second-largest width, which keeps them behind the
    others, in order among themselves; with expand ratios 3, 4 and 6 the channels from 4c to 6c
    never move forward, however important. (In float32 that also rounds their importance to
    1/64, which is not repeated here.) Groups without boundaries are sorted as in stage 0.

    Args:
        network: whose :meth:`~scholarch.searchspace.elastic.ElasticNetwork.channel_groups` are
            sorted; nothing where it has none.
        followers: tensors by the names of the network's parameters and buffers: momentum,
            second moments, an average, a frozen copy's ``state_dict()``. Names of the network
            that are missing are passed over, other names left alone. A tensor that is in
            several of them, or the network's own, moves once.
        rule: see above.

    Returns:
        By group, the earlier place of each channel, int64 ``[size]``: new = old[permutation].
        Equal importances keep their order, so that equal networks are sorted alike.

    Raises:
        InvalidInputError: if the rule is unknown, or a tensor has not the network's shape;
            nothing has moved then.
    """
    if rule not in RULES:
        raise InvalidInputError(f"rule = {rule!r}; need one of {', '.join(RULES)}")
    own = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    groups = network.channel_groups()
    for group in groups:
        _check(group, own, followers)
    permutations = {}
    for group in groups:
        order = permutations[group.name] = _order(group, importance(group, own), rule)
        for slot in group.slots:
            for tensor in _tensors(slot.name, own, *followers):
                part = _channels(tensor, slot, group.size)
                part.copy_(part.index_select(slot.dim, order.to(tensor.device)))
    return permutations


def _channels(tensor: Tensor, slot: Slot, size: int) -> Tensor:
    return tensor.narrow(slot.dim, slot.offset, size)


def _order(group: ChannelGroup, scores: Tensor, rule: str) -> Tensor:
    order = torch.sort(scores, descending=True, stable=True).indices
    if rule == "stage1" and len(group.boundaries) > 1:
        behind = order >= group.boundaries[-2]
        order = torch.cat([order[~behind], order[behind]])
    return order


def _tensors(name: str, *holders: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """The tensors of that name, each once."""
    # `state_dict()` gives other objects for the same memory: by their address.
    yield from {t.data_ptr(): t for t in (h[name] for h in holders if name in h)}.values()


def _check(
    group: ChannelGroup, own: Mapping[str, Tensor], followers: tuple[Mapping[str, Tensor], ...]
) -> None:
    for slot in (*group.importance, *group.slots):
        if slot.name not in own:
            raise InvalidInputError(
                f"group {group.name!r} names {slot.name!r}, which the network does not have; "
                "name parameters and buffers as its state_dict() does"
            )
        shape = own[slot.name].shape
        if slot.dim >= len(shape) or slot.offset + group.size > shape[slot.dim]:
            raise InvalidInputError(
                f"group {group.name!r} wants {group.size} channels from {slot.offset} in dimension "
                f"{slot.dim} of {slot.name}, which is {list(shape)}"
            )
        for follower in followers:
            if slot.name in follower and follower[slot.name].shape != shape:
                raise InvalidInputError(
                    f"{slot.name} is {list(follower[slot.name].shape)} in a follower and "
                    f"{list(shape)} in the network; give tensors of its shape"
                )
