"""The processes that train together, or one that does the work of several."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor

from ..searchspace.errors import InvalidInputError

__all__ = ["PATIENCE", "World"]

PATIENCE = 1800.0
"""Seconds: longer than the first rank may take to evaluate while the others wait."""


@dataclass(frozen=True)
class World:
    """Ranks, each with its own images and its own architectures a step.

    Attributes:
        size: ranks in all.
        shards: the ranks whose part this process does.
        distributed: whether other processes do the rest.
    """

    size: int = 1
    shards: tuple[int, ...] = (0,)
    distributed: bool = False

    @staticmethod
    def emulated(size: int) -> World:
        """All ranks' parts one after the other in this process: what ``size`` would compute."""
        if size < 1:
            raise InvalidInputError(f"a world of {size} ranks; need at least 1")
        return World(size, tuple(range(size)))

    @staticmethod
    def from_environment(device: str = "cpu", *, patience: float = PATIENCE) -> World:
        """What ``torchrun`` says in the environment; without it, one process alone.

        Joins the process group: gloo on a CPU, NCCL on GPUs.

        Args:
            device: ``"cpu"`` or a GPU.
            patience: seconds after which a process that waits for the others gives up. One
                that dies is noticed at once; this is for one that hangs.

        Raises:
            InvalidInputError: if what the environment says is incomplete.
        """
        said = os.environ.get("WORLD_SIZE", "1")
        if not said.isdecimal() or int(said) < 1:
            raise InvalidInputError(f"WORLD_SIZE = {said!r}; start with torchrun, or unset it")
        size = int(said)
        if size == 1:
            return World()
        if not torch.distributed.is_initialized():
            backend = "nccl" if device.startswith("cuda") else "gloo"
            try:
                torch.distributed.init_process_group(backend, timeout=timedelta(seconds=patience))
            except ValueError as error:
                raise InvalidInputError(
                    f"WORLD_SIZE = {size}, but {' '.join(str(error).split())}; start with"
                    " torchrun, or unset WORLD_SIZE"
                ) from error
        return World(size, (torch.distributed.get_rank(),), distributed=True)

    @property
    def leads(self) -> bool:
        """Whether this process writes files and prints."""
        return 0 in self.shards

    def mean(self, *tensors: Tensor) -> None:
        """Replace sums over this process's shards by means over all ranks, in place.

        One all-reduce of one flat tensor, however many there are.
        """
        if self.size == 1:
            return
        if self.distributed:
            flat = torch.cat([t.reshape(-1) for t in tensors])
            torch.distributed.all_reduce(flat)
            flat /= self.size
            at = 0
            for tensor in tensors:
                tensor.copy_(flat[at : at + tensor.numel()].view(tensor.shape))
                at += tensor.numel()
        else:
            for tensor in tensors:
                tensor /= self.size

    def agrees(self, wish: bool) -> bool:
        """Whether any rank has a wish; every rank asks at the same step and hears the same."""
        if not self.distributed:
            return wish
        told = torch.tensor([float(wish)], device=_device())
        torch.distributed.all_reduce(told)
        return bool(told.item())

    def first(self, values: Sequence[float]) -> list[float]:
        """The first rank's values, on every rank; the others' are only counted."""
        if not self.distributed:
            return list(values)
        told = torch.tensor(values, dtype=torch.float64, device=_device())
        torch.distributed.broadcast(told, src=0)
        return [float(value) for value in told.tolist()]

    def barrier(self) -> None:
        """Wait for the other processes."""
        if self.distributed:
            torch.distributed.barrier()


def _device() -> str:
    """Where what is told has to lie."""
    return "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
