"""What a pack tells its user: a README, a script for each tool, and a table to be filled in."""

from __future__ import annotations

import csv
import textwrap
from pathlib import Path

from .manifest import Manifest
from .tools.base import Timing, Tool, create_tool, list_tools

__all__ = ["TIMES", "script_of", "sides_of", "write_guide"]

TIMES = "times.csv"

_README = """\
Blocks and networks of space {space!r} as ONNX files, to be timed on a device.

{blocks} blocks at {shapes} input shapes and {networks} whole networks, for images of {sides}
pixels, {batch} in a call. manifest.json says what each file is. Input: x, float32, batch first.

1. Copy this folder to the device.
2. Time every file with one tool, for example by its script below. A script writes what the tool
   prints to results/<name>.txt, one file a timing; the names are in the script. What has a result
   is left out when it is run again. Other options, or another place of the tool:
   TOOL="trtexec --fp16" sh time-trtexec.sh; use the same for all files.
3. Copy results/ back, then:
   scholarch latency import <this folder> --results <this folder>/results --device NAME --out t.json

Keep the device as it is in use: the same threads, clocks and cooling, and nothing else running.
{tools}
By hand or with another tool: fill in the last column of {times}, in milliseconds, and give that
file as --results. The column may be called s or us instead; one unit for all.
"""

_TOOL = """
{name}: sh {script}
{remark}
   It runs, for example:
   {example}
   Results: results/{result}{endings}, and so on.
"""

_SCRIPT = """\
#!/bin/sh
# Times every file of this pack with {name}; what has a result already is left out.
cd "$(dirname "$0")" || exit 1
mkdir -p results
TOOL="${{TOOL:-{program}}}"

time_one() {{
    out="results/$1.txt"
    shift
    [ -s "$out" ] && return
    echo "$out"
    # $TOOL is split into words.
    if $TOOL "$@" > "$out.part" 2>&1; then
        mv "$out.part" "$out"
    else
        echo "failed, see $out.part" >&2
    fi
}}

"""

_CONVERT = """\
#!/bin/sh
# Makes the files that {name} reads of the ONNX files.
cd "$(dirname "$0")" || exit 1
"""


def script_of(tool: str) -> str:
    """Name of a tool's script in a pack."""
    return f"time-{tool}.sh"


def write_guide(manifest: Manifest, folder: Path) -> None:
    """Write README.txt, times.csv and a script for each registered tool."""
    tools = [create_tool(name) for name in list_tools()]
    for tool in tools:
        lines = [f"time_one {t.name} {tool.arguments(t)}\n" for t in manifest.timings]
        text = _SCRIPT.format(name=tool.name, program=tool.program) + "".join(lines)
        (folder / script_of(tool.name)).write_text(text, encoding="utf-8")
        commands = dict.fromkeys(tool.conversion(timing) for timing in manifest.timings)
        if all(commands):
            text = _CONVERT.format(name=tool.name) + "".join(f"{line}\n" for line in commands)
            (folder / f"convert-{tool.name}.sh").write_text(text, encoding="utf-8")
    with (folder / TIMES).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", "height", "width", "ms"])
        for timing in manifest.timings:
            writer.writerow([timing.file, *sides_of(timing), ""])
    (folder / "README.txt").write_text(_readme(manifest, tools), encoding="utf-8")


def sides_of(timing: Timing) -> tuple[str, str]:
    """Height and width of a timing's input as times.csv has them; empty where it is no map."""
    side = timing.side
    return (str(side[0]), str(side[1])) if side else ("", "")


def _indented(text: str) -> str:
    return textwrap.indent(textwrap.fill(text, 95, break_on_hyphens=False), "   ")


def _readme(manifest: Manifest, tools: list[Tool]) -> str:
    example = manifest.timings[1]
    said = "".join(
        _TOOL.format(
            name=tool.name,
            script=script_of(tool.name),
            remark=_indented(tool.remark),
            example=f"{tool.program} {tool.arguments(example)} > results/{example.name}.txt",
            result=example.name,
            endings=" or ".join(tool.endings),
        )
        for tool in tools
    )
    names = [name for name in manifest.blocks.values() if name is not None]
    files = {timing.file for timing in manifest.timings if timing.name in set(names)}
    return _README.format(
        space=manifest.space["name"],
        blocks=len(files),
        shapes=len(names),
        networks=len(manifest.networks),
        sides=", ".join(f"{side} × {side}" for side in sorted(manifest.plans)),
        batch=manifest.batch,
        tools=said,
        times=TIMES,
    )
