"""Results of a device's own tools: their formats, their units, and what is refused."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scholarch.searchspace import create_space
from scholarch.searchspace.errors import InvalidInputError, UnknownNameError
from scholarch.searchspace.latency.importing import import_results
from scholarch.searchspace.latency.load import load_table
from scholarch.searchspace.latency.manifest import Manifest, read_manifest
from scholarch.searchspace.latency.table import BlockTable
from scholarch.searchspace.latency.tools.base import (
    Reading,
    Timing,
    create_tool,
    in_ms,
    list_tools,
    tool_of,
)

OUTPUT = Path(__file__).parent / "tool_output"

#: What each real output says, in ms: median and mean.
SAID = {
    "onnxruntime_perf_test.txt": (2.51275, 2.57436),
    "onnxruntime_perf_test-old.txt": (58.7108, 58.8053),
    "onnxruntime_perf_test-runs.csv": (84.5, 84.2),
    "onnxruntime_perf_test-runs-new.csv": (2.5, 2.5),
    "benchmark_model.txt": (2.512, 2.57436),
    "benchmark_model-2019.txt": (None, 1240.27),
    "benchmark_app.txt": (10.45, 10.62),
    "benchmark_app-us.txt": (0.01853, 0.01975),
    "benchmark_app-2021.txt": (1.25, None),
    "benchmark_app-report.csv": (0.07, None),
    "benchmark_app-report-c++.csv": (10.45, 10.62),
    "benchmark_app-report.json": (0.08, None),
    "benchmark_app-report-c++.json": (10.45, 10.62),
    "trtexec.txt": (7.14139, 7.58404),
    "trtexec-7.txt": (1.56079, 1.56472),
    "trtexec-times.json": (0.512, 0.545333),
}


def text_of(name: str) -> str:
    return (OUTPUT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "said"), SAID.items())
def test_each_format_of_each_tool(name: str, said: tuple[float | None, float | None]) -> None:
    tool = tool_of(text_of(name), name)
    assert tool.name == name.split("-")[0].split(".")[0]
    reading = tool.read(text_of(name))
    for found, expected in zip((reading.median, reading.mean), said, strict=True):
        assert found == (None if expected is None else pytest.approx(expected, rel=1e-5))


def test_every_output_is_tested() -> None:
    assert SAID.keys() == {path.name for path in OUTPUT.iterdir()}
    assert {tool.split("-")[0].split(".")[0] for tool in SAID} == set(list_tools())


@pytest.mark.parametrize("name", list_tools())
def test_what_is_of_no_tool_is_not_known(name: str) -> None:
    tool = create_tool(name)
    for text in ("", "{}", "[]", '{"execution_results": 3}', "[{}]", "{", "[", "hello\n1,2,3\n"):
        assert not tool.knows(text)
    # A log that ends before its summary.
    assert not any(tool.knows(text_of(f"{name}.txt")[:n]) for n in (50, 100))


def test_a_text_of_no_tool_names_the_tools() -> None:
    with pytest.raises(InvalidInputError, match=r"a\.txt is of no tool known; tools are bench"):
        tool_of("hello", "a.txt")
    both = text_of("trtexec.txt") + text_of("benchmark_app.txt")
    with pytest.raises(InvalidInputError, match="might be of benchmark_app or trtexec: say which"):
        tool_of(both, "a.txt")


def test_units() -> None:
    assert in_ms("2", "s") == 2000.0
    assert in_ms("2e3", "us") == 2.0
    assert in_ms("5", "ns") == pytest.approx(5e-6)
    with pytest.raises(InvalidInputError, match=r"a time of 3 in no unit; need one of s, "):
        in_ms("3", "")
    with pytest.raises(InvalidInputError, match="in fortnights"):
        in_ms("3", "fortnights")
    with pytest.raises(InvalidInputError, match="need a number"):
        in_ms("fast", "ms")


def test_arguments_name_file_and_shape() -> None:
    free = Timing("b1-8x8", "blocks/b1.onnx", (2, 3, 8, 8), free=True)
    fixed = Timing("n0", "networks/n0.onnx", (2, 3, 8, 8))
    said = {name: create_tool(name).arguments(free) for name in list_tools()}
    assert said == {
        "benchmark_app": '-m blocks/b1.onnx -shape "x[2,3,8,8]"',
        "benchmark_model": "--graph=tflite/b1-8x8/b1_float32.tflite",
        "onnxruntime_perf_test": "-f side:8 blocks/b1.onnx",
        "trtexec": "--onnx=blocks/b1.onnx --shapes=x:2x3x8x8",
    }
    assert create_tool("trtexec").arguments(fixed) == "--onnx=networks/n0.onnx"
    assert create_tool("onnxruntime_perf_test").arguments(fixed) == "networks/n0.onnx"
    assert create_tool("benchmark_model").conversion(free) == (
        "onnx2tf -i blocks/b1.onnx -ois x:2,3,8,8 -o tflite/b1-8x8"
    )


# ---------------------------------------------------------------------- from a pack to a table

SIDES = (16, 24)
CALL = 0.01
OVERHEAD = {16: (0.3, 1.1), 24: (0.2, 1.2)}


@pytest.fixture(scope="module")
def folder(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(packed, tmp_path_factory.mktemp("pack") / "copy"))


@pytest.fixture(scope="module")
def manifest(folder: Path) -> Manifest:
    return read_manifest(folder)


@pytest.fixture(scope="module")
def times(manifest: Manifest) -> dict[str, float]:
    """A device on which blocks take some time, and networks an overhead and a share more."""
    found = {manifest.call: CALL}
    for i, name in enumerate(manifest.blocks.values()):
        assert name is not None
        found[name] = CALL + 0.05 * (i + 1)
    for network in manifest.networks:
        plan = manifest.plans[network.resolution]
        ms = np.array([found[manifest.blocks[b.key] or ""] - CALL for b in plan.blocks])
        extra, scale = OVERHEAD[network.resolution]
        total = plan.total(ms, np.array([network.row]))[0]
        found[network.timing] = float(extra + scale * total)
    assert found.keys() == {timing.name for timing in manifest.timings}
    return found


def expected(times: dict[str, float], manifest: Manifest, side: int) -> np.ndarray:
    space = create_space("resnet-cifar-s0", resolution=side)
    plan = manifest.plans[side]
    ms = np.array([times[manifest.blocks[b.key] or ""] - CALL for b in plan.blocks])
    extra, scale = OVERHEAD[side]
    return extra + scale * plan.total(ms, space.enumerate_matrix())


#: Writes a time as a tool does.
WRITERS: dict[str, tuple[str, str, Callable[[float], str]]] = {
    "onnxruntime": (
        "onnxruntime_perf_test",
        "txt",
        lambda ms: f"Average inference time cost: {ms * 1.1} ms\nP50 Latency: {ms / 1e3:.12} s\n",
    ),
    "onnxruntime's runs": (
        "onnxruntime_perf_test",
        "csv",
        lambda ms: "".join(f"m,{ms / 1e3:.12},9,50,{i}\n" for i in range(3)),
    ),
    "tflite": (
        "benchmark_model",
        "txt",
        lambda ms: (
            f"INFO: count=9 first=9 avg={ms * 1e3} std=1 p5=1 median={ms * 1e3:.9} p95=9\n"
            f"INFO: Inference timings in us: Init: 9, First inference: 9, Warmup (avg): 9,"
            f" Inference (avg): {ms * 1.1e3}\n"
        ),
    ),
    "openvino": (
        "benchmark_app",
        "txt",
        lambda ms: (
            f"[ INFO ]    Median:        {ms * 1e3 if ms < 1 else ms:.9f}"
            f" {'us' if ms < 1 else 'ms'}\n[ INFO ]    Average:  9.00 ms\n"
        ),
    ),
    "openvino's report": (
        "benchmark_app",
        "json",
        lambda ms: json.dumps({"execution_results": {"latency (ms)": str(ms)}}),
    ),
    "trtexec": (
        "trtexec",
        "txt",
        lambda ms: (
            f"[1] [I] Latency: min = 9 ms, max = 9 ms, mean = 9 ms, median = 9 ms\n"
            f"[1] [I] GPU Compute Time: min = 0 ms, max = 9 ms, mean = 9 ms, median = {ms} ms\n"
            f"[1] [I] Total GPU Compute Time: 9 s\n"
        ),
    ),
    "trtexec's times": (
        "trtexec",
        "json",
        lambda ms: json.dumps([{"computeMs": ms * f, "latencyMs": 9.0} for f in (0.9, 1.0, 7.0)]),
    ),
}


def write(
    folder: Path, times: dict[str, float], text_of: Callable[[float], str], ending: str = "txt"
) -> Path:
    folder.mkdir(exist_ok=True)
    for name, ms in times.items():
        (folder / f"{name}.{ending}").write_text(text_of(ms), encoding="utf-8")
    return folder


@pytest.mark.parametrize("writer", WRITERS)
def test_from_results_to_predictions(
    writer: str, folder: Path, manifest: Manifest, times: dict[str, float], tmp_path: Path
) -> None:
    tool, ending, write_time = WRITERS[writer]
    results = write(tmp_path / "results", times, write_time, ending)
    table = import_results(folder, results, device="board")
    assert table.device == "board"
    assert table.setting["runtime"] == tool
    assert table.setting["statistic"] == "median"
    assert table.setting["batch"] == 1
    assert table.setting["call_ms"] == pytest.approx(CALL)
    file = tmp_path / "board.json"
    file.write_text(table.dumps(), encoding="utf-8")
    for side in SIDES:
        space = create_space("resnet-cifar-s0", resolution=side)
        loaded = load_table(file, space)
        found = loaded.latency(space, space.enumerate_matrix())
        assert found == pytest.approx(expected(times, manifest, side), rel=1e-4)
        assert loaded.fingerprint == table.fingerprint


def test_resolutions_between_are_interpolated(
    folder: Path, times: dict[str, float], tmp_path: Path
) -> None:
    results = write(tmp_path / "results", times, WRITERS["trtexec"][2])
    table = import_results(folder, results, device="board")
    rows = create_space("resnet-cifar-s0").enumerate_matrix()
    low, middle, high = (
        table.latency(create_space("resnet-cifar-s0", resolution=side), rows)
        for side in (16, 20, 24)
    )
    assert (np.minimum(low, high) <= middle).all()
    assert (middle <= np.maximum(low, high)).all()
    with pytest.raises(InvalidInputError, match="lacks"):
        table.latency(create_space("resnet-cifar-s0", resolution=32), rows)


def fill(folder: Path, file: Path, times: dict[str, float], unit: str, factor: float) -> None:
    """The pack's own times.csv with its last column filled in."""
    with (folder / "times.csv").open(encoding="utf-8") as source:
        lines = list(csv.reader(source))
    lines[0][3] = unit
    for line, ms in zip(lines[1:], times.values(), strict=True):
        line[3] = repr(ms * factor)
    with file.open("w", encoding="utf-8", newline="") as target:
        csv.writer(target).writerows(lines)


@pytest.mark.parametrize(("unit", "factor"), [("ms", 1.0), ("us", 1e3), ("s", 1e-3)])
def test_times_by_hand(
    unit: str,
    factor: float,
    folder: Path,
    manifest: Manifest,
    times: dict[str, float],
    tmp_path: Path,
) -> None:
    file = tmp_path / "times.csv"
    in_order = {timing.name: times[timing.name] for timing in manifest.timings}
    fill(folder, file, in_order, unit, factor)
    table = import_results(folder, file, device="board")
    assert table.setting["runtime"] == "by hand"
    space = create_space("resnet-cifar-s0", resolution=16)
    found = table.latency(space, space.enumerate_matrix())
    assert found == pytest.approx(expected(times, manifest, 16), rel=1e-6)


def test_the_mean_where_there_is_no_median(
    folder: Path, times: dict[str, float], tmp_path: Path
) -> None:
    both = WRITERS["onnxruntime"][2]
    results = write(tmp_path / "results", times, both)
    asked = import_results(folder, results, device="board", statistic="mean")
    assert asked.setting["statistic"] == "mean"
    assert asked.setting["call_ms"] == pytest.approx(1.1 * CALL)
    name = next(iter(times))
    (results / f"{name}.txt").write_text("Average inference time cost: 0.011 ms\n")
    fallen_back = import_results(folder, results, device="board")
    assert fallen_back.setting["statistic"] == "mean"
    for key, block in asked.blocks.items():
        assert fallen_back.blocks[key].ms == pytest.approx(block.ms)


def test_a_block_faster_than_a_call_takes_no_time(
    folder: Path, manifest: Manifest, times: dict[str, float], tmp_path: Path
) -> None:
    key, name = next(iter(manifest.blocks.items()))
    assert name is not None
    results = write(tmp_path / "r", {**times, name: CALL / 2}, WRITERS["trtexec"][2])
    assert import_results(folder, results, device="board").blocks[key].ms == 0.0


# ---------------------------------------------------------------------- refusals


@pytest.fixture
def results(times: dict[str, float], tmp_path: Path) -> Path:
    return write(tmp_path / "results", times, WRITERS["openvino"][2])


def refused(folder: Path, results: Path, said: str, **options: str) -> None:
    with pytest.raises(InvalidInputError, match=said) as caught:
        import_results(folder, results, device="board", **options)
    assert "\n" not in str(caught.value)


def test_missing_results_are_named_and_how_to_add_just_those(
    folder: Path, manifest: Manifest, results: Path
) -> None:
    block, network = manifest.timings[1], manifest.timings[-1]
    for timing in (block, network):
        (results / f"{timing.name}.txt").unlink()
    (results / f"{block.name}.txt.part").write_text("cut short")  # left by a script
    said = (
        f"lacks 2 of {len(manifest.timings)} results: {block.name} \\({block.file} on"
        f" {'x'.join(map(str, block.shape))}\\), {network.name} .*; sh time-benchmark_app.sh times"
        " just those, then import again"
    )
    refused(folder, results, said)
    (results / f"{block.name}.txt").write_text(WRITERS["openvino"][2](0.1))
    (results / f"{network.name}.txt").write_text(WRITERS["openvino"][2](1.0))
    assert isinstance(import_results(folder, results, device="board"), BlockTable)


def test_many_missing_results_are_not_all_named(folder: Path, results: Path) -> None:
    for path in sorted(results.iterdir())[1:]:
        path.unlink()
    refused(folder, results, r"\) and \d+ more; sh ")
    for path in results.iterdir():
        path.unlink()
    refused(folder, results, "holds no results")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (WRITERS["openvino"][2](math.nan).replace(" ms", " us"), r"call\.txt: a call takes nan"),
        ("[ INFO ]    Median:   -1.5 ms\n", r"call\.txt: a call takes -1\.5"),
        ("[ INFO ]    Median:   inf ms\n", r"call\.txt: a call takes inf"),
        ("[ INFO ]    Median:   1.5\n", r"call\.txt: a time of 1\.5 in no unit"),
        ("[ INFO ]    Median:   1.5 parsecs\n", r"in parsecs; need one of"),
        ("[ INFO ] First inf", r"call\.txt holds no time of benchmark_app"),
        ("", r"call\.txt holds no time of benchmark_app"),
        (WRITERS["tflite"][2](1.0), r"holds no time of benchmark_app"),
        ("[ INFO ]    Average:  1.5 ms\n", "some results in .* tell the median alone"),
    ],
)
def test_a_bad_result_is_refused_by_name(folder: Path, results: Path, text: str, said: str) -> None:
    for path in results.iterdir():
        path.write_text(path.read_text().partition("[ INFO ]    Average")[0], encoding="utf-8")
    (results / "call.txt").write_text(text, encoding="utf-8")
    refused(folder, results, said)
    refused(folder, results, said, tool="benchmark_app")


def test_results_of_no_tool_are_refused(folder: Path, results: Path) -> None:
    for path in results.iterdir():
        path.write_text("segmentation fault\n", encoding="utf-8")
    refused(folder, results, r"results/.*\.txt is of no tool known; tools are benchmark_app, ")
    refused(folder, results, "holds no time of trtexec", tool="trtexec")


def test_results_of_other_files_are_refused(folder: Path, results: Path) -> None:
    stray = results / "resnet50.txt"
    stray.write_text("x")
    refused(folder, results, r"resnet50\.txt is the result of no file of this pack")
    stray.rename(results / "call.json")
    refused(folder, results, r"call\.(txt|json) and .*call\.(txt|json) are results of one file")


def test_mixed_units_are_refused(
    folder: Path, manifest: Manifest, times: dict[str, float], tmp_path: Path
) -> None:
    in_order = {timing.name: times[timing.name] for timing in manifest.timings}
    network = manifest.networks[0].timing
    file = tmp_path / "times.csv"
    fill(folder, file, {**in_order, network: in_order[network] * 1e3}, "ms", 1.0)
    refused(folder, file, f"network {network} takes .* some results are in another unit")
    block = manifest.timings[2].name
    fill(folder, file, {**in_order, block: in_order[block] * 1e3}, "ms", 1.0)
    refused(folder, file, "some results are in another unit")


def test_csv_files_that_cannot_be_read_are_refused(
    folder: Path, manifest: Manifest, times: dict[str, float], tmp_path: Path
) -> None:
    in_order = {timing.name: times[timing.name] for timing in manifest.timings}
    file = tmp_path / "times.csv"
    fill(folder, file, in_order, "ms", 1.0)
    good = file.read_text(encoding="utf-8")
    first = good.splitlines()[1]
    for text, said in (
        (good.replace(",ms", ",latency", 1), "need file, height, width and one of ms, us, s"),
        (good.replace(",ms", ",ms,us", 1), "need file, height, width and one of ms, us, s"),
        ("", "has columns none"),
        (good + first + "\n", f"line {len(in_order) + 2}: blocks/call.onnx at this shape stands"),
        (good.replace(first, "other.onnx,1,1,3"), "line 2: 'other.onnx 1 1' is no file and shape"),
        (good.replace(first, first.rpartition(",")[0] + ",fast"), "line 2: .*'fast' ms; need a nu"),
        (good.replace(first, first.rpartition(",")[0] + ",nan"), "line 2: a call takes nan"),
        (good.replace(first, first.rpartition(",")[0] + ",-1"), "line 2: a call takes -1.0"),
        (good.replace(first, first.rpartition(",")[0] + ","), "call .*time those and fill in"),
        (good[: len(good) // 2], r"lacks \d+ of"),
    ):
        file.write_text(text, encoding="utf-8")
        refused(folder, file, said)


def test_other_refusals(folder: Path, results: Path, tmp_path: Path) -> None:
    refused(folder, tmp_path / "none", "there are no results at")
    refused(tmp_path, results, "is no pack")
    refused(folder, results, "statistic 'best'; choose median or mean", statistic="best")
    with pytest.raises(UnknownNameError, match="did you mean trtexec"):
        import_results(folder, results, device="board", tool="trtexe")


def test_a_reading_without_times_is_none() -> None:
    assert Reading() == Reading(None, None)
