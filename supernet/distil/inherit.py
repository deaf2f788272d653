"""A student's first weights, selected from its teacher's.

Weight selection (Xu et al., ICLR 2024, §3): of the teacher's layers the first that the student
has, of each layer's channels evenly spaced ones. Spacing depends on the two widths alone, so
layers that share channels select the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...searchspace.errors import InvalidInputError

__all__ = ["Inherited", "evenly_spaced", "inherit_from"]

#: Share of the student's parameters that has to come from the teacher.
_LEAST = 0.5

#: Dimensions of a weight that are channels; what follows is a kernel, cut at its centre.
_CHANNELS = 2


@dataclass(frozen=True)
class Inherited:
    """What came from the teacher.

    Attributes:
        share: of the student's parameters.
        kept: names of tensors that stayed as they were.
    """

    share: float
    kept: tuple[str, ...]


def evenly_spaced(few: int, many: int) -> Tensor:
    """``few`` of ``many`` indices, ⌊i · many / few⌋, int64.

    Example:
        >>> evenly_spaced(3, 8).tolist()
        [0, 2, 5]
    """
    return torch.arange(few) * many // few


def inherit_from(student: nn.Module, teacher: nn.Module) -> Inherited:
    """Select a student's weights and statistics from a teacher's, in place.

    Layers are matched by their names, as the networks of one family have them: CIFAR ResNets,
    timm models against slimmer ones of the same kind. The classifier is selected likewise.

    Args:
        student: changed; layers that the teacher has not, or not as large, stay as they are.
        teacher: left as it is.

    Raises:
        InvalidInputError: if less than half of the student's parameters would come from it.
    """
    theirs = _plain_names(teacher.state_dict())
    state = student.state_dict()
    parameters = dict(student.named_parameters())
    selected: dict[str, Tensor] = {}
    for name, tensor in state.items():
        given = theirs.get(name)
        if given is not None and _fits(tensor, given):
            selected[name] = _select(tensor, given)
    total = sum(p.numel() for p in parameters.values())
    share = sum(p.numel() for n, p in parameters.items() if n in selected) / total
    if share < _LEAST:
        raise InvalidInputError(
            f"{100 * share:.0f} % of the student's parameters have a counterpart in the teacher,"
            f" by name and at least as large; need {100 * _LEAST:.0f} %: inherit from a larger"
            " network of the same family, or start from scratch"
        )
    with torch.no_grad():
        for name, tensor in selected.items():
            state[name].copy_(tensor)
    return Inherited(share, tuple(name for name in state if name not in selected))


def _plain_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefix that data parallelism leaves."""
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def _fits(few: Tensor, many: Tensor) -> bool:
    same = few.dim() == many.dim() and few.is_floating_point() == many.is_floating_point()
    return same and all(a <= b for a, b in zip(few.shape, many.shape, strict=True))


def _select(few: Tensor, many: Tensor) -> Tensor:
    for axis, (a, b) in enumerate(zip(few.shape, many.shape, strict=True)):
        if a == b:
            continue
        if axis < _CHANNELS:
            many = many.index_select(axis, evenly_spaced(a, b).to(many.device))
        else:
            many = many.narrow(axis, (b - a) // 2, a)
    return many
