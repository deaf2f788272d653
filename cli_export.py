"""The command ``scholarch export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .cli_options import Json, Plugin, Quiet, load_plugins, print_json

if TYPE_CHECKING:
    from .exporting import Exported

__all__ = ["export_command"]


def export_command(
    folder: Annotated[
        Path, typer.Argument(help="Folder of a run, or of a student that was saved.")
    ],
    out: Annotated[
        Path, typer.Option(help="File to write; with --format folder or library, a folder.")
    ],
    kind: Annotated[
        str, typer.Option("--format", help="onnx, torch-export, onnx-int8, folder or library.")
    ] = "onnx",
    data: Annotated[
        str | None,
        typer.Option(help="For onnx-int8: what it is calibrated and measured on."),
    ] = None,
    calibration: Annotated[
        int | None, typer.Option(help="For onnx-int8: training images used. [default: 512]")
    ] = None,
    plugin: Plugin = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a student as a file that runs elsewhere, compared with torch before it is written.

    Of a run that was distilled, the distilled student is taken. Latencies are of one image on
    one thread of this machine.
    """
    from .searchspace.errors import InvalidInputError

    if kind != "onnx-int8":
        for option, value in (("--data", data), ("--calibration", calibration)):
            if value is not None:
                raise InvalidInputError(f"{option} {value} is for --format onnx-int8, not {kind}")
    load_plugins(plugin)
    from .exporting import export_student
    from .search.shipping.int8 import CALIBRATION

    images = CALIBRATION if calibration is None else calibration
    found = export_student(folder, out, kind=kind, data=data, calibration=images)
    if as_json:
        print_json(found.to_json())
    elif not quiet:
        _show(found)


def _show(found: Exported) -> None:
    from .console import print_line
    from .search.budget import human

    print_line(
        f"{found.path}: {found.kind} of {found.student.arch.text} ({found.student.space.name}),"
        f" {human(found.bytes)}B"
    )
    if found.parity:
        sizes = ", ".join(str(size) for size in found.parity)
        print_line(
            f"against torch: max|Δ|/max|y| {max(found.parity.values()):.1e} (batches of {sizes};"
            " at most 1e-04 is let through)"
        )
    for part, of in found.accuracy.items():
        print_line(f"{part} accuracy: float32 {of['float']:.2%}, int8 {of['int8']:.2%}")
    if found.latency:
        times = ", ".join(f"{name} {ms:.3g} ms" for name, ms in found.latency.items())
        print_line(f"one image, one thread: {times}")
    for note in found.notes:
        print_line(note)
