"""OpenVINO's ``benchmark_app``, Python and C++: its summary, and its CSV and JSON reports."""

from __future__ import annotations

import json
import re

from .base import NUMBER, Reading, Timing, Tool, in_ms, register_tool

__all__ = ["BenchmarkApp"]

# `[ INFO ]    Median:        10.45 ms`, in new releases us where it is short; in 2021 the median
# was the only one: `Latency:    1.25 ms`.
_MEDIAN = re.compile(rf"^(?:\[ INFO \])?\s*(?:Median|Latency):\s+{NUMBER}[ \t]*(\w*)", re.M)
_MEAN = re.compile(rf"^(?:\[ INFO \])?\s*(?:Average|AVG):\s+{NUMBER}[ \t]*(\w*)", re.M)
# benchmark_report.csv: `Median latency (ms);10.45`, in Python `latency (ms);10.45`. Python's
# `avg latency` says no unit.
_CSV_MEDIAN = re.compile(rf"^(?:Median )?latency \((\w+)\);\s*{NUMBER}", re.M)
_CSV_MEAN = re.compile(rf"^Average latency \((\w+)\);\s*{NUMBER}", re.M)


@register_tool("benchmark_app")
class BenchmarkApp(Tool):
    """OpenVINO on CPUs, GPUs and NPUs of Intel."""

    program = "benchmark_app -api sync -hint none -nstreams 1 -nthreads 1 -niter 200"
    endings = (".txt", ".csv", ".json")
    remark = (
        "pip install openvino. -nthreads is the number of threads; for a GPU:"
        ' TOOL="benchmark_app -d GPU -api sync -hint latency -niter 200". What it prints is finer'
        " than its reports, which round to 0.01 ms."
    )

    def arguments(self, timing: Timing) -> str:
        shape = ",".join(map(str, timing.shape))
        return f'-m {timing.file} -shape "x[{shape}]"' if timing.free else f"-m {timing.file}"

    def knows(self, text: str) -> bool:
        patterns = (_CSV_MEDIAN, _CSV_MEAN, _MEDIAN, _MEAN)
        said = {"latency (ms)", "Median latency (ms)", "latency_median", "latency_avg"}
        return any(p.search(text) for p in patterns) or bool(said & _results(text).keys())

    def read(self, text: str) -> Reading:
        results = _results(text)
        if results:
            return _of_report(results)
        csv_median, csv_mean = _CSV_MEDIAN.search(text), _CSV_MEAN.search(text)
        if csv_median is not None or csv_mean is not None:
            return Reading(
                None if csv_median is None else in_ms(csv_median[2], csv_median[1]),
                None if csv_mean is None else in_ms(csv_mean[2], csv_mean[1]),
            )
        median, mean = _MEDIAN.search(text), _MEAN.search(text)
        return Reading(
            None if median is None else in_ms(median[1], median[2]),
            None if mean is None else in_ms(mean[1], mean[2]),
        )


def _results(text: str) -> dict[str, object]:
    """``execution_results`` of benchmark_report.json, if it is one."""
    if not text.lstrip().startswith("{"):
        return {}
    try:
        results = json.loads(text).get("execution_results")
    except json.JSONDecodeError:
        return {}
    return results if isinstance(results, dict) else {}


def _of_report(results: dict[str, object]) -> Reading:
    """Python writes the names of its CSV report; those of C++ say no unit, their twins ms."""
    median = results.get("latency (ms)", results.get("Median latency (ms)"))
    if str(results.get("percentile_boundary", 50)) == "50" and median is None:
        median = results.get("latency_median")
    mean = results.get("latency_avg")
    return Reading(
        None if median is None else in_ms(str(median), "ms"),
        None if mean is None else in_ms(str(mean), "ms"),
    )
