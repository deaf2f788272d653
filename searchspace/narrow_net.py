"""The channels of a supernet that the architectures of a narrowed space use."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .channels import ChannelGroup
from .elastic import ElasticNetwork
from .extremes import largest
from .space import SearchSpace

__all__ = ["restrict_groups"]

#: Random architectures looked at beside the largest, for layers that it does without.
_SAMPLE = 8

#: Keeps positive signals away from where gates and clipped activations are flat.
_GAIN, _SHIFT = 0.3, 0.01


def restrict_groups(network: ElasticNetwork, space: SearchSpace) -> tuple[ChannelGroup, ...]:
    """The groups of channels that can be sorted where only a part of a space is trained.

    Channels that no architecture of the part uses keep their random weights; were they sorted
    with the others, they would change places with trained ones. So each group ends where the
    last used channel does. A group whose channels are not used alike by all that hold them (a
    stem and a stage of one residual stream, narrowed to different widths) cannot be sorted
    without changing the largest network that is left, and is left out.

    Which weights are used is found by gradients, on positive weights by which every activation
    is alive; the network is then as it was.

    Args:
        network: of the whole space.
        space: narrowed.
    """
    groups = network.channel_groups()
    if not groups:
        return ()
    used = _used(network, space)
    found = (_restricted(group, used) for group in groups)
    return tuple(group for group in found if group is not None)


def _restricted(group: ChannelGroup, used: Mapping[str, Tensor]) -> ChannelGroup | None:
    """The group's used channels, or ``None`` where they cannot be sorted."""
    alive = {
        slot: used[slot.name]
        .narrow(slot.dim, slot.offset, group.size)
        .movedim(slot.dim, 0)
        .reshape(group.size, -1)
        .any(dim=1)
        for slot in (*group.slots, *group.importance)
        if slot.name in used
    }
    counts = {int(mask.sum()) for mask in alive.values()} - {0}
    if len(counts) != 1:
        return None
    size = counts.pop()
    if not all(bool(mask[:size].all()) for mask in alive.values() if mask.any()):
        return None
    # Layers that nothing uses do not vote; statistics go with their layer.
    importance = tuple(slot for slot in group.importance if alive[slot].any())
    slots = tuple(slot for slot in group.slots if slot not in alive or alive[slot].any())
    if not importance:
        return None
    inner = {boundary for boundary in group.boundaries if boundary < size}
    boundaries = tuple(sorted({*inner, size})) if group.boundaries else ()
    return ChannelGroup(group.name, size, importance, slots, boundaries)


def _used(network: ElasticNetwork, space: SearchSpace) -> dict[str, Tensor]:
    """Which weights have a gradient in one of a few architectures, by parameter."""
    tensors = dict(network.named_parameters())
    kept = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    used = {name: torch.zeros(tensor.shape, dtype=torch.bool) for name, tensor in tensors.items()}
    training = network.training
    generator = torch.Generator().manual_seed(0)
    if space.modality == "image":
        shape = space.input_shape()
        image = torch.rand(1, *shape, generator=generator, dtype=torch.float64)
    else:
        image = space.example(1, generator).double()
    try:
        network.eval().double()  # deep networks of small gains underflow in float32
        with torch.no_grad():
            for name, tensor in tensors.items():
                tensor.copy_(_positive(tensor, name, generator))
        for arch in [largest(space), *space.sample(_SAMPLE, 0)]:
            network.zero_grad(set_to_none=True)
            logits = network(image, arch)
            (logits * torch.arange(1, logits.shape[1] + 1)).sum().backward()
            for name, tensor in tensors.items():
                if tensor.grad is not None:
                    used[name] |= tensor.grad != 0
    finally:
        network.zero_grad(set_to_none=True)
        network.float().train(training)
        with torch.no_grad():
            for name, tensor in network.named_parameters():
                tensor.copy_(kept[name])
    return used


def _positive(tensor: nn.Parameter, name: str, generator: torch.Generator) -> Tensor:
    """Random positive weights that pass on about 0.3 of what they are given."""
    drawn = torch.rand(tensor.shape, generator=generator, dtype=torch.float64) + 0.5
    if tensor.dim() > 1:
        return drawn / max(1, tensor[0].numel())
    return drawn * (_SHIFT if name.endswith("bias") else _GAIN)
