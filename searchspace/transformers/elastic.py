"""Elastic layers of Transformers: every slice is a prefix, in every block of a weight.

No batch norm follows them, so their weights' scale matters: in a trace at He scale a slice of
N(0, 1) is taken at √(2/fan_in), an embedding at its own 0.02, as ViTs are initialised.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..elastic import EMBEDDING_STD, ElasticConv2d, ElasticLinear, Trace
from ..leaves import Leaves

__all__ = [
    "EPS",
    "ElasticEmbedding",
    "ElasticLayerNorm",
    "ElasticPatchConv",
    "ElasticProjection",
    "ElasticQKV",
    "as_map",
    "as_tokens",
]

EPS = 1e-6
"""Of every layer norm, as in ViT-Bench's networks."""


def as_map(tokens: Tensor) -> Tensor:
    """``[B, N, C]`` → ``[B, C, 1, N]``, a view."""
    return tokens.transpose(1, 2).unsqueeze(2)


def as_tokens(x: Tensor) -> Tensor:
    """``[B, C, 1, N]`` → ``[B, N, C]``, a view."""
    return x.squeeze(2).transpose(1, 2)


class ElasticProjection(ElasticLinear):
    """A linear layer sliced in its input and output features."""

    bias_leaves: Leaves | None = None

    def sum_in_place(self) -> None:
        """See :meth:`ElasticNetwork.sum_in_place`."""
        self.leaves, self.bias_leaves = Leaves(self.weight), Leaves(self.bias)

    def slice(self, in_features: int, out_features: int | None = None) -> Tensor:
        """The leading ``[out, in]`` of the weight, contiguous."""
        if self.leaves is not None and torch.is_grad_enabled():
            return self.leaves.cut(out_features or len(self.weight), in_features)
        return self.weight[:out_features, :in_features].contiguous()

    def slice_bias(self, out_features: int | None = None) -> Tensor:
        """The bias of the same rows, contiguous."""
        if self.bias_leaves is not None and torch.is_grad_enabled():
            return self.bias_leaves.cut(out_features or len(self.bias))
        return self.bias[:out_features]

    def forward(
        self, x: Tensor, out_features: int | None = None, trace: Trace | None = None
    ) -> Tensor:
        """``[B, N, C]`` → ``[B, N, out_features]``."""
        weight = self.slice(x.shape[-1], out_features)
        if trace is None:
            return functional.linear(x, weight, self.slice_bias(out_features))
        weight = trace.weight(weight, normed=False)
        out = functional.linear(x, weight, self.slice_bias(out_features))
        return as_tokens(trace.map(as_map(out))) if trace.sees_maps else out

    def copy_into(self, plain: nn.Linear) -> None:
        """Copy the slice that a plain layer holds."""
        plain.weight.data.copy_(self.slice(plain.in_features, plain.out_features))
        plain.bias.data.copy_(self.slice_bias(plain.out_features))


class ElasticQKV(ElasticProjection):
    """Queries, keys and values by one layer: three blocks, each a prefix of its own.

    Weight and bias are cut alike, so that a slot serves one of the three at any width.

    Args:
        dim: most features of the input.
        width: most features of each block; default ``dim``.
    """

    def __init__(self, dim: int, width: int | None = None) -> None:
        super().__init__(dim, 3 * (dim if width is None else width))

    def sum_in_place(self) -> None:
        """See :meth:`ElasticNetwork.sum_in_place`."""
        self.leaves, self.bias_leaves = Leaves(self.weight, 3), Leaves(self.bias, 3)

    def slice(self, in_features: int, out_features: int | None = None) -> Tensor:
        """``[3·D, in]``; ``out_features`` = 3·D."""
        if self.leaves is not None and torch.is_grad_enabled():
            rows = self._rows(out_features) or len(self.weight) // 3
            return self.leaves.cut(rows, in_features).flatten(0, 1)
        blocks = self.weight.unflatten(0, (3, -1))
        cut: Tensor = blocks[:, : self._rows(out_features), :in_features].flatten(0, 1)
        return cut.contiguous()

    def slice_bias(self, out_features: int | None = None) -> Tensor:
        """``[3·D]``."""
        if self.bias_leaves is not None and torch.is_grad_enabled():
            return self.bias_leaves.cut(self._rows(out_features) or len(self.bias) // 3).flatten()
        blocks = self.bias.unflatten(0, (3, -1))
        rows: Tensor = blocks[:, : self._rows(out_features)].flatten()
        return rows.contiguous()

    def _rows(self, out_features: int | None) -> int | None:
        return None if out_features is None else out_features // 3


class ElasticLayerNorm(nn.Module):
    """Layer norm whose first ``C`` features serve an input of ``C``.

    Args:
        dim: most features.
        eps: added to the variance.
    """

    def __init__(self, dim: int, eps: float = EPS) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """``[…, C]`` → the same shape."""
        c = x.shape[-1]
        return functional.layer_norm(x, (c,), self.weight[:c], self.bias[:c], self.eps)

    def copy_into(self, plain: nn.LayerNorm) -> None:
        """Copy the leading features into a plain layer."""
        c = plain.normalized_shape[0]
        plain.weight.data.copy_(self.weight[:c])
        plain.bias.data.copy_(self.bias[:c])


class ElasticPatchConv(ElasticConv2d):
    """A strided convolution with a bias, of elastic channels.

    Args:
        in_channels: most input channels.
        out_channels: most output channels.
        kernel: its side.
        stride: of the convolution.
        padding: on every side, in pixels.
        depthwise: each input channel feeds ``out / in`` outputs, neighbours in order.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int,
        *,
        padding: int = 0,
        depthwise: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, depthwise=depthwise)
        self.padding = padding
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(
        self,
        x: Tensor,
        out_channels: int,
        trace: Trace,
        kernel: int | None = None,  # noqa: ARG002 (the base's signature)
    ) -> Tensor:
        """``[B, C, H, W]`` → ``[B, out_channels, H', W']``."""
        weight = trace.weight(self.slice(x.shape[1], out_channels), normed=False)
        bias = self.bias[:out_channels]
        groups = x.shape[1] if self.depthwise else 1
        out = functional.conv2d(x, weight, bias, self.stride, self.padding, groups=groups)
        return trace.map(out)

    def copy_into(self, plain: nn.Conv2d) -> None:
        """Copy the slice that a plain layer holds."""
        plain.weight.data.copy_(self.slice(plain.in_channels, plain.out_channels))
        if plain.bias is not None:
            plain.bias.data.copy_(self.bias[: plain.out_channels])


class ElasticEmbedding(nn.Embedding):
    """Learned vectors, class token or positions, of elastic width.

    Args:
        count: how many.
        dim: most features.
    """

    def __init__(self, count: int, dim: int) -> None:
        # A weight of our own keeps torch from drawing one from the global generator.
        super().__init__(count, dim, _weight=torch.empty(count, dim))
        self.in_place = False

    def sum_in_place(self) -> None:
        """See :meth:`ElasticNetwork.sum_in_place`; of vectors that are looked up."""
        self.in_place = True

    def look_up(self, ids: Tensor, dim: int, trace: Trace | None = None) -> Tensor:
        """Leading features of the vectors of those numbers, ``[…]`` → ``[…, dim]``, contiguous."""
        # Gathered, then cut: a copy of the whole table would cost more than a network's layers.
        if not (self.in_place and torch.is_grad_enabled()):
            vectors = functional.embedding(ids, self.weight)[..., :dim].contiguous()
            return self.scaled(vectors, trace)
        leaf = functional.embedding(ids, self.weight.data)[..., :dim].contiguous().requires_grad_()

        def add(leaf: Tensor) -> None:
            if leaf.grad is not None and self.weight.grad is not None:
                rows = leaf.grad.flatten(0, -2)
                self.weight.grad[:, :dim].index_add_(0, ids.flatten(), rows)
                leaf.grad = None

        leaf.register_post_accumulate_grad_hook(add)
        return self.scaled(leaf, trace)

    def slice(self, dim: int, trace: Trace | None = None) -> Tensor:
        """The leading ``[count, dim]``, contiguous; at 0.02 in a trace at He scale."""
        return self.scaled(self.weight[:, :dim].contiguous(), trace)

    def scaled(self, vectors: Tensor, trace: Trace | None) -> Tensor:
        """Some of the vectors as they are, or at 0.02 in a trace at He scale."""
        return vectors * EMBEDDING_STD if trace is not None and trace.he else vectors

    def copy_into(self, plain: nn.Embedding) -> None:
        """Copy the leading features into a plain table."""
        plain.weight.data.copy_(self.slice(plain.embedding_dim))
