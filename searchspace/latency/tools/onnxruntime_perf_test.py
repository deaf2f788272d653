"""ONNX Runtime's ``onnxruntime_perf_test``: its summary, and the CSV file of its runs."""

from __future__ import annotations

import re
import statistics

from ...errors import InvalidInputError
from .base import NUMBER, Reading, Timing, Tool, in_ms, register_tool

__all__ = ["OnnxRuntimePerfTest"]

# `P50 Latency: 0.0587 s`; old releases say `P50 Latency is 0.0587 sec`.
_MEDIAN = re.compile(rf"^P50 Latency(?:\s+is|:)\s*{NUMBER}[ \t]*(\w*)", re.M)
_MEAN = re.compile(rf"^Average (?:inference )?time cost:\s*{NUMBER}[ \t]*(\w*)", re.M)
# Model, seconds (in new releases twice: until submitted, until done), peak bytes, CPU %, run.
_RUN = re.compile(rf"^[^,\n]*,(?:{NUMBER},)?{NUMBER},\d+,\d+,(\d+)$", re.M)


@register_tool("onnxruntime_perf_test")
class OnnxRuntimePerfTest(Tool):
    """ONNX Runtime on any of its execution providers."""

    program = "onnxruntime_perf_test -I -s -m times -r 200 -x 1"
    endings = (".txt", ".csv")
    remark = (
        "It ships with ONNX Runtime's sources (onnxruntime/test/perftest). -x is the number of"
        " threads, -r of runs, -e an execution provider."
    )

    def arguments(self, timing: Timing) -> str:
        side = timing.side
        # One -f is all that it takes, so both sides are called the same.
        free = f"-f side:{side[0]} " if timing.free and side else ""
        return f"{free}{timing.file}"

    def knows(self, text: str) -> bool:
        return bool(_MEAN.search(text) or _MEDIAN.search(text) or _runs(text))

    def read(self, text: str) -> Reading:
        median, mean = _MEDIAN.search(text), _MEAN.search(text)
        if median is None and mean is None:
            runs = _runs(text)
            return Reading(statistics.median(runs), statistics.fmean(runs))
        return Reading(
            None if median is None else in_ms(median[1], median[2]),
            None if mean is None else in_ms(mean[1], mean[2]),
        )


def _runs(text: str) -> list[float]:
    """Times in its file of runs, which are seconds, in ms.

    Raises:
        InvalidInputError: if the runs do not count from 0: two measurements, or a cut one.
    """
    found = _RUN.findall(text)
    if [int(run) for _, _, run in found] != list(range(len(found))):
        raise InvalidInputError(
            "the runs do not count 0, 1, …: the file was cut short, or two were put in one; it is"
            " added to, not written anew: delete it and time again"
        )
    return [in_ms(seconds, "s") for _, seconds, _ in found]
