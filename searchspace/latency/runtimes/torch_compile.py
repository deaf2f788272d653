"""PyTorch compiled: whole networks by ``torch.compile``, blocks compiled one by one."""

from __future__ import annotations

import torch
from torch import nn

from ..cut import Chunk
from .base import Loaded, Milliseconds, register_runtime
from .torch_eager import DTYPES, TorchLoaded, TorchRuntime, prepared

__all__ = ["TorchCompileRuntime"]

#: Blocks share their code and differ in sizes; torch gives up after 8 by default.
_RECOMPILES = 4096


@register_runtime("torch-compile")
class TorchCompileRuntime(TorchRuntime):
    """PyTorch, compiled by Inductor.

    A compiled network cannot be cut, so blocks are compiled one by one and timed inside the
    network that is made of them; what fusing them with each other saves is left to the overhead
    that is fitted on whole networks. Compiling takes seconds a network.
    """

    def load(self, network: nn.Module, chunks: list[Chunk], image: tuple[int, int, int]) -> Loaded:
        torch._dynamo.config.recompile_limit = _RECOMPILES
        torch._dynamo.config.accumulated_recompile_limit = _RECOMPILES
        device, dtype = self.setting.accelerator, DTYPES[self.setting.dtype]
        network = network.eval().to(device=device, dtype=dtype)
        images = prepared(self.setting.batch, image, device, dtype)
        whole = torch.compile(network, dynamic=False)
        with torch.inference_mode():
            whole(images)
        return _Compiled(network, chunks, images, self.setting.threads, whole)


class _Compiled(TorchLoaded):
    """Blocks are compiled when their times are first asked for."""

    def parts(self, repeats: int) -> Milliseconds:
        for chunk in self.chunks:
            for module in chunk.modules:
                if module._compiled_call_impl is None:
                    module.compile(dynamic=False)
        return super().parts(repeats)
