"""Optimizers over a network's flat weights, their memories flat tensors that can be kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .flat import FlatNetwork
from .settings import TrainSettings

__all__ = ["Memory", "make_optimizer"]

#: Decay of AdamW's squared gradients (Loshchilov & Hutter, ICLR 2019), torch's default.
_BETA2 = 0.999


class Memory:
    """What an optimizer remembers of each weight.

    Attributes:
        tensors: name → flat tensor, laid out as the network's values are; changed in place.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
        self.optimizer, self.tensors = optimizer, tensors

    def at(self, step: int) -> None:
        """Let the optimizer know how many steps it has done, where it counts."""
        for state in self.optimizer.state.values():
            if "step" in state:
                state["step"].fill_(step)


def make_optimizer(
    settings: TrainSettings, leaves: Sequence[nn.Parameter], flat: FlatNetwork
) -> Memory:
    """The optimizer that settings name, with its memory in place of its own.

    Args:
        settings: ``optimizer``, ``momentum``, ``weight_decay``.
        leaves: the flat weights that decay, and the rest; gradients are there.
        flat: whose layout the memory has.
    """
    decay, rest = leaves
    groups = [
        {"params": [decay], "weight_decay": settings.weight_decay},
        {"params": [rest], "weight_decay": 0.0},
    ]
    return _MAKERS[settings.optimizer](settings, groups, leaves, flat)


def _sgd(
    settings: TrainSettings,
    groups: list[dict[str, object]],
    leaves: Sequence[nn.Parameter],
    flat: FlatNetwork,
) -> Memory:
    nesterov = settings.momentum > 0.0
    optimizer = torch.optim.SGD(groups, lr=1.0, momentum=settings.momentum, nesterov=nesterov)
    momentum = torch.zeros_like(flat.values)
    for leaf, buffer in zip(leaves, flat.parts(momentum), strict=True):
        if nesterov:
            optimizer.state[leaf]["momentum_buffer"] = buffer
    return Memory(optimizer, {"momentum": momentum})


def _adamw(
    settings: TrainSettings,
    groups: list[dict[str, object]],
    leaves: Sequence[nn.Parameter],
    flat: FlatNetwork,
) -> Memory:
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(settings.momentum, _BETA2))
    first, second = (torch.zeros_like(flat.values) for _ in range(2))
    parts = zip(leaves, flat.parts(first), flat.parts(second), strict=True)
    for leaf, mean, square in parts:
        optimizer.state[leaf] |= {
            "step": torch.zeros(()),
            "exp_avg": mean,
            "exp_avg_sq": square,
        }
    return Memory(optimizer, {"momentum": first, "squares": second})


_MAKERS: dict[str, Callable[..., Memory]] = {"adamw": _adamw, "sgd": _sgd}
