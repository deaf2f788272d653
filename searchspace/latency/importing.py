"""A block table from what a device's own tool said of a pack's files."""

from __future__ import annotations

import csv
import datetime
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import InvalidInputError
from .build import fit_overhead
from .checks import milliseconds
from .guide import script_of, sides_of
from .manifest import Manifest, read_manifest
from .table import BlockTable, BlockTime, Overhead, WholeTime, fingerprint_of
from .tools.base import Reading, Timing, Tool, create_tool, in_ms, tool_of

__all__ = ["STATISTICS", "import_results"]

STATISTICS = ("median", "mean")

#: Columns of a CSV file that state their unit.
_UNITS = ("ms", "us", "s")
#: Whole networks take their blocks' time, give or take this factor, in one unit.
_ODD = 20.0
_NAMED = 5

Times = dict[str, float]
"""Name of a timing → ms."""


def import_results(
    pack_folder: Path,
    results: Path,
    *,
    device: str,
    tool: str | None = None,
    statistic: str = "median",
) -> BlockTable:
    """Make a table of what was measured on a device.

    What a call costs beside its work, timed on a graph that does almost nothing, is taken off
    every block; what is left of it is fitted on the whole networks.

    Args:
        pack_folder: that :func:`~.pack.pack` wrote.
        results: folder with a file for each timing, or a CSV file with columns ``file``,
            ``height``, ``width`` and one of ``ms``, ``us`` and ``s``.
        device: what it is called.
        tool: that wrote the results; default found out by their content.
        statistic: ``"median"`` or ``"mean"`` of the tool's runs. Where the tool does not tell
            the median, the mean is taken; the table's setting says which.

    Raises:
        InvalidInputError: if a result is missing (names which files to time), is of another
            file or tool, has no unit, is no number or below 0, or is in another unit than the
            rest.
    """
    if statistic not in STATISTICS:
        raise InvalidInputError(f"statistic {statistic!r}; choose {' or '.join(STATISTICS)}")
    manifest = read_manifest(pack_folder)
    if results.is_dir():
        readings, tool = _read_folder(manifest, results, tool)
        _refuse_missing(manifest, readings, f"{results}", f"sh {script_of(tool)} times just those")
        times, statistic = _choose(readings, statistic, results)
    elif results.is_file():
        times = _read_csv(manifest, results)
        _refuse_missing(manifest, times, f"{results}", "time those and fill in their lines")
        tool, statistic = tool or "by hand", "as given"
    else:
        raise InvalidInputError(
            f"there are no results at {results}; give the folder with the tool's files, or a CSV"
            " file"
        )
    return _table(manifest, times, device, tool, statistic, str(results))


# ---------------------------------------------------------------------- reading


def _read_folder(
    manifest: Manifest, folder: Path, tool: str | None
) -> tuple[dict[str, Reading], str]:
    """What each result in a folder says, and the tool that all of them are of."""
    texts: dict[Path, str] = {}
    for path in _results_in(manifest, folder):
        try:
            texts[path] = path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise InvalidInputError(f"cannot read {path}: {error.strerror or error}") from error
    reader = create_tool(tool) if tool is not None else _tool_of_all(texts)
    readings: dict[str, Reading] = {}
    for path, text in texts.items():
        if not reader.knows(text):
            raise InvalidInputError(
                f"{path} holds no time of {reader.name}, as other results do; delete it and time"
                " that file again, all by one tool"
            )
        try:
            reading = reader.read(text)
        except InvalidInputError as error:
            raise InvalidInputError(f"{path}: {error}") from error
        for ms in (reading.median, reading.mean):
            if ms is not None:
                milliseconds(ms, f"{path}: a call")
        readings[path.stem] = reading
    return readings, reader.name


def _results_in(manifest: Manifest, folder: Path) -> list[Path]:
    """Files of a folder, each called as a timing."""
    names = {timing.name for timing in manifest.timings}
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        # What a script was stopped over ends in .part.
        if path.name.startswith(".") or path.suffix == ".part" or path.is_dir():
            continue
        if path.stem not in names:
            raise InvalidInputError(
                f"{path} is the result of no file of this pack; results are called"
                f" {manifest.timings[0].name}.txt, {manifest.timings[-1].name}.txt and so on: take"
                " it out of the folder"
            )
        if path.stem in found:
            raise InvalidInputError(
                f"{found[path.stem]} and {path} are results of one file; keep one of them"
            )
        found[path.stem] = path
    if not found:
        raise InvalidInputError(f"{folder} holds no results; time the pack's files first")
    return list(found.values())


def _tool_of_all(texts: Mapping[Path, str]) -> Tool:
    """The tool of the first text that is of one."""
    failed: InvalidInputError | None = None
    for path, text in texts.items():
        try:
            return tool_of(text, str(path))
        except InvalidInputError as error:
            failed = failed or error
    raise failed or InvalidInputError("no results")


def _read_csv(manifest: Manifest, path: Path) -> Times:
    known = {(timing.file, *sides_of(timing)): timing.name for timing in manifest.timings}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"cannot read {path}: {error}") from error
    reader = csv.DictReader(lines)
    columns = list(reader.fieldnames or ())
    units = [name for name in columns if name in _UNITS]
    if not {"file", "height", "width"} <= set(columns) or len(units) != 1:
        raise InvalidInputError(
            f"{path} has columns {', '.join(columns) or 'none'}; need file, height, width and one"
            f" of {', '.join(_UNITS)}, which tells the unit"
        )
    times: Times = {}
    for number, row in enumerate(reader, start=2):
        said = (row[units[0]] or "").strip()
        key = tuple((row[name] or "").strip() for name in ("file", "height", "width"))
        if not said:
            continue
        name = known.get((key[0], key[1], key[2]))
        if name is None:
            raise InvalidInputError(
                f"{path}, line {number}: {' '.join(key)!r} is no file and shape of this pack; its"
                " times.csv lists them"
            )
        if name in times:
            raise InvalidInputError(f"{path}, line {number}: {key[0]} at this shape stands twice")
        try:
            times[name] = in_ms(said, units[0])
        except InvalidInputError as error:
            raise InvalidInputError(f"{path}, line {number}: {error}") from error
        milliseconds(times[name], f"{path}, line {number}: a call")
    return times


def _refuse_missing(
    manifest: Manifest, found: Mapping[str, object], source: str, way_out: str
) -> None:
    missing = [timing for timing in manifest.timings if timing.name not in found]
    if missing:
        raise InvalidInputError(
            f"{source} lacks {len(missing)} of {len(manifest.timings)} results: {_few(missing)};"
            f" {way_out}, then import again"
        )


def _few(timings: Sequence[Timing]) -> str:
    said = [f"{t.name} ({t.file} on {'x'.join(map(str, t.shape))})" for t in timings[:_NAMED]]
    more = len(timings) - len(said)
    return ", ".join(said) + (f" and {more} more" if more else "")


def _choose(readings: Mapping[str, Reading], statistic: str, source: Path) -> tuple[Times, str]:
    """One statistic for all: the one asked for if every result has it, else the other."""
    for name in dict.fromkeys((statistic, *STATISTICS)):
        values = {key: getattr(reading, name) for key, reading in readings.items()}
        if all(value is not None for value in values.values()):
            return values, name
    raise InvalidInputError(
        f"some results in {source} tell the median alone and some the mean alone; time all files"
        " by one release of the tool"
    )


# ---------------------------------------------------------------------- the table


def _table(
    manifest: Manifest, times: Times, device: str, tool: str, statistic: str, source: str
) -> BlockTable:
    call = times[manifest.call]
    blocks = {
        key: BlockTime(0.0 if name is None else max(times[name] - call, 0.0))
        for key, name in manifest.blocks.items()
    }
    overheads: dict[int, Overhead] = {}
    wholes: list[WholeTime] = []
    for side, plan in manifest.plans.items():
        networks = [network for network in manifest.networks if network.resolution == side]
        rows = np.array([network.row for network in networks], dtype=np.int64)
        whole = np.array([times[network.timing] for network in networks])
        ms = np.array([blocks[block.key].ms for block in plan.blocks])
        sums = plan.total(ms, rows)
        _refuse_other_unit([network.timing for network in networks], sums, whole, source)
        overheads[side] = fit_overhead(sums, whole)
        wholes += [
            WholeTime(network.arch, side, float(time))
            for network, time in zip(networks, whole, strict=True)
        ]
    table = BlockTable(
        device=device,
        setting={
            "runtime": tool,
            "batch": manifest.batch,
            "statistic": statistic,
            "call_ms": call,
        },
        versions=manifest.versions,
        host=f"unknown: imported from {tool}",
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        space=manifest.space,
        blocks=blocks,
        overheads=overheads,
        wholes=wholes,
        plans=manifest.plans,
        source=source,
    )
    table.fingerprint = fingerprint_of(table.to_json())
    return table


def _refuse_other_unit(
    names: Iterable[str],
    sums: npt.NDArray[np.float64],
    whole: npt.NDArray[np.float64],
    source: str,
) -> None:
    """Compare whole networks with the sums of their blocks."""
    for name, added, ms in zip(names, sums, whole, strict=True):
        if not added / _ODD <= ms <= added * _ODD or ms == 0.0:
            raise InvalidInputError(
                f"{source}: network {name} takes {ms:.4g} ms, its blocks alone {added:.4g} ms"
                " together; some results are in another unit than the rest, or of another device"
            )
