"""The encoder block of a Vision Transformer, plain and elastic, and its learned positions.

Pre-norm: x + proj(attention(norm(x))), then x + fc2(GELU(fc1(norm(x)))) (Dosovitskiy et al.,
ICLR 2021, §3.1). Queries, keys and values have the block's width, heads divide it, and there
is no relative position.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..elastic import Trace
from .elastic import EPS, ElasticLayerNorm, ElasticProjection, ElasticQKV

__all__ = ["Block", "ElasticBlock", "attend", "positions_at", "with_class_token"]


def attend(qkv: Tensor, heads: int) -> Tensor:
    """Multi-head attention, ``[B, N, 3·C]`` → ``[B, N, C]``, scores over √(C / heads).

    Its products are written out: counters of operations know them, fused kernels they do not.
    """
    b, n, width = qkv.shape
    q, k, v = qkv.view(b, n, 3, heads, width // (3 * heads)).permute(2, 0, 3, 1, 4)  # [B, H, N, d]
    weights = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(dim=-1)  # [B, H, N, N]
    out: Tensor = (weights @ v).transpose(1, 2).reshape(b, n, width // 3)
    return out


def positions_at(table: Tensor, height: int, width: int) -> Tensor:
    """A square grid of learned positions at another size, by bicubic interpolation.

    Args:
        table: ``[g·g, C]``, row by row.
        height: rows that are wanted.
        width: columns that are wanted.

    Returns:
        ``[height·width, C]``.
    """
    side = math.isqrt(len(table))
    if (height, width) == (side, side):
        return table
    grid = table.T.reshape(1, -1, side, side)
    resized = functional.interpolate(grid, (height, width), mode="bicubic", align_corners=False)
    return resized[0].flatten(1).T


def with_class_token(token: Tensor, patches: Tensor) -> Tensor:
    """``[1, C]`` or ``[B, 1, C]`` before a map's positions ``[B, C, H, W]``: ``[B, 1 + HW, C]``."""
    return torch.cat([token.expand(len(patches), 1, -1), patches.flatten(2).transpose(1, 2)], dim=1)


class Block(nn.Module):
    """A pre-norm encoder block.

    Args:
        dim: width of the tokens.
        heads: of the attention; divides ``dim``.
        ffn: features inside the feed-forward part.
    """

    def __init__(self, dim: int, heads: int, ffn: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim, eps=EPS)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim, eps=EPS)
        self.fc1 = nn.Linear(dim, ffn)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(ffn, dim)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, N, C]`` → the same shape."""
        x = x + self.proj(attend(self.qkv(self.norm1(x)), self.heads))
        out: Tensor = x + self.fc2(self.act(self.fc1(self.norm2(x))))
        return out


class ElasticBlock(nn.Module):
    """:class:`Block` of elastic width, heads and feed-forward part.

    Args:
        dim: most features of the tokens.
        ffn: most features inside the feed-forward part.
    """

    def __init__(self, dim: int, ffn: int) -> None:
        super().__init__()
        self.norm1 = ElasticLayerNorm(dim)
        self.qkv = ElasticQKV(dim)
        self.proj = ElasticProjection(dim, dim)
        self.norm2 = ElasticLayerNorm(dim)
        self.fc1 = ElasticProjection(dim, ffn)
        self.fc2 = ElasticProjection(ffn, dim)

    def forward(self, x: Tensor, heads: int, ffn: int, trace: Trace) -> Tensor:
        """``[B, N, C]`` → the same shape."""
        dim = x.shape[-1]
        qkv = self.qkv(self.norm1(x), 3 * dim, trace)
        x = x + self.proj(attend(qkv, heads), dim, trace)
        inner = functional.gelu(self.fc1(self.norm2(x), ffn, trace))
        out: Tensor = x + self.fc2(inner, dim, trace)
        return out

    def copy_into(self, plain: Block) -> None:
        """Copy the slices that a plain block holds."""
        self.norm1.copy_into(plain.norm1)
        self.qkv.copy_into(plain.qkv)
        self.proj.copy_into(plain.proj)
        self.norm2.copy_into(plain.norm2)
        self.fc1.copy_into(plain.fc1)
        self.fc2.copy_into(plain.fc2)
