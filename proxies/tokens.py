"""Token streams of two Transformers side by side: which layers, on one grid, padding left out.

Relations between an input's tokens, X Xᵀ/√d of X in {queries, keys, values} (MiniLMv2: Wang et
al., Findings of ACL 2021, §3.1), know nothing of widths: heads are concatenated and split again
into as many *relation heads* on both sides.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from ..searchspace.errors import InvalidInputError
from .taps import TokenTaps

__all__ = [
    "common_heads",
    "common_mask",
    "concatenated",
    "layer_map",
    "masked_mean",
    "on_one_grid",
    "pairs_mean",
    "pooled_tokens",
    "products",
    "relation_divergence",
]

#: In the place of -∞, with which 0 · log 0 would be NaN; exp of it is 0 in float32.
_NEVER = -1e9


def concatenated(heads: Tensor) -> Tensor:
    """Heads side by side, ``[B, A, N, d]`` → ``[B, N, A·d]``."""
    return heads.transpose(1, 2).flatten(2)


def common_heads(a: int, b: int, most: int) -> int:
    """The largest number up to ``most`` that divides both widths.

    Example:
        >>> common_heads(448, 384, 48)
        32
    """
    both = math.gcd(a, b)
    return max(n for n in range(1, min(most, both) + 1) if both % n == 0)


def layer_map(students: int, teachers: int) -> list[int]:
    """The teacher's layer of each of the student's, evenly spaced, the last with the last.

    Example:
        >>> layer_map(4, 12), layer_map(4, 3)
        ([2, 5, 8, 11], [0, 1, 2, 2])
    """
    return [-(-(k + 1) * teachers // students) - 1 for k in range(students)]


def common_mask(student: TokenTaps, teacher: TokenTaps, tokens: int) -> Tensor | None:
    """Tokens that are real on both sides, bool ``[B, N]``; ``None``: all are.

    Args:
        student: one side.
        teacher: the other.
        tokens: N of what is compared; a side of another number has been pooled and has no say.
    """
    masks = [side.mask for side in (student, teacher) if side.mask is not None]
    masks = [mask for mask in masks if mask.shape[1] == tokens]
    return None if not masks else torch.stack(masks).all(dim=0)


def on_one_grid(
    a: Tensor, b: Tensor, student: TokenTaps, teacher: TokenTaps
) -> tuple[Tensor, Tensor]:
    """Two streams ``[B, N, C]`` and ``[B, N', C']`` of equally many tokens.

    They stay as they are where they have as many. Patches of images are otherwise pooled, by
    averages, to the smaller grid of both, and class tokens left out.

    Raises:
        InvalidInputError: if the numbers differ and one side has no grid.
    """
    if a.shape[1] == b.shape[1]:
        return a, b
    if student.grid is None or teacher.grid is None:
        raise InvalidInputError(
            f"the student has {a.shape[1]} tokens, the teacher {b.shape[1]}; tokens are compared"
            " one by one: give a teacher of the student's tokenizer or frames"
        )
    rows, columns = (min(*sides) for sides in zip(student.grid, teacher.grid, strict=True))
    return _regrid(a, student.grid, (rows, columns)), _regrid(b, teacher.grid, (rows, columns))


def _regrid(x: Tensor, grid: tuple[int, int], wanted: tuple[int, int]) -> Tensor:
    h, w = grid
    patches = x[:, -h * w :].transpose(1, 2).unflatten(2, (h, w))
    if grid != wanted:
        patches = functional.adaptive_avg_pool2d(patches, wanted)
    tokens: Tensor = patches.flatten(2).transpose(1, 2)
    return tokens


def products(x: Tensor, y: Tensor, heads: int) -> Tensor:
    """X Yᵀ/√d of each relation head, ``[B, N, W]`` twice → ``[B, heads, N, N]``.

    d is W over the heads, rounded down; columns beyond heads · d are left out.
    """
    d = x.shape[-1] // heads
    a, b = (z[..., : heads * d].unflatten(-1, (heads, d)).transpose(1, 2) for z in (x, y))
    scores: Tensor = a @ b.transpose(-2, -1) / math.sqrt(d)
    return scores


def relation_divergence(student: Tensor, teacher: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over real rows and heads of KL(softmax(teacher) ‖ softmax(student)), a scalar.

    Args:
        student: scores ``[B, heads, N, N]``.
        teacher: likewise.
        mask: real tokens, bool ``[B, N]``, or ``None``.
    """
    if mask is not None:
        hidden = ~mask[:, None, None, :]
        student, teacher = (x.masked_fill(hidden, _NEVER) for x in (student, teacher))
    log_q, log_p = student.log_softmax(dim=-1), teacher.log_softmax(dim=-1)
    rows = (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean(dim=1)  # [B, N]
    return masked_mean(rows, mask)


def masked_mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """The mean of ``[B, N, …]`` over real tokens and all that is behind, a scalar."""
    if mask is None:
        return x.mean()
    x = x.flatten(2).mean(dim=2) if x.dim() > 2 else x
    # Not a product with 0: padding may hold anything.
    kept = torch.where(mask, x, torch.zeros((), dtype=x.dtype, device=x.device))
    return kept.sum() / mask.sum().clamp(min=1)


def pairs_mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """The mean of ``[B, heads, N, N]`` over heads and pairs of real tokens, a scalar."""
    if mask is None:
        return x.mean()
    pairs = mask.unsqueeze(2) & mask.unsqueeze(1)  # [B, N, N]
    return masked_mean(x.mean(dim=1).flatten(1), pairs.flatten(1))


def pooled_tokens(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """The mean over real tokens, ``[B, N, C]`` → ``[B, C]``."""
    if mask is None:
        return tokens.mean(dim=1)
    kept = tokens.masked_fill(~mask.unsqueeze(-1), 0.0)
    return kept.sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)
