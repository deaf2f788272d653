"""TensorFlow Lite's (LiteRT's) ``benchmark_model``: its summary, in microseconds."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from .base import NUMBER, Reading, Timing, Tool, in_ms, register_tool

__all__ = ["BenchmarkModel"]

# `Inference timings in us: Init: 855, …, Inference (avg): 33209.4`; old releases say
# `Average inference timings in us: Warmup: …, Init: …, no stats: 66767.6`.
_MEAN = re.compile(
    rf"[Ii]nference timings in (\w+):.*?(?:Inference \(avg\)|no stats): {NUMBER}", re.M
)
# `count=50 first=… avg=… std=… p5=… median=1239807 p95=…`, once for warming up, once for the runs.
_MEDIAN = re.compile(rf"\bcount=\d+ .*?\bmedian={NUMBER}")


@register_tool("benchmark_model")
class BenchmarkModel(Tool):
    """TensorFlow Lite on a phone or a board; only recent releases tell the median."""

    program = "benchmark_model --num_threads=1 --num_runs=200"
    remark = (
        "It reads no ONNX: run convert-benchmark_model.sh first, on a machine with Python, which"
        " calls onnx2tf (pip install onnx2tf); then copy the folder to the device. For a phone:"
        ' TOOL="adb shell /data/local/tmp/benchmark_model --num_threads=1 --num_runs=200".'
    )

    def conversion(self, timing: Timing) -> str:
        shape = ",".join(map(str, timing.shape))
        return f"onnx2tf -i {timing.file} -ois x:{shape} -o tflite/{timing.name}"

    def arguments(self, timing: Timing) -> str:
        stem = PurePosixPath(timing.file).stem
        return f"--graph=tflite/{timing.name}/{stem}_float32.tflite"

    def knows(self, text: str) -> bool:
        return _MEAN.search(text) is not None

    def read(self, text: str) -> Reading:
        found = _MEAN.search(text)
        if found is None:
            return Reading()
        # The other line is of the same clock, and says no unit.
        medians = _MEDIAN.findall(text)
        return Reading(in_ms(medians[-1], found[1]) if medians else None, in_ms(found[2], found[1]))
