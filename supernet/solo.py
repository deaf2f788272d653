"""One plain network in an elastic network's place, so that the one trainer trains it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..searchspace.architecture import Architecture
from ..searchspace.elastic import ElasticNetwork, Step, Trace
from ..searchspace.errors import InvalidInputError
from ..searchspace.layers import BatchNorm

__all__ = ["SoloNetwork"]

_NORMS = nn.modules.batchnorm._BatchNorm


class SoloNetwork(ElasticNetwork):
    """A plain network, and what is learnt beside it.

    Args:
        student: ``[B, C, H, W]`` → ``[B, K]``; trained in place.
        beside: trained and checkpointed with it; its gradients are the objective's to make.
    """

    def __init__(self, student: nn.Module, beside: nn.Module | None = None) -> None:
        super().__init__()
        self.student = student
        self.beside = beside

    def forward(self, x: Tensor, arch: Architecture) -> Tensor:  # noqa: ARG002
        """Logits ``[B, K]``, whatever the architecture: there is one."""
        logits: Tensor = self.student(x)
        return logits

    def extract(self, arch: Architecture) -> nn.Module:  # noqa: ARG002
        """A copy of the plain network, in its mode."""
        with torch.no_grad():
            plain = copy.deepcopy(self.student)
            # Parameters that were views of one flat tensor get a storage of their own.
            for tensor in (*plain.parameters(), *plain.buffers()):
                tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)
                tensor.grad = None
        return plain

    def compiled(self) -> Callable[[Tensor, Architecture], Tensor]:
        """The forward pass through ``torch.compile``, as one graph where there are no breaks."""
        whole = torch.compile(self.student, dynamic=False)
        return lambda x, _arch: whole(x)

    def track_statistics(self, track: bool, function: BatchNorm | None = None) -> None:  # noqa: ARG002
        """Let training-mode forwards move the running statistics, or not."""
        for module in self.student.modules():
            if isinstance(module, _NORMS):
                module.track_running_stats = track

    def sum_in_place(self) -> None:
        """Nothing to do: no gradient here is a slice's."""

    def steps(self, arch: Architecture) -> tuple[Step, ...]:
        """Not for plain networks."""
        raise InvalidInputError(f"{arch.text!r} is one plain network and has no steps")

    def run_step(self, step: Step, x: Tensor, trace: Trace) -> Tensor:  # noqa: ARG002
        """Not for plain networks."""
        raise InvalidInputError(f"step {step.kind!r} of one plain network, which has no steps")
