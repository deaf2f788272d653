"""Signal growth: how much blocks add to what passes them by."""

from __future__ import annotations

import math

from ..searchspace.errors import InvalidInputError
from .expr import block_moments, primary_blocks
from .probe import BlockProbe, Probe
from .registry import register_proxy

__all__ = ["signal_growth"]


def _log_variance(block: BlockProbe) -> float:
    mean, gram = block_moments(block)
    numbers = block.output.numel()
    positions = numbers // len(mean)
    squares = gram.trace() + positions * (mean - mean.mean()).square().sum()
    variance = float(squares) / (numbers - 1)
    return math.log(variance) if variance > 0.0 else -math.inf


@register_proxy("signal-growth", source="ours", needs={"forward", "bn"})
def signal_growth(probe: Probe) -> float:
    """Mean over blocks of the logarithm of their output's variance.

    Batch norm makes what a block adds of variance 1, so the sum of a block's paths and its
    shortcut grows with their number, and with it what gradients have to be divided by. Says
    little of networks whose blocks end in batch norm. One forward, no labels; initialisation
    N(0, 1).

    Raises:
        InvalidInputError: where a block's output is constant.
    """
    values = [block.memo("log_variance", _log_variance) for block in primary_blocks(probe)]
    if not values or min(values) == -math.inf:
        raise InvalidInputError("a block's output is constant, so its variance has no logarithm")
    return math.fsum(values) / len(values)
