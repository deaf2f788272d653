"""Relative positions of a grid's tokens, learned, added to keys and to values.

Shaw et al., NAACL 2018, in AutoFormer's two-dimensional form (Chen et al., ICCV 2021, §3.3;
Wu et al., ICCV 2021): a vector for the rows and one for the columns between two patches, clipped
at a largest distance; the class token has a vector of its own. All heads share them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..elastic import Trace
from .elastic import ElasticEmbedding

__all__ = ["ElasticRelativePositions", "RelativePositions", "relative_scores", "relative_values"]


def _offsets(side: int, most: int) -> list[int]:
    """The table's row for each pair of a grid's rows, pair after pair; 0 is the class token's."""
    return [max(-most, min(most, b - a)) + most + 1 for a in range(side) for b in range(side)]


def _vectors(rows: Tensor, columns: Tensor, tokens: int) -> Tensor:
    """The vector of each pair of tokens, ``[N, N, d]``.

    Put together of numbers and views alone: constant tensors have no place in a traced network.
    """
    side = math.isqrt(tokens - 1)
    if side * side != tokens - 1:
        raise ValueError(f"{tokens} tokens are no square grid and a class token")
    most, d = (len(rows) - 2) // 2, rows.shape[1]
    offsets = _offsets(side, most)
    down, across = (table[offsets].view(side, side, d) for table in (rows, columns))
    grid = down[:, None, :, None] + across[None, :, None, :]
    patches = grid.reshape(side * side, side * side, d)
    token = rows[0] + columns[0]
    beside = torch.cat([token.expand(side * side, 1, d), patches], dim=1)
    return torch.cat([token.expand(1, tokens, d), beside], dim=0)


def relative_scores(q: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """What a query has with the position of each key, ``[B, H, N, d]`` → ``[B, H, N, N]``."""
    h, n = q.shape[1:3]
    table = _vectors(rows, columns, n)
    flat = q.permute(2, 0, 1, 3).flatten(1, 2)  # [N, B·H, d]
    found: Tensor = (flat @ table.transpose(1, 2)).unflatten(1, (-1, h)).permute(1, 2, 0, 3)
    return found


def relative_values(weights: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The positions that a query attends to, ``[B, H, N, N]`` → ``[B, H, N, d]``."""
    h, n = weights.shape[1:3]
    table = _vectors(rows, columns, n)
    flat = weights.permute(2, 0, 1, 3).flatten(1, 2)  # [N, B·H, N]
    found: Tensor = (flat @ table).unflatten(1, (-1, h)).permute(1, 2, 0, 3)
    return found


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
