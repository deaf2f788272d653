"""How much channels, heads, features and layers of an encoder matter, by what they give out.

Minitron's criteria (Muralidharan et al., NeurIPS 2024, §2): one pass of some inputs, no
gradient. Of a token's number a, the mean over an input's real tokens of |a|, then the Euclidean
norm over inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...searchspace.transformers.encoder import Encoder
from ...searchspace.transformers.encoder_layer import EncoderLayer

__all__ = ["Importance", "measure_importance"]


@dataclass(frozen=True, eq=False)
class Importance:
    """Of an encoder's parts, float64 on the CPU; larger matters more.

    Attributes:
        channels: of the token stream, ``[C]``: what layer norms give out, over all of them.
        heads: of each layer, ``[A]``: the length of what a head gives to the projection.
        features: of each layer's feed-forward part, ``[F]``, behind the activation.
        layers: ``[L]``: 1 − cosine of what a layer is given and what it gives out.
    """

    channels: Tensor
    heads: tuple[Tensor, ...]
    features: tuple[Tensor, ...]
    layers: Tensor


@torch.no_grad()
def measure_importance(encoder: Encoder, inputs: Tensor) -> Importance:
    """Importance of an encoder's parts on inputs, by one pass in eval mode.

    Args:
        encoder: left as it is.
        inputs: as its stem takes them; some tens are enough.
    """
    seen = _Seen(encoder.stem.mask(inputs))
    before = encoder.training
    with ExitStack() as stack:
        for module in encoder.modules():
            if isinstance(module, EncoderLayer):
                for hook in _hooks(module, seen):
                    stack.callback(hook.remove)
        if isinstance(encoder.norm, nn.LayerNorm):
            stack.callback(encoder.norm.register_forward_hook(partial(_output, seen.norm)).remove)
        encoder.eval()(inputs)
    encoder.train(before)
    total = torch.stack(seen.norms).sum(dim=0)
    return Importance(total, tuple(seen.heads), tuple(seen.features), torch.stack(seen.layers))


class _Seen:
    """What the hooks found, layer by layer."""

    def __init__(self, mask: Tensor | None) -> None:
        self.mask = mask
        self.norms: list[Tensor] = []
        self.heads: list[Tensor] = []
        self.features: list[Tensor] = []
        self.layers: list[Tensor] = []

    def norm(self, x: Tensor) -> None:
        self.norms.append(self._of_tokens(x.abs()))

    def head(self, count: int, x: Tensor) -> None:
        lengths = x.unflatten(-1, (count, -1)).double().norm(dim=-1)
        self.heads.append(self._of_tokens(lengths))

    def feature(self, x: Tensor) -> None:
        self.features.append(self._of_tokens(x.abs()))

    def layer(self, given: Tensor, result: Tensor) -> None:
        angle = 1.0 - functional.cosine_similarity(given.double(), result.double(), dim=-1)
        self.layers.append(self._means(angle.unsqueeze(-1)).mean())

    def _of_tokens(self, x: Tensor) -> Tensor:
        """``[B, N, F]`` → ``[F]``."""
        return self._means(x.double()).square().sum(dim=0).sqrt().cpu()

    def _means(self, x: Tensor) -> Tensor:
        """Over real tokens, ``[B, N, F]`` → ``[B, F]``."""
        if self.mask is None:
            return x.mean(dim=1)
        real = self.mask.unsqueeze(-1)
        return x.masked_fill(~real, 0.0).sum(dim=1) / real.sum(dim=1).clamp(min=1)


def _hooks(layer: EncoderLayer, seen: _Seen) -> list[Any]:
    def both(_module: nn.Module, args: tuple[Any, ...], result: Tensor) -> None:
        seen.layer(args[0], result)

    heads = partial(seen.head, layer.heads)
    return [
        layer.norm1.register_forward_hook(partial(_output, seen.norm)),
        layer.norm2.register_forward_hook(partial(_output, seen.norm)),
        layer.proj.register_forward_pre_hook(partial(_input, heads)),
        layer.fc2.register_forward_pre_hook(partial(_input, seen.feature)),
        layer.register_forward_hook(both),
    ]


def _output(
    take: Callable[[Tensor], None], _module: nn.Module, _args: object, result: Tensor
) -> None:
    take(result)


def _input(take: Callable[[Tensor], None], _module: nn.Module, args: tuple[Any, ...]) -> None:
    take(cast(Tensor, args[0]))
