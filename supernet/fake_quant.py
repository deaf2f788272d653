"""Training with int8 in the loop: weights and inputs are rounded in the forward pass.

Jacob et al. (CVPR 2018, §3): the forward pass sees what int8 inference will see, the backward
pass goes straight through the rounding, the weights that are trained stay in float. A weight
has a scale of its output channel and is symmetric round 0, -127 … 127; an input has one scale
and zero point of a range that an exponential moving average follows, -128 … 127.

Batch norm is not folded while training, other than in Jacob et al., §3.2, whose weights have
one scale a layer: a scale of each output channel takes up the factor γ/σ that folding would
multiply the channel's weights by, so that both round alike.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..searchspace.errors import InvalidInputError

__all__ = [
    "fake_quantised",
    "follow_for",
    "is_fake_quantised",
    "plain_network",
    "rounded_weight",
]

#: Of the moving average of an input's range, the share of what was; Jacob et al. (§3.1) say
#: "close to 1", torch's observers take this.
MOMENTUM = 0.99

_WEIGHT_MOST = 127
_LOW, _HIGH = -128, 127
_LEAST_SCALE = torch.finfo(torch.float32).tiny

#: What a quantised layer has beside a plain one.
_BUFFERS = ("input_low", "input_high", "input_seen")


def rounded_weight(weight: Tensor) -> Tensor:
    """A weight rounded to int8, in float, by one scale an output channel; gradients pass.

    Args:
        weight: float32 ``[out, …]``.

    Returns:
        Multiples of max|w| / 127 of each ``[out]``; a channel of zeros stays as it is.
    """
    flat = weight.detach().flatten(1).abs()
    scale = (flat.amax(dim=1) / _WEIGHT_MOST).clamp_min(_LEAST_SCALE)
    zero = torch.zeros_like(scale, dtype=torch.int32)
    found: Tensor = torch.fake_quantize_per_channel_affine(
        weight, scale, zero, 0, -_WEIGHT_MOST, _WEIGHT_MOST
    )
    return found


class _Quantised(nn.Module):
    """What a quantised convolution and a quantised linear layer share: the input's rounding."""

    weight: Tensor
    input_low: Tensor
    input_high: Tensor
    input_seen: Tensor
    observe: int
    delay: int

    def start(self, observe: int, delay: int) -> None:
        """Add what is beside a plain layer, where its weights are."""
        self.observe, self.delay = observe, delay
        at = self.weight.device
        self.register_buffer("input_low", torch.zeros((), device=at))
        self.register_buffer("input_high", torch.zeros((), device=at))
        self.register_buffer("input_seen", torch.zeros((), dtype=torch.int64, device=at))

    def rounded_input(self, x: Tensor) -> Tensor:
        """The input as int8 has it; in training mode its range is followed before."""
        seen = int(self.input_seen)
        if self.training and seen < self.observe:
            self._follow(x.detach(), first=seen == 0)
            seen += 1
        # Ranges of the first steps are not to be trusted yet; without any there is no rounding.
        if seen <= (self.delay if self.training else 0):
            return x
        # 0 has to be exact: it is what convolutions pad with and what ReLU gives (§2.1).
        low, high = self.input_low.clamp(max=0.0), self.input_high.clamp(min=0.0)
        scale = ((high - low) / (_HIGH - _LOW)).clamp_min(_LEAST_SCALE)
        zero = (_LOW - low / scale).round().clamp(_LOW, _HIGH).to(torch.int32)
        found: Tensor = torch.fake_quantize_per_tensor_affine(x, scale, zero, _LOW, _HIGH)
        return found

    def _follow(self, x: Tensor, *, first: bool) -> None:
        low, high = torch.aminmax(x)
        share = 1.0 if first else 1.0 - MOMENTUM
        self.input_low.lerp_(low, share)
        self.input_high.lerp_(high, share)
        self.input_seen += 1


class _QuantisedConv2d(_Quantised, nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        weight = rounded_weight(self.weight)
        return cast(Tensor, self._conv_forward(self.rounded_input(x), weight, self.bias))


class _QuantisedLinear(_Quantised, nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(self.rounded_input(x), rounded_weight(self.weight), self.bias)


_KINDS: dict[type[nn.Module], type[_Quantised]] = {
    nn.Conv2d: _QuantisedConv2d,
    nn.Linear: _QuantisedLinear,
}


def fake_quantised(network: nn.Module, *, observe: int, delay: int = 0) -> nn.Module:
    """A copy of a plain network whose convolutions and linear layers compute as int8 does.

    What lies between them, such as sums of branches, stays in float. Its state dict has the
    plain network's keys, under which the float weights are trained, and three buffers a layer.

    Args:
        network: with :class:`torch.nn.Conv2d` and :class:`torch.nn.Linear` layers; left as it is.
        observe: training steps in which the inputs' ranges follow what is seen; they are fixed
            from then on, so that a resumed run has to have them in its checkpoint.
        delay: of these, the first steps in which inputs are not rounded yet, as Jacob et al.
            advise (§3.1); weights are from the first step on.

    Raises:
        InvalidInputError: if a number is out of range, or there is nothing to quantise.
    """
    _check_steps(observe, delay)
    copied = copy.deepcopy(network)
    found = 0
    for module in list(copied.modules()):
        kind = _KINDS.get(type(module))
        if kind is not None:
            # The layer stays where it is, in as many places as it stands in, with its weights.
            module.__class__ = kind
            cast(_Quantised, module).start(observe, delay)
            found += 1
    if not found:
        raise InvalidInputError(
            f"a {type(network).__name__} has no torch.nn.Conv2d or Linear layer to quantise"
        )
    return copied


def follow_for(network: nn.Module, *, observe: int, delay: int) -> None:
    """Change for how many steps the inputs' ranges are followed, before the first.

    Args:
        network: of :func:`fake_quantised`; changed.
        observe: see there.
        delay: likewise.

    Raises:
        InvalidInputError: if a number is out of range.
    """
    _check_steps(observe, delay)
    for module in network.modules():
        if isinstance(module, _Quantised):
            module.observe, module.delay = observe, delay


def _check_steps(observe: int, delay: int) -> None:
    for what, value, least in (("observe", observe, 1), ("delay", delay, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InvalidInputError(
                f"{what} = {value!r} steps of quantised training; need a whole number of at least"
                f" {least}"
            )
    if delay >= observe:
        raise InvalidInputError(
            f"delay = {delay} steps of quantised training, observe = {observe}; the inputs' ranges"
            " are followed for longer than inputs stay unrounded"
        )


def is_fake_quantised(network: nn.Module) -> bool:
    """Whether a network came from :func:`fake_quantised`."""
    return any(isinstance(module, _Quantised) for module in network.modules())


def plain_network(network: nn.Module) -> nn.Module:
    """The plain float network behind a quantised one: the same weights and batch norm.

    What is exported to int8 is this one: its weights round to what they were trained as.

    Args:
        network: of :func:`fake_quantised`; left as it is.
    """
    plain = copy.deepcopy(network)
    kinds: dict[type[nn.Module], type[nn.Module]] = {own: kind for kind, own in _KINDS.items()}
    for module in list(plain.modules()):
        kind = kinds.get(type(module))
        if kind is not None:
            layer: Any = module
            for name in _BUFFERS:
                delattr(layer, name)
            del layer.observe, layer.delay
            layer.__class__ = kind
    return plain
