"""Padding behind a step: nothing attends to it, but scores look at all of a map."""

from __future__ import annotations

from torch import Tensor

from ..searchspace.trace import Trace

__all__ = ["cleared"]


def cleared(x: Tensor, trace: Trace) -> Tensor:
    """What a step gave, ``[B, C, 1, N]``, with zeros for the tokens that are padding.

    Under a trace at He scale networks see to it themselves; on given weights they compute what
    they compute for whoever uses them. Real tokens are the same either way.
    """
    mask = trace.mask
    if trace.he or mask is None or x.shape[2] != 1 or x.shape[3] != mask.shape[1]:
        return x
    return x * mask[:, None, None, :]
