"""Relative positions of a grid's tokens, learned, added to keys and to values.

Shaw et al., NAACL 2018, in AutoFormer's two-dimensional form (Chen et al., ICCV 2021, §3.3;
Wu et al., ICCV 2021): a vector for the rows and one for the columns between two patches, clipped
at a largest distance; the class token has a vector of its own. All heads share them.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn

from ..elastic import Trace
from .elastic import ElasticEmbedding

__all__ = ["ElasticRelativePositions", "RelativePositions", "relative_scores", "relative_values"]


@lru_cache(maxsize=16)
def _distances(tokens: int, most: int) -> tuple[Tensor, Tensor]:
    """Rows of the two tables for each pair of tokens, int64 ``[N, N]`` each; 0: the class token."""
    side = math.isqrt(tokens - 1)
    if side * side != tokens - 1:
        raise ValueError(f"{tokens} tokens are no square grid and a class token")
    place = torch.arange(side * side)
    found = []
    for at in (place // side, place % side):
        between = (at[None, :] - at[:, None]).clamp(-most, most) + most + 1
        table = torch.zeros(tokens, tokens, dtype=torch.int64)
        table[1:, 1:] = between
        found.append(table)
    return found[0], found[1]


def _vectors(rows: Tensor, columns: Tensor, tokens: int) -> Tensor:
    """The vector of each pair of tokens, ``[N, N, d]``."""
    down, across = _distances(tokens, (len(rows) - 2) // 2)
    return rows[down.to(rows.device)] + columns[across.to(rows.device)]


def relative_scores(q: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """What a query has with the position of each key, ``[B, H, N, d]`` → ``[B, H, N, N]``."""
    b, h, n, d = q.shape
    table = _vectors(rows, columns, n)
    flat = q.permute(2, 0, 1, 3).reshape(n, b * h, d)
    return (flat @ table.transpose(1, 2)).view(n, b, h, n).permute(1, 2, 0, 3)


def relative_values(weights: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The positions that a query attends to, ``[B, H, N, N]`` → ``[B, H, N, d]``."""
    b, h, n, _ = weights.shape
    table = _vectors(rows, columns, n)
    flat = weights.permute(2, 0, 1, 3).reshape(n, b * h, n)
    return (flat @ table).view(n, b, h, -1).permute(1, 2, 0, 3)


class RelativePositions(nn.Module):
    """The two tables.

    Args:
        most: largest distance that is told apart, in patches.
        dim: of a head.
    """

    def __init__(self, most: int, dim: int) -> None:
        super().__init__()
        self.rows = nn.Embedding(2 * most + 2, dim)
        self.columns = nn.Embedding(2 * most + 2, dim)

    def tables(self) -> tuple[Tensor, Tensor]:
        """Of rows and of columns, ``[2·most + 2, d]``."""
        return self.rows.weight, self.columns.weight


class ElasticRelativePositions(nn.Module):
    """:class:`RelativePositions` in a supernet; heads are all of one width, so nothing is cut."""

    def __init__(self, most: int, dim: int) -> None:
        super().__init__()
        self.rows = ElasticEmbedding(2 * most + 2, dim)
        self.columns = ElasticEmbedding(2 * most + 2, dim)

    def tables(self, trace: Trace) -> tuple[Tensor, Tensor]:
        """Of rows and of columns, ``[2·most + 2, d]``."""
        dim = self.rows.embedding_dim
        return self.rows.slice(dim, trace), self.columns.slice(dim, trace)

    def copy_into(self, plain: RelativePositions) -> None:
        """Copy both tables."""
        self.rows.copy_into(plain.rows)
        self.columns.copy_into(plain.columns)
