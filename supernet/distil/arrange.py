"""A teacher's weights in the network that holds its students, in an order that suits them.

Students are prefixes of the largest network's channels, heads and features. Put in order, with
the largest network's outputs what the teacher's are, prefixes are what should be kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ...searchspace.channels import Slot
from ...searchspace.errors import InvalidInputError
from ...searchspace.transformers.encoder import ElasticEncoder, Encoder
from ...searchspace.transformers.encoder_space import evenly_spaced_layers
from ..sort import importance as read_importance
from .importance import Importance, measure_importance
from .transplant import check_largest, transplant

__all__ = ["ORDERS", "Arranged", "arrange", "kept_layers", "spread_order"]

ORDERS = ("importance", "even", "prefix", "stages")

#: Stages of layers that share weights (SWS: Xia et al., IJCAI 2024).
STAGES = 5


@dataclass(frozen=True, eq=False)
class Arranged:
    """How weights were put in order.

    Attributes:
        how: one of :data:`ORDERS`.
        keep: which of the teacher's layers a student of each depth takes.
        channels: the teacher's place of each channel of the token stream, int64 ``[C]``.
        importance: what the order follows; ``None`` where it follows none.
        head: whether the teacher's classifier came along.
    """

    how: str
    keep: Mapping[int, tuple[int, ...]]
    channels: Tensor
    importance: Importance | None
    head: bool


@torch.no_grad()
def arrange(
    elastic: ElasticEncoder,
    teacher: Encoder,
    inputs: Tensor | None = None,
    how: str = "importance",
) -> Arranged:
    """Load a teacher into an elastic encoder whose largest network is the teacher's, in place.

    The largest network's outputs are the teacher's, whatever the order. Heads and features that
    the elastic network has beyond the teacher's are filled with zeros, and give nothing.

    Args:
        elastic: of a space that was made from the teacher; its widest channels and layers are as
            many as the teacher's.
        teacher: left as it is.
        inputs: as the stem takes them; needed for ``"importance"``.
        how: ``"importance"``: most important first (Minitron, see
            :mod:`~scholarch.supernet.distil.importance`), and the most important layers of a
            depth, in their order. ``"even"``: any prefix is about evenly spaced, as weight
            selection (Xu et al., ICLR 2024, §3) takes them; layers, too. ``"prefix"``: the
            teacher's own order, the first layers. ``"stages"``: channels by importance where
            inputs are given; a shallower student repeats the layers of five stages,
            0, 0, 0, 1, 1, 1, 2, … (SWS).

    Returns:
        The order; the elastic network uses its layers from now on.

    Raises:
        InvalidInputError: if ``how`` is unknown, inputs are missing, or the teacher's shape is not
            that of the largest network.
    """
    if how not in ORDERS:
        raise InvalidInputError(f"how = {how!r}; need one of {', '.join(ORDERS)}")
    if how == "importance" and inputs is None:
        raise InvalidInputError("importance is measured on inputs; give some, or how='even'")
    check_largest(elastic, teacher)
    follows = how == "importance" or (how == "stages" and inputs is not None)
    found = measure_importance(teacher, inputs) if follows and inputs is not None else None
    head = transplant(elastic, teacher)
    dim, groups = teacher.shape.dim, elastic.stem.interleave
    for i, one in enumerate(teacher.shape.layers):
        features = _order(how, one.ffn, None if found is None else found.features[i])
        _move_features(elastic, i, features)
        _move_heads(elastic, i, _order(how, one.heads, None if found is None else found.heads[i]))
    _move_inside_stem(elastic, how, follows=follows)
    channels = _order(how, dim, None if found is None else found.channels, groups)
    _move_channels(elastic, channels)
    keep = kept_layers(how, len(teacher.layers), None if found is None else found.layers)
    elastic.keep_layers(keep)
    return Arranged(how, keep, channels, found, head)


# ---------------------------------------------------------------------- orders


def spread_order(count: int) -> Tensor:
    """All indices below ``count`` so that every prefix is about evenly spaced, int64.

    They are sorted by their bits read backwards; a prefix of a half or a quarter is exactly every
    second or fourth of a power of two.

    Example:
        >>> spread_order(6).tolist()
        [0, 4, 2, 1, 5, 3]
    """
    bits = max(count - 1, 1).bit_length()
    return torch.tensor(sorted(range(count), key=lambda i: int(f"{i:0{bits}b}"[::-1], 2)))


def _order(how: str, count: int, scores: Tensor | None, groups: int = 1) -> Tensor:
    """The old place of each of ``count`` parts; of channels in groups, within their group."""
    each = count // groups
    orders = []
    for group in range(groups):
        if scores is not None:
            order = torch.sort(scores[group::groups], descending=True, stable=True).indices
        else:
            order = spread_order(each) if how == "even" else torch.arange(each)
        orders.append(order * groups + group)
    return torch.stack(orders, dim=1).flatten()


def kept_layers(how: str, depth: int, scores: Tensor | None = None) -> dict[int, tuple[int, ...]]:
    """Which of a teacher's layers a student of each depth takes, shallow to deep.

    Args:
        how: one of :data:`ORDERS`.
        depth: of the teacher.
        scores: importance of the layers, ``[depth]``, where it is followed.

    Example:
        >>> kept_layers("even", 4)[2], kept_layers("stages", 12)[7]
        ((1, 3), (1, 1, 3, 3, 6, 8, 11))
    """
    found = {}
    for few in range(1, depth + 1):
        if few == depth or how == "prefix":
            found[few] = tuple(range(few))
        elif how == "stages":
            stages = evenly_spaced_layers(min(STAGES, few), depth)
            more = few % len(stages)
            found[few] = tuple(
                layer
                for i, layer in enumerate(stages)
                for _ in range(few // len(stages) + (i < more))
            )
        elif how == "importance" and scores is not None:
            best = torch.sort(scores, descending=True, stable=True).indices[:few]
            found[few] = tuple(sorted(best.tolist()))
        else:
            found[few] = evenly_spaced_layers(few, depth)
    return found


# ---------------------------------------------------------------------- putting in order


def _move(tensor: Tensor, dim: int, order: Tensor) -> None:
    """The leading parts along ``dim`` in another order; what is beyond stays."""
    part = tensor.narrow(dim, 0, len(order))
    part.copy_(part.index_select(dim, order.to(tensor.device)))


def _move_features(elastic: ElasticEncoder, index: int, order: Tensor) -> None:
    layer = elastic.layer(index)
    for tensor, dim in ((layer.fc1.weight, 0), (layer.fc1.bias, 0), (layer.fc2.weight, 1)):
        _move(tensor, dim, order)


def _move_heads(elastic: ElasticEncoder, index: int, order: Tensor) -> None:
    layer, d = elastic.layer(index), elastic.style.head_dim
    rows = (order.unsqueeze(1) * d + torch.arange(d)).flatten()
    for tensor in (layer.qkv.weight, layer.qkv.bias):
        _move(tensor.unflatten(0, (3, -1)), 1, rows)
    _move(layer.proj.weight, 1, rows)


def _move_inside_stem(elastic: ElasticEncoder, how: str, *, follows: bool) -> None:
    """Channels within the stem by the weights that read them, where importance is followed."""
    tensors = elastic.state_dict()
    for group in elastic.channel_groups():
        if group.name.startswith("stem."):
            scores = read_importance(group, tensors) if follows else None
            order = _order(how, group.size, scores)
            for slot in group.slots:
                _move(tensors[slot.name], slot.dim, order)


def _move_channels(elastic: ElasticEncoder, order: Tensor) -> None:
    group = elastic.token_group()
    slots: tuple[Slot, ...] = group.slots
    reorder = getattr(elastic.stem, "reorder", None)
    if reorder is not None:
        reorder(order)
        slots = tuple(slot for slot in slots if not slot.name.startswith("stem."))
    tensors = elastic.state_dict()
    for slot in slots:
        _move(tensors[slot.name], slot.dim, order)
