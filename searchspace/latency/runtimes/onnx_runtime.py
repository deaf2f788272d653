"""ONNX Runtime on a CPU: blocks are timed by its own profiler, kernels fused as they run."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
import torch
from torch import nn

from ...errors import InvalidInputError
from ..cut import Chunk, plain_input
from ..onnx_graph import label_blocks, to_onnx
from .base import Loaded, Milliseconds, Runtime, Setting, register_runtime, undisturbed

__all__ = ["OnnxRuntime"]

#: ``3|name`` of a value that block 3 computes; what the optimiser makes of it keeps the start.
_MARK = "|"


@register_runtime("onnxruntime")
class OnnxRuntime(Runtime):
    """ONNX Runtime, its CPU execution provider, every graph optimisation on."""

    parts_at_once = True  # a session that profiles is opened anew

    def check(self) -> None:
        try:
            import onnxruntime  # noqa: F401
        except ImportError as error:
            raise InvalidInputError(
                "runtime 'onnxruntime' needs a package: pip install 'scholarch[onnx]'"
            ) from error
        if self.setting.accelerator != "cpu":
            raise InvalidInputError("runtime 'onnxruntime' runs on accelerator cpu only")
        if self.setting.dtype != "float32":
            raise InvalidInputError("runtime 'onnxruntime' runs dtype float32 only")

    def versions(self) -> dict[str, str]:
        import onnx
        import onnxruntime

        return {
            "onnxruntime": onnxruntime.__version__,
            "onnx": onnx.__version__,
            "torch": torch.__version__,
        }

    def load(self, network: nn.Module, chunks: list[Chunk], image: tuple[int, int, int]) -> Loaded:
        images = plain_input(self.setting.batch, image)
        model = to_onnx(network, images)
        label_blocks(model, chunks, _MARK)
        return _Session(model.SerializeToString(), images.numpy(), len(chunks), self.setting)


class _Session(Loaded):
    def __init__(self, model: bytes, images: Any, blocks: int, setting: Setting) -> None:
        self.model = model
        self.blocks = blocks
        self.setting = setting
        self.session = self._open(None)
        self.feed = {self.session.get_inputs()[0].name: images}

    def _open(self, profile: Path | None) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.setting.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile)
        return onnxruntime.InferenceSession(self.model, options, providers=["CPUExecutionProvider"])

    def whole(self, repeats: int) -> Milliseconds:
        def once() -> float:
            begin = perf_counter_ns()
            self.session.run(None, self.feed)
            return (perf_counter_ns() - begin) / 1e6

        once()
        return np.array(undisturbed(once, repeats))

    def parts(self, repeats: int) -> Milliseconds:
        with tempfile.TemporaryDirectory() as folder:
            session = self._open(Path(folder) / "profile")
            session.run(None, self.feed)
            runs = iter(range(1, 4 * repeats))

            def once() -> int:
                session.run(None, self.feed)
                return next(runs)

            kept = undisturbed(once, repeats)
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        return _by_block(events, self.blocks)[kept]


def _by_block(events: Sequence[dict[str, Any]], blocks: int) -> Milliseconds:
    """Kernels' durations summed by block, ``[runs, blocks]``, in ms.

    A kernel without a mark, which the optimiser put in to change a layout, belongs to the block
    of the kernel before it; what runs before the first block has none.
    """
    runs: list[Milliseconds] = []
    kernels = [
        event
        for event in events
        if event.get("name") == "model_run" or str(event.get("name")).endswith("_kernel_time")
    ]
    # The event of a run is written when it ends, but begins before its kernels.
    block = -1
    for event in sorted(kernels, key=lambda event: int(event["ts"])):
        if event["name"] == "model_run":
            runs.append(np.zeros(blocks))
            block = -1
            continue
        mark, found, _ = str(event["name"]).partition(_MARK)
        if found and mark.isdigit():
            block = int(mark)
        if block >= 0 and runs:
            runs[-1][block] += event["dur"] / 1e3
    return np.stack(runs) if runs else np.zeros((0, blocks))
