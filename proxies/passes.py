"""How the pass that proxies share is computed.

Batch norm keeps to the images of one candidate where several are run at once. Where a proxy
wants the correlations of a convolution's channels they are taken behind its batch norm, which
changes none and leaves nothing to centre. In bfloat16, convolutions and linear layers are;
batch statistics, sums and all that is measured stay float32.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ..searchspace.trace import Owners
from .moments import cross, moments, per_image

__all__ = ["PRECISIONS", "SharedPass"]

#: What convolutions and linear layers may be computed in.
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}

#: Centred Gram matrices of a map ``[k, C, C]``, whose they are, and whether they were taken behind
#: batch norm, of channels brought to variance 1.
Gram = tuple[Tensor, Owners, bool]


class SharedPass:
    """Steps of a nested network in training mode, of one candidate or several at once.

    Args:
        images: of each candidate.
        precision: of convolutions and linear layers, one of :data:`PRECISIONS`.
        affine: whether batch norms have scales and shifts of their own, so that what they give
            is no longer centred.
    """

    def __init__(self, images: int, precision: str = "float32", *, affine: bool = False) -> None:
        self._images = images
        self._affine = affine
        self._dtype = PRECISIONS[precision]
        self._running = False
        self._map: tuple[Tensor, Owners] | None = None
        self._grams: list[Gram] = []

    @contextlib.contextmanager
    def running(self) -> Iterator[list[Gram]]:
        """Run steps inside; the list has the Gram matrices of their maps in the end."""
        self._running, self._map, self._grams = True, None, []
        lower = contextlib.nullcontext() if self._dtype == torch.float32 else _Lower(self._dtype)
        try:
            with lower:
                yield self._grams
            self._take()
        finally:
            self._running, self._map = False, None

    def on_map(self, x: Tensor, owners: Owners, normed: bool) -> None:
        """Take a map's Gram matrix, or leave it to the batch norm that follows."""
        self._take()
        self._map = x, owners
        if not normed or self._affine:
            self._take()

    def _take(self) -> None:
        if self._map is not None:
            (x, owners), self._map = self._map, None
            self._grams.append((moments(x, self._images).gram, owners, False))

    def batch_norm(self, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        """Batch norm of each candidate by its own images."""
        out: Tensor
        if self._running and len(x) > self._images:
            out = _BatchNorms.apply(x, weight, bias, eps, self._images)  # type: ignore[no-untyped-call]
        else:
            out = functional.batch_norm(x, None, None, weight, bias, True, 0.0, eps)
        if self._map is not None and self._map[0] is x:
            normal = out.detach()
            self._grams.append((cross(normal, normal, self._images), self._map[1], True))
            self._map = None
        return out


class _Lower(TorchFunctionMode):
    """Computes convolutions and linear layers in a lower precision, and gives back what it got."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        if func is functional.conv2d or func is functional.linear:
            x, weight, *rest = args
            rest = [r.to(self._dtype) if isinstance(r, Tensor) else r for r in rest]
            out = func(x.to(self._dtype), weight.to(self._dtype), *rest, **(kwargs or {}))
            return out.to(x.dtype)
        return func(*args, **(kwargs or {}))


class _BatchNorms(torch.autograd.Function):
    """Batch norm of several candidates, each by its own images."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, images: int
    ) -> Tensor:
        variance, mean = torch.var_mean(_split(x, images), dim=(1, 3, 4), correction=0)
        inverse = (variance + eps).rsqrt()
        ctx.save_for_backward(x, mean, inverse, weight)
        ctx.images = images
        scale = weight * inverse
        shift = per_image(bias - mean * scale, images)
        # Given where to write: of the shift's strides it would take the layout for the result.
        return torch.addcmul(shift, x, per_image(scale, images), out=torch.empty_like(x))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, mean, inverse, weight = ctx.saved_tensors
        grad, images = grads[0], ctx.images
        unit = (x - per_image(mean, images)) * per_image(inverse, images)
        flat = per_image(_split(grad, images).mean(dim=(1, 3, 4)), images)
        along = per_image(_split(grad * unit, images).mean(dim=(1, 3, 4)), images)
        left = grad - flat - unit * along
        return left * per_image(weight * inverse, images), None, None, None, None


def _split(x: Tensor, images: int) -> Tensor:
    split: Tensor = x.unflatten(0, (-1, images))
    return split
