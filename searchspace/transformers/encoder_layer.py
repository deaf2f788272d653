"""The encoder layer of every modality, plain and elastic.

Attention and a feed-forward part, each a branch of the token stream, with the layer norm in
front of the branch (Dosovitskiy et al., ICLR 2021, §3.1) or behind the sum (Vaswani et al., NeurIPS
2017, §3.1; BERT). A head's width is fixed, so attention may be narrower or wider than the tokens
(AutoFormer, Chen et al., ICCV 2021, §3.3; AutoDistil; LightHuBERT).
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from ..elastic import Trace
from .elastic import ElasticLayerNorm, ElasticProjection, ElasticQKV
from .relative import (
    ElasticRelativePositions,
    RelativePositions,
    relative_scores,
    relative_values,
)
from .style import ACTIVATIONS, EncoderStyle, LayerShape

__all__ = ["ElasticEncoderLayer", "EncoderLayer", "LayerScale", "attention"]

Tables = tuple[Tensor, Tensor]


def attention(
    qkv: Tensor,
    heads: int,
    mask: Tensor | None = None,
    keys: Tables | None = None,
    values: Tables | None = None,
) -> Tensor:
    """Multi-head attention, scores over √d.

    Its products are written out: counters of operations know them, fused kernels they do not.

    Args:
        qkv: ``[B, N, 3·H·d]``: queries, keys, values, each head after head.
        heads: H.
        mask: keys that may be looked at, bool ``[B, N]``, or by each query, ``[B, N, N]`` (B may
            be 1); ``None``: all.
        keys: relative positions' tables that are added to keys, or ``None``.
        values: likewise to values.

    Returns:
        ``[B, N, H·d]``.
    """
    b, n, width = qkv.shape
    d = width // (3 * heads)
    q, k, v = qkv.view(b, n, 3, heads, d).permute(2, 0, 3, 1, 4)  # [B, H, N, d]
    scores = q @ k.transpose(-2, -1)  # [B, H, N, N]
    if keys is not None:
        scores = scores + relative_scores(q, *keys)
    scores = scores / math.sqrt(d)
    if mask is not None:
        seen = mask[:, None, None] if mask.dim() == 2 else mask[:, None]
        scores = scores.masked_fill(~seen, -math.inf)
    weights = scores.softmax(dim=-1)
    out = weights @ v
    if values is not None:
        out = out + relative_values(weights, *values)
    found: Tensor = out.transpose(1, 2).reshape(b, n, heads * d)
    return found


class LayerScale(nn.Module):
    """A learned factor on each channel of a branch (Touvron et al., ICCV 2021, §2.2)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """``[…, C]`` → the same shape; the leading ``C`` factors."""
        return x * self.weight[: x.shape[-1]]

    def copy_into(self, plain: LayerScale) -> None:
        """Copy the leading factors into another."""
        plain.weight.data.copy_(self.weight[: len(plain.weight)])


class EncoderLayer(nn.Module):
    """A layer of a standalone encoder.

    Args:
        dim: width of the tokens.
        shape: heads and features of the feed-forward part.
        style: what layers share.
    """

    def __init__(self, dim: int, shape: LayerShape, style: EncoderStyle) -> None:
        super().__init__()
        self.heads, self.pre = shape.heads, style.norm == "pre"
        width = shape.heads * style.head_dim
        self.norm1 = nn.LayerNorm(dim, eps=style.eps)
        self.qkv = nn.Linear(dim, 3 * width)
        self.proj = nn.Linear(width, dim)
        self.norm2 = nn.LayerNorm(dim, eps=style.eps)
        self.fc1 = nn.Linear(dim, shape.ffn)
        self.act = ACTIVATIONS[style.activation]
        self.fc2 = nn.Linear(shape.ffn, dim)
        self.scale1: LayerScale | None = LayerScale(dim) if style.layer_scale else None
        self.scale2: LayerScale | None = LayerScale(dim) if style.layer_scale else None
        far, d = style.relative, style.head_dim
        self.relative_k: RelativePositions | None = RelativePositions(far, d) if far else None
        self.relative_v: RelativePositions | None = RelativePositions(far, d) if far else None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Tokens ``[B, N, C]`` → the same shape; ``mask``: see :func:`attention`."""
        if self.pre:
            x = x + self._attend(self.norm1(x), mask)
            return x + self._feed(self.norm2(x))
        x = self.norm1(x + self._attend(x, mask))
        return cast(Tensor, self.norm2(x + self._feed(x)))

    def _attend(self, x: Tensor, mask: Tensor | None) -> Tensor:
        keys = self.relative_k.tables() if self.relative_k is not None else None
        values = self.relative_v.tables() if self.relative_v is not None else None
        out = self.proj(attention(self.qkv(x), self.heads, mask, keys, values))
        return cast(Tensor, out if self.scale1 is None else self.scale1(out))

    def _feed(self, x: Tensor) -> Tensor:
        out = self.fc2(self.act(self.fc1(x)))
        return cast(Tensor, out if self.scale2 is None else self.scale2(out))


class ElasticEncoderLayer(nn.Module):
    """:class:`EncoderLayer` of elastic width, heads and feed-forward part.

    Args:
        dim: largest width of the tokens.
        heads: most heads.
        ffn: most features of the feed-forward part.
        style: what layers share.
    """

    def __init__(self, dim: int, heads: int, ffn: int, style: EncoderStyle) -> None:
        super().__init__()
        self.pre, self.head_dim = style.norm == "pre", style.head_dim
        width = heads * style.head_dim
        self.norm1 = ElasticLayerNorm(dim, style.eps)
        self.qkv = ElasticQKV(dim, width)
        self.proj = ElasticProjection(width, dim)
        self.norm2 = ElasticLayerNorm(dim, style.eps)
        self.fc1 = ElasticProjection(dim, ffn)
        self.act = ACTIVATIONS[style.activation]
        self.fc2 = ElasticProjection(ffn, dim)
        self.scale1: LayerScale | None = LayerScale(dim) if style.layer_scale else None
        self.scale2: LayerScale | None = LayerScale(dim) if style.layer_scale else None
        far, d = style.relative, style.head_dim
        made = ElasticRelativePositions
        self.relative_k: ElasticRelativePositions | None = made(far, d) if far else None
        self.relative_v: ElasticRelativePositions | None = made(far, d) if far else None

    def forward(self, x: Tensor, heads: int, ffn: int, trace: Trace) -> Tensor:
        """Tokens ``[B, N, C]`` → the same shape."""
        if self.pre:
            x = x + self._attend(self.norm1(x), heads, trace)
            return x + self._feed(self.norm2(x), ffn, trace)
        x = self.norm1(x + self._attend(x, heads, trace))
        return cast(Tensor, self.norm2(x + self._feed(x, ffn, trace)))

    def _attend(self, x: Tensor, heads: int, trace: Trace) -> Tensor:
        keys = self.relative_k.tables(trace) if self.relative_k is not None else None
        values = self.relative_v.tables(trace) if self.relative_v is not None else None
        qkv = self.qkv(x, 3 * heads * self.head_dim, trace)
        out = self.proj(attention(qkv, heads, trace.mask, keys, values), x.shape[-1], trace)
        return cast(Tensor, out if self.scale1 is None else self.scale1(out))

    def _feed(self, x: Tensor, ffn: int, trace: Trace) -> Tensor:
        out = self.fc2(self.act(self.fc1(x, ffn, trace)), x.shape[-1], trace)
        return cast(Tensor, out if self.scale2 is None else self.scale2(out))

    def copy_into(self, plain: EncoderLayer) -> None:
        """Copy the slices that a plain layer holds."""
        for name in ("norm1", "qkv", "proj", "norm2", "fc1", "fc2"):
            getattr(self, name).copy_into(getattr(plain, name))
        for name in ("scale1", "scale2", "relative_k", "relative_v"):
            if getattr(self, name) is not None:
                getattr(self, name).copy_into(getattr(plain, name))
