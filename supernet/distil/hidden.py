"""Hidden states of matched layers, through what is learnt where widths differ."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...proxies.taps import TokenTaps
from ...proxies.tokens import common_mask, masked_mean, on_one_grid
from .layers import linear

__all__ = ["hidden_error", "projection"]


def projection(
    student: int, teacher: int, generator: torch.Generator, *, always: bool = False
) -> nn.Module:
    """A linear map from the student's width to the teacher's, or the identity.

    Args:
        student: its width.
        teacher: likewise.
        generator: of the weights.
        always: learn one where widths are equal, too.
    """
    if student == teacher and not always:
        return nn.Identity()
    return linear(student, teacher, generator)


def hidden_error(
    projected: nn.Module, at: tuple[int, int], student: TokenTaps, teacher: TokenTaps
) -> Tensor:
    """Mean square between a layer's tokens and another's over real tokens, a scalar.

    Args:
        projected: from the student's width to the teacher's.
        at: (student's, teacher's) index of :attr:`TokenTaps.layers`.
        student: one side.
        teacher: the other; gets no gradient.
    """
    i, j = at
    s, t = on_one_grid(student.layers[i], teacher.layers[j].detach(), student, teacher)
    errors = (projected(s) - t).square()
    return masked_mean(errors, common_mask(student, teacher, s.shape[1]))
