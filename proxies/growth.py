"""Signal growth: how much blocks add to what passes them by."""

from __future__ import annotations

import math

from torch import Tensor

from ..searchspace.errors import InvalidInputError
from .expr import primary_blocks
from .group import BlockGroup
from .probe import Probe
from .registry import register_proxy

__all__ = ["signal_growth"]

_NAME = "log variance"


def _log_variance(mean: Tensor, gram: Tensor, positions: Tensor) -> Tensor:
    """Of maps with means ``[k, C]``, Gram matrices ``[k, C, C]`` and positions ``[k]``."""
    between = (mean - mean.mean(dim=1, keepdim=True)).square().sum(dim=1)
    squares = gram.diagonal(dim1=1, dim2=2).sum(dim=1) + positions * between
    return (squares / (positions * mean.shape[1] - 1)).log()


def measure(group: BlockGroup, seed: int = 0) -> None:  # noqa: ARG001
    """Logarithm of the variance of each block's output; −∞ of a constant."""
    if group.is_primary:
        found = group.moments
        positions = found.mean.new_full(found.mean.shape[:1], found.positions)
        tensors = (found.mean, found.gram, positions)
        group.ledger.number(group.blocks, _NAME, *tensors, formula=_log_variance)


@register_proxy(
    "signal-growth",
    source="ours",
    needs={"forward", "bn"},
    on_blocks=measure,
    bfloat16=True,
)
def signal_growth(probe: Probe) -> float:
    """Mean over blocks of the logarithm of their output's variance.

    Batch norm makes what a block adds of variance 1, so the sum of a block's paths and its
    shortcut grows with their number, and with it what gradients have to be divided by. Says
    little of networks whose blocks end in batch norm. One forward, no labels; initialisation
    N(0, 1).

    Raises:
        InvalidInputError: where a block's output is constant.
    """
    values = [block.numbers[_NAME] for block in primary_blocks(probe)]
    if not values or min(values) == -math.inf:
        raise InvalidInputError("a block's output is constant, so its variance has no logarithm")
    return math.fsum(values) / len(values)
