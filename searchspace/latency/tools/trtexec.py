"""TensorRT's ``trtexec``: GPU compute time of its summary, and its JSON file of all runs."""

from __future__ import annotations

import json
import re
import statistics

from .base import NUMBER, Reading, Timing, Tool, in_ms, register_tool

__all__ = ["TrtExec"]

# `GPU Compute Time: min = … ms, max = … ms, mean = … ms, median = 3.71 ms, percentile(99%) = …`.
_LINE = re.compile(r"(?<!Total )GPU Compute Time:(.* = .*)$", re.M)
# TensorRT 7: `GPU Compute`, then a line each: `[I] median: 3.05 ms`.
_BLOCK = re.compile(r"\bGPU Compute[ \t]*$((?:\n.*?\] \w+: .*$)+)", re.M)


@register_tool("trtexec")
class TrtExec(Tool):
    """TensorRT on NVIDIA GPUs; what moving images to and from the GPU takes is left out."""

    program = "trtexec --useSpinWait --iterations=200 --avgRuns=200"
    endings = (".txt", ".json")
    remark = (
        "It ships with TensorRT and on Jetson boards (/usr/src/tensorrt/bin). Add --fp16 for half"
        " precision, to all files or to none."
    )

    def arguments(self, timing: Timing) -> str:
        shape = "x".join(map(str, timing.shape))
        shapes = f" --shapes=x:{shape}" if timing.free else ""
        return f"--onnx={timing.file}{shapes}"

    def knows(self, text: str) -> bool:
        return bool(_LINE.search(text) or _BLOCK.search(text) or _runs(text))

    def read(self, text: str) -> Reading:
        runs = _runs(text)
        if runs:
            return Reading(statistics.median(runs), statistics.fmean(runs))
        found = _LINE.search(text) or _BLOCK.search(text)
        return Reading(_said("median", found[1]), _said("mean", found[1])) if found else Reading()


def _said(statistic: str, text: str) -> float | None:
    found = re.search(rf"\b{statistic}(?: =|:) {NUMBER}[ \t]*(\w*)", text)
    return None if found is None else in_ms(found[1], found[2])


def _runs(text: str) -> list[float]:
    """Times of an ``--exportTimes`` file, in ms as their name says."""
    if not text.lstrip().startswith("["):
        return []
    try:
        data = json.loads(text)
    except json.JSONDecodeError:
        return []
    runs = [run.get("computeMs") for run in data if isinstance(run, dict)]
    return [float(ms) for ms in runs if isinstance(ms, int | float)]
