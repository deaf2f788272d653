"""How many different patterns a Transformer's heads attend in."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ..searchspace.elastic import Step
from .padding import cleared
from .probe import Probe
from .registry import register_proxy

__all__ = ["distinct_heads", "effective_heads"]

#: Inputs whose attention is looked at; heads are told apart by a few.
MOST_INPUTS = 8

_SOFTMAXES = frozenset({torch.softmax, Tensor.softmax, functional.softmax})


def effective_heads(maps: Tensor, mask: Tensor | None = None) -> float:
    """Effective rank of the heads' attention maps, exp of their Gram matrix's spectral entropy.

    What a head adds to uniform attention counts: A − 1/n over the n real tokens. Heads that attend
    in orthogonal patterns of equal strength count one each, copies of a head one together.

    Args:
        maps: attention probabilities of a layer, ``[B, H, N, N]``, queries by keys.
        mask: real tokens, bool ``[B, N]``; ``None``: all are.

    Returns:
        Between 1 and H; 1 where all heads attend uniformly.
    """
    heads = maps.shape[1]
    gram = maps.new_zeros(heads, heads, dtype=torch.float64)
    for i, one in enumerate(maps):  # of speech the maps of one input are large enough
        if mask is not None:
            one = one[:, mask[i]][:, :, mask[i]]
        rows = (one - 1.0 / max(one.shape[-1], 1)).flatten(1)
        gram += (rows @ rows.T).double()
    spectrum = torch.linalg.eigvalsh(gram).clamp_min(0.0)
    total = float(spectrum.sum())
    return 1.0 if total == 0.0 else math.exp(float(torch.special.entr(spectrum / total).sum()))


class _Attention(TorchFunctionMode):
    """Keeps every attention map that is made: a softmax over as many keys as queries."""

    def __init__(self) -> None:
        super().__init__()
        self.maps: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        out = func(*args, **(kwargs or {}))
        if func in _SOFTMAXES and out.dim() == 4 and out.shape[-1] == out.shape[-2]:
            self.maps.append(out)
        return out


@register_proxy(
    "distinct-heads",
    source="effective rank (Roy & Vetterli, EUSIPCO 2007) of attention maps",
    needs={"forward", "network", "attention"},
)
def distinct_heads(probe: Probe) -> float:
    """Effective number of different attention maps, summed over layers.

    One more forward of up to 8 of the inputs, no labels; He initialisation, at which attention
    is far from uniform and heads differ as far as their number and width let them. Close to the
    number of heads, which it is the measured form of.
    """
    if probe.images is None:
        raise RuntimeError("distinct-heads takes its inputs from the batch")
    network = probe.network
    if network is None:
        raise RuntimeError("this probe has no network: its proxies declared no forward")
    images = probe.images[:MOST_INPUTS].detach()
    mask = network.mask_of(images)

    def run(step: Step, x: Tensor) -> tuple[Tensor, float]:
        trace = probe.trace(images)
        with torch.no_grad(), _Attention() as attention:
            out = cleared(network.run_step(step, x, trace), trace)
        return out, sum(
            effective_heads(maps, _fitting(mask, maps.shape[-1])) for maps in attention.maps
        )

    _, numbers = probe.along("attention maps", images, run)
    return float(sum(numbers))


def _fitting(mask: Tensor | None, tokens: int) -> Tensor | None:
    """The mask, where it is one of so many tokens."""
    return mask if mask is not None and mask.shape[1] == tokens else None
