"""Gradients image by image, from one forward and one backward.

Batch norm mixes the images of a batch, so that an image's loss has a gradient through all the
others. Here its statistics are the batch's, but constants, as they are at inference: an image's
logits depend on that image alone. A gradient taken at a layer's output then falls apart into
images, and with what the layer was given it makes each image's gradient of the weight.

Measured on S0 (24 networks, 32 images): the kernel's condition with constant statistics and
with moving ones, which takes a backward for each image, agree with τ .88, two seeds of the
latter with .84; GradSign's two versions agree with τ .99.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ..searchspace.elastic import ElasticNetwork, Step, Trace
from .padding import cleared

__all__ = ["ImagePass", "Layer", "LayerTrace", "recording", "run_step"]

PATCHES = 1 << 26
"""Most numbers that are unfolded at a time: 256 MiB."""

_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A convolution or linear layer that was run, with what its gradient takes.

    Attributes:
        given: ``[N, C, H, W]`` of a convolution, of sound with H = 1, ``[N, …, in]`` of a linear
            layer.
        output: of the layer, in the graph.
        kernel: sides of the convolution's kernel; ``None`` for a linear layer.
        stride: of the convolution.
        padding: likewise.
        dilation: likewise.
        groups: likewise.
        scale: the gradient at He initialisation is that at the weight used, over this.
    """

    given: Tensor
    output: Tensor
    kernel: tuple[int, int] | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    scale: float

    def gradients(self, upstream: Tensor) -> Tensor:
        """Each image's gradient of the weight, ``[N, weights]``.

        Args:
            upstream: gradient at the output, of its shape.
        """
        n = len(self.given)
        if self.kernel is None:
            grad = upstream.reshape(n, -1, upstream.shape[-1]).transpose(1, 2)
            grad = grad @ self.given.reshape(n, -1, self.given.shape[-1])
            return grad.flatten(1) / self.scale
        # [N, groups, channels in a group, positions]
        grad = upstream.reshape(n, self.groups, -1, math.prod(upstream.shape[2:]))
        patch = self.given.shape[1] * math.prod(self.kernel) * grad.shape[-1]
        size = max(1, PATCHES // patch)
        parts = zip(grad.split(size), self.given.split(size), strict=True)
        rows = [back @ self._patches(x).transpose(2, 3) for back, x in parts]
        return torch.cat([row.flatten(1) for row in rows]) / self.scale

    def _patches(self, x: Tensor) -> Tensor:
        """What each position of the output is computed from, ``[N, groups, in·k·k, positions]``.

        A 1×1 kernel's are the input itself.
        """
        if self.kernel == (1, 1) and self.padding == (0, 0):
            x = x[:, :, :: self.stride[0], :: self.stride[1]].flatten(2)
        else:
            x = functional.unfold(x, self.kernel or 1, self.dilation, self.padding, self.stride)
        patches: Tensor = x.unflatten(1, (self.groups, -1))
        return patches

    def first_gradients(self, upstream: Tensor) -> Tensor:
        """Each image's gradient of one weight, ``[N]``.

        It joins the first input to the first output, at the kernel's centre: a corner may see
        nothing but padding.
        """
        if self.kernel is None:
            seen, back = self.given[..., 0], upstream[..., 0]
        else:
            back = upstream[:, 0].reshape(len(upstream), -1, upstream.shape[-1])
            height, width = self.padding
            padded = functional.pad(self.given[:, 0], (width, width, height, height))
            seen = padded
            for axis in (0, 1):
                start = self.kernel[axis] // 2 * self.dilation[axis]
                count = back.shape[axis + 1]
                seen = seen.narrow(axis + 1, start, (count - 1) * self.stride[axis] + 1)
            seen = seen[:, :: self.stride[0], :: self.stride[1]]
        return (seen * back).reshape(len(seen), -1).sum(dim=1) / self.scale


class LayerTrace(Trace):
    """Remembers which weights were used, at which scale, and the layers that used them."""

    def __init__(self, mask: Tensor | None = None, *, given: bool = False) -> None:
        super().__init__(he=not given, mask=mask)
        self.layers: list[Layer] = []
        self._scales: dict[int, tuple[Tensor, float]] = {}
        self._waiting: set[int] = set()

    def weight(self, weight: Tensor, *, normed: bool = True) -> Tensor:
        used = super().weight(weight, normed=normed)
        # Batch norm follows: N(0, 1) as it is stands for He scale, see `Probe.gradients`.
        scale = math.sqrt(2.0 / weight[0].numel()) if normed and self.he else 1.0
        self._scales[id(used)] = (used, scale)  # the tensor too, so that its id stays taken
        self._waiting.add(id(used))
        return used

    def scale_of(self, weight: Tensor) -> float | None:
        """Of a weight that passed through here, which a layer uses now; ``None`` of others."""
        found = self._scales.get(id(weight))
        self._waiting.discard(id(weight))
        return None if found is None else found[1]

    def check(self) -> None:
        """Raises RuntimeError where a weight was used by no layer that is known here."""
        if self._waiting:
            raise RuntimeError(
                f"{len(self._waiting)} of {len(self._scales)} weights are used by neither a"
                " convolution nor a linear layer"
            )


class _Watch(TorchFunctionMode):
    """Holds batch norm's statistics constant and fills a trace's layers."""

    def __init__(self, trace: LayerTrace) -> None:
        super().__init__()
        self.trace = trace

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        kwargs = kwargs or {}
        if func is functional.batch_norm:
            return _constant_batch_norm(*args, **kwargs)
        result = func(*args, **kwargs)
        if func in (functional.conv2d, functional.conv1d, functional.linear):
            given = dict(zip(_ARGUMENTS, args, strict=False)) | kwargs
            scale = self.trace.scale_of(given["weight"])
            if scale is not None:
                if not result.requires_grad:  # the first of all: nothing before it is asked for
                    result.requires_grad_()
                make = _linear if func is functional.linear else _convolution
                self.trace.layers.append(make(given, result, scale))
        return result


def _linear(given: dict[str, Any], output: Tensor, scale: float) -> Layer:
    none = (0, 0)
    return Layer(given["input"].detach(), output, None, none, none, none, 1, scale)


def _convolution(given: dict[str, Any], output: Tensor, scale: float) -> Layer:
    x, weight = given["input"].detach(), given["weight"]
    # One of sound is one of images of height 1.
    flat = weight.dim() == 3
    return Layer(
        x.unsqueeze(2) if flat else x,
        output,
        (1, weight.shape[2]) if flat else (weight.shape[2], weight.shape[3]),
        _pair(given.get("stride", 1), 1 if flat else None),
        _pair(given.get("padding", 0), 0 if flat else None),
        _pair(given.get("dilation", 1), 1 if flat else None),
        given.get("groups", 1),
        scale,
    )


def _pair(value: int | Sequence[int], vertical: int | None) -> tuple[int, int]:
    """A convolution's setting, down and across; ``vertical`` where it has but one side."""
    last = value if isinstance(value, int) else value[-1]
    if vertical is not None:
        return vertical, last
    return (last if isinstance(value, int) else value[0]), last


def _constant_batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Batch norm by the batch's statistics, as constants."""
    if training:
        axes = [axis for axis in range(x.dim()) if axis != 1]
        running_var, running_mean = torch.var_mean(x.detach(), dim=axes, correction=0)
    return functional.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)


@contextmanager
def recording(trace: LayerTrace) -> Iterator[None]:
    """Every layer run inside goes into the trace; batch norms have constant statistics."""
    with torch.enable_grad(), _Watch(trace):
        yield
    trace.check()


@dataclass(frozen=True, slots=True, eq=False)
class ImagePass:
    """A forward pass in which no image depends on another.

    Attributes:
        logits: ``[N, K]``, at He initialisation or given weights, in the graph.
        features: what the classifier is given, ``[N, F]``.
        layers: those run, first to last, without the classifier.
    """

    logits: Tensor
    features: Tensor
    layers: list[Layer]

    def gradients(self, upstream: Tensor) -> Iterator[Tensor]:
        """Each image's gradient of every weight at He initialisation or as given, by layer.

        Args:
            upstream: gradient at the logits, ``[N, K]``.

        Yields:
            ``[N, weights]`` of each layer, the classifier last.
        """
        for layer, grad in zip(self.layers, self._at_outputs(upstream), strict=True):
            yield layer.gradients(grad)
        yield (upstream.unsqueeze(2) * self.features.unsqueeze(1)).flatten(1)

    def first_gradients(self, upstream: Tensor, limit: int) -> Tensor:
        """Each image's gradient of one weight of each layer, see :meth:`Layer.first_gradients`.

        Args:
            upstream: gradient at the logits, ``[N, K]``.
            limit: most layers, from the first on; the classifier is the last.

        Returns:
            ``[N, min(limit, layers + 1)]``.
        """
        pairs = zip(self.layers[:limit], self._at_outputs(upstream), strict=False)
        columns = [layer.first_gradients(grad) for layer, grad in pairs]
        columns.append(upstream[:, 0] * self.features[:, 0])
        return torch.stack(columns[:limit], dim=1)

    def _at_outputs(self, upstream: Tensor) -> list[Tensor]:
        outputs = [layer.output for layer in self.layers]
        # Other candidates go back through the prefix they share, so the graph has to stay.
        grads = torch.autograd.grad(
            self.logits, outputs, upstream, retain_graph=True, allow_unused=True
        )
        return [
            torch.zeros_like(output) if grad is None else grad
            for output, grad in zip(outputs, grads, strict=True)
        ]


def run_step(
    network: ElasticNetwork,
    step: Step,
    x: Tensor,
    mask: Tensor | None = None,
    *,
    given: bool = False,
) -> tuple[Tensor, LayerTrace]:
    """One step of an :class:`ImagePass`, and what it left."""
    trace = LayerTrace(mask, given=given)
    with recording(trace):
        return cleared(network.run_step(step, x, trace), trace), trace
