"""PyTorch as it is, eager: on a CPU, or on a GPU with events between the blocks."""

from __future__ import annotations

import platform
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import InvalidInputError
from ..cut import Chunk, plain_input
from .base import Loaded, Milliseconds, Runtime, register_runtime, undisturbed

__all__ = ["TorchLoaded", "TorchRuntime", "prepared"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@register_runtime("torch")
class TorchRuntime(Runtime):
    """PyTorch, eager, under ``torch.inference_mode``."""

    def check(self) -> None:
        if self.setting.accelerator == "cuda" and not torch.cuda.is_available():
            raise InvalidInputError("accelerator 'cuda': torch sees no GPU here; choose cpu")

    def versions(self) -> dict[str, str]:
        found = {"torch": torch.__version__, "python": platform.python_version()}
        if self.setting.accelerator == "cuda":
            found["gpu"] = torch.cuda.get_device_name()
        return found

    def load(self, network: nn.Module, chunks: list[Chunk], image: tuple[int, int, int]) -> Loaded:
        to: Any = {"device": self.setting.accelerator, "dtype": DTYPES[self.setting.dtype]}
        images = prepared(self.setting.batch, image, **to)
        return TorchLoaded(network.eval().to(**to), chunks, images, self.setting.threads)


def prepared(batch: int, image: tuple[int, int, int], device: str, dtype: torch.dtype) -> Tensor:
    """A network's input on its device; the bytes of a word or sample are not rounded."""
    x = plain_input(batch, image).to(device)
    return x if image[:2] == (2, 1) else x.to(dtype)


class TorchLoaded(Loaded):
    """A module with its input.

    Args:
        network: on its device.
        chunks: its blocks; the modules are the network's own.
        images: its input.
        threads: for the message of a failure.
        call: what runs the network; default the network.
    """

    def __init__(
        self,
        network: nn.Module,
        chunks: list[Chunk],
        images: Tensor,
        threads: int,
        call: Callable[[Tensor], Any] | None = None,
    ) -> None:
        self.network = network
        self.chunks = chunks
        self.images = images
        self.threads = threads
        self.call = call or network
        self.cuda = images.device.type == "cuda"

    def whole(self, repeats: int) -> Milliseconds:
        def once() -> float:
            self._wait()
            begin = perf_counter_ns()
            self.call(self.images)
            self._wait()
            return (perf_counter_ns() - begin) / 1e6

        with torch.inference_mode():
            once()
            return np.array(undisturbed(once, repeats))

    def parts(self, repeats: int) -> Milliseconds:
        marks: list[Any] = []
        stamp = self._event if self.cuda else perf_counter_ns
        calls: dict[int, int] = {}
        hooks = []
        # A module may stand in two blocks, as an activation does: which call it is tells.
        begins = {_end(chunk, 0): k for k, chunk in enumerate(self.chunks)}
        ends = {_end(chunk, -1): k for k, chunk in enumerate(self.chunks)}

        def before(module: nn.Module, _args: object) -> None:
            calls[id(module)] = calls.get(id(module), 0) + 1
            k = begins.get((id(module), calls[id(module)]))
            if k is not None:
                marks.append((k, 0, stamp()))

        def after(module: nn.Module, _args: object, _out: object) -> None:
            k = ends.get((id(module), calls[id(module)]))
            if k is not None:
                marks.append((k, 1, stamp()))

        edges = {id(m): m for c in self.chunks for m in (c.modules[0], c.modules[-1])}
        for module in edges.values():
            hooks.append(module.register_forward_pre_hook(before))
            hooks.append(module.register_forward_hook(after))

        def once() -> Milliseconds:
            marks.clear()
            calls.clear()
            self.network(self.images)
            self._wait()
            return self._durations(marks)

        try:
            with torch.inference_mode():
                once()
                return np.stack(undisturbed(once, repeats))
        finally:
            for hook in hooks:
                hook.remove()

    def _durations(self, marks: list[Any]) -> Milliseconds:
        begins = {k: at for k, end, at in marks if not end}
        found = np.zeros(len(self.chunks))
        for k, end, at in marks:
            if end:
                since = begins[k]
                found[k] = since.elapsed_time(at) if self.cuda else (at - since) / 1e6
        return found

    def _wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def _event(self) -> Any:
        event: Any = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def _end(chunk: Chunk, side: int) -> tuple[int, int]:
    return id(chunk.modules[side]), chunk.calls[side]
