"""SynFlow: the data-free flow of signal through the absolute weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ..searchspace.elastic import Trace
from .group import BlockGroup
from .probe import Probe
from .registry import register_proxy

__all__ = ["synflow"]

_NAME = "synflow"


def _identity(x: Tensor, *_: object, **__: object) -> Tensor:
    return x


def _open(x: Tensor, *_: object, **__: object) -> Tensor:
    return torch.ones_like(x)


def _max_pool(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """The largest value of each window, and the derivative that stands where it does."""
    value, derivative = x[0::2], x[1::2]
    kwargs.pop("return_indices", None)
    value, places = functional.max_pool2d_with_indices(value, *args, **kwargs)
    derivative = derivative.flatten(2).gather(2, places.flatten(2)).view_as(value)
    return torch.stack([value, derivative], dim=1).flatten(0, 1)


#: What stands for a function where all signals are positive and nothing saturates.
_LINEAR: dict[object, Callable[..., Tensor]] = {
    functional.batch_norm: _identity,
    functional.relu: _identity,
    torch.relu: _identity,
    functional.relu6: _identity,
    functional.hardswish: _identity,
    functional.silu: _identity,
    functional.gelu: _identity,
    functional.hardsigmoid: _open,
    functional.sigmoid: _open,
    torch.sigmoid: _open,
    Tensor.sigmoid: _open,
    functional.max_pool2d: _max_pool,
}


class _Flow(TorchFunctionMode):
    """Runs the linear network of absolute weights at He scale on a value and its derivative.

    The derivative is that by a common factor on all weights. A layer is linear in its weights
    and in its input, so the derivative behind it is the derivative before it passed on, plus
    the value behind it: one pass, no graph.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        kwargs = kwargs or {}
        if func in _LINEAR:
            return _LINEAR[func](*args, **kwargs)
        if func is functional.conv2d or func is functional.linear:
            x, weight, *rest = args
            gain = 2.0 if func is functional.conv2d else 1.0
            weight = weight.abs() * math.sqrt(gain / weight[0].numel())
            out: Tensor = func(x, weight, *rest, **kwargs)
            out[1::2] += out[0::2]
            return out
        return func(*args, **kwargs)


def measure(group: BlockGroup, seed: int = 0) -> None:  # noqa: ARG001
    """One step of the pass, and the logarithm of what its output was divided by to stay near 1."""
    with torch.no_grad():
        start = torch.zeros_like(group.given[:2])
        start[0] = 1.0
        x = group.states(_NAME, start)
        with _Flow():
            out = group.network.run_group([b.step for b in group.blocks], x, Trace(images=2))
        largest = out[0::2].flatten(1).amax(dim=1)
        scale = torch.where(largest > 0.0, largest, torch.ones_like(largest))
        group.keep(_NAME, out / scale.repeat_interleave(2).view(-1, 1, 1, 1))
        group.ledger.number(group.blocks, _NAME, scale, formula=torch.log)


@register_proxy(
    "synflow",
    source="SynFlow (Tanaka et al., NeurIPS 2020, eq. 3) as a score: Abdelfattah et al., §3.3",
    needs={"forward", "images", "network", "bn"},
    on_blocks=measure,
    bfloat16=True,
    random_only="it takes batch norm out, without which weights trained with it say nothing",
)
def synflow(probe: Probe) -> float:
    """Logarithm of Σ |w ⊙ ∂R/∂w|, R the summed output for an all-one image.

    No data. |w| at He scale, batch norm removed. R is the flow through the linear network:
    activations that are not linear for a positive input (ReLU6, h-swish, …) become ReLUs and
    gates (sigmoids) are open, since the flow, which no batch norm holds back, would saturate
    both; so a gate's own weights add nothing. As nothing is negative, the sum is the derivative
    of R by a common factor on all weights, which one forward pass carries along. Plain values
    reach 1e61: the pass is scaled step by step and the logarithm, which keeps the ranking,
    kept beside it. A flow of 0 fails.
    """
    network = probe.network
    if network is None:
        raise RuntimeError("synflow is a pass of the nested network")
    with torch.no_grad(), _Flow():
        features = network.embed(network.pool(probe.blocks[-1].states[_NAME], Trace()), Trace())
        out = functional.linear(features, network.classifier.slice(features.shape[1]))
        total = float(out[1].double().sum())
    if not total > 0.0:
        return -math.inf
    return math.log(total) + math.fsum(block.numbers[_NAME] for block in probe.blocks)
