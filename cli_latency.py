"""The commands ``scholarch latency …``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .cli_options import (
    Json,
    Plugin,
    Quiet,
    finite,
    interrupted,
    load_plugins,
    options_of,
    print_json,
)

if TYPE_CHECKING:
    from .searchspace.latency.runtimes.base import Runtime
    from .searchspace.latency.table import BlockTable
    from .searchspace.space import SearchSpace

__all__ = ["latency_app"]

latency_app = typer.Typer(
    name="latency",
    help="Latency tables: measure a device's blocks, predict whole networks, check how well.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Space = Annotated[str, typer.Option(help="scholarch list spaces.")]
Resolution = Annotated[
    list[int] | None,
    typer.Option(help="Of the images, in pixels; several: in between is interpolated."),
]
Classes = Annotated[int, typer.Option(help="Outputs of the classifier.")]
Option = Annotated[list[str] | None, typer.Option(help="Option of the space, e.g. width_mult=0.5.")]
Threads = Annotated[int, typer.Option(help="Of one call; the process is kept on as many cores.")]
Batch = Annotated[int, typer.Option(help="Images in a call.")]
Dtype = Annotated[str, typer.Option(help="float32 or bfloat16.")]
Accelerator = Annotated[str, typer.Option(help="cpu or cuda.")]
Out = Annotated[Path, typer.Option(help="File of the table; what it holds is not measured again.")]
Table = Annotated[Path, typer.Option(help="A table that latency build wrote.")]


@latency_app.command("build")
def build_command(
    space: Space,
    device: Annotated[str, typer.Option(help="What this machine is called.")],
    out: Out,
    runtime: Annotated[str, typer.Option(help="torch, torch-compile or onnxruntime.")] = "torch",
    threads: Threads = 1,
    batch: Batch = 1,
    dtype: Dtype = "float32",
    accelerator: Accelerator = "cpu",
    resolution: Resolution = None,
    classes: Classes = 10,
    option: Option = None,
    seconds: Annotated[float, typer.Option(help="To spend timing at each resolution.")] = 90.0,
    seed: Annotated[int, typer.Option(help="Of the networks that are timed.")] = 0,
    plugin: Plugin = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure every block of a space on this machine, inside running networks.

    A stopped build goes on when the same command is run again.
    """
    load_plugins(plugin)
    from .console import BenchConsole, print_latency_table
    from .searchspace.errors import InvalidInputError
    from .searchspace.files import make_folder, write_atomic
    from .searchspace.latency.build import build_table
    from .searchspace.latency.load import load_block_table
    from .searchspace.latency.runtimes.base import Setting, create_runtime

    if not 1.0 <= seconds <= 86_400.0:
        raise InvalidInputError(f"--seconds {seconds:g}; need from 1 to 86,400")
    spaces = _spaces(space, resolution, classes, option)
    bench = create_runtime(runtime, Setting(threads, batch, dtype, accelerator))
    make_folder(out.parent)
    add_to = load_block_table(out) if out.exists() else None
    partial = out.with_name(f".{out.name}.partial")
    try:
        with BenchConsole(visible=not (quiet or as_json)) as console:
            table = build_table(
                spaces,
                device,
                bench,
                add_to=add_to,
                partial=partial,
                seconds=seconds,
                seed=seed,
                progress=console.update,
            )
    except KeyboardInterrupt:
        interrupted(partial, "timed")
    write_atomic(out, table.dumps())
    if as_json:
        print_json(_summary(table, out))
    elif not quiet:
        print_latency_table(table, out)


@latency_app.command("check")
def check_command(
    table: Table,
    networks: Annotated[int, typer.Option(help="Held-out whole networks to measure.")] = 100,
    resolution: Annotated[int | None, typer.Option(help="[default: the table's first]")] = None,
    seconds: Annotated[float, typer.Option(help="To spend timing.")] = 120.0,
    seed: Annotated[int, typer.Option(help="Of the networks.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Folder for check.csv and check.png.")] = None,
    plugin: Plugin = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure networks that the table was not built from, and compare what it predicts."""
    load_plugins(plugin)
    from .console import BenchConsole, print_check
    from .search.latency_figure import save_check
    from .searchspace.errors import InvalidInputError
    from .searchspace.latency.check import check_table
    from .searchspace.latency.load import load_block_table

    if not 1.0 <= seconds <= 86_400.0:
        raise InvalidInputError(f"--seconds {seconds:g}; need from 1 to 86,400")
    read = load_block_table(table)
    space = _space_of(read, resolution)
    with BenchConsole(visible=not (quiet or as_json)) as console:
        found = check_table(
            read,
            space,
            _runtime_of(read),
            networks=networks,
            seconds=seconds,
            seed=seed,
            progress=console.update,
        )
    if out is not None:
        save_check(found, read, out)
    if as_json:
        print_json(found.to_json())
    elif not quiet:
        print_check(found, out)


@latency_app.command("show")
def show_command(
    table: Table,
    blocks: Annotated[int, typer.Option(help="How many of the slowest blocks.")] = 10,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Show what a table holds: device, setting, overhead, its slowest blocks."""
    from .console import print_latency_table
    from .searchspace.latency.load import load_block_table

    read = load_block_table(table)
    if as_json:
        print_json(_summary(read, table))
    elif not quiet:
        print_latency_table(read, table, blocks=blocks)


@latency_app.command("pack")
def pack_command(
    space: Space,
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    resolution: Resolution = None,
    classes: Classes = 10,
    option: Option = None,
    batch: Batch = 1,
    networks: Annotated[int, typer.Option(help="Whole networks, for the overhead.")] = 16,
    seed: Annotated[int, typer.Option(help="Of the networks.")] = 0,
    plugin: Plugin = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Export blocks and a few networks as ONNX files, to be timed where there is no Python.

    The folder's README.txt has the commands of each tool whose output latency import reads.
    """
    load_plugins(plugin)
    from .console import BenchConsole
    from .searchspace.latency.pack import pack

    spaces = _spaces(space, resolution, classes, option)
    with BenchConsole(visible=not (quiet or as_json)) as console:
        manifest = pack(
            spaces[0],
            out,
            resolutions=[one.resolution for one in spaces],
            networks=networks,
            seed=seed,
            batch=batch,
            progress=console.update,
        )
    if as_json:
        print_json({"pack": str(out), "files": len(manifest.timings)})
    elif not quiet:
        _say(f"{len(manifest.timings)} files in {out}; {out}/README.txt says how to time them")


@latency_app.command("import")
def import_command(
    pack: Annotated[Path, typer.Argument(help="Folder that latency pack made.")],
    results: Annotated[
        Path, typer.Option(help="Folder of what the device's tool printed, or one CSV.")
    ],
    device: Annotated[str, typer.Option(help="What the device is called.")],
    out: Annotated[Path, typer.Option(help="File of the table.")],
    tool: Annotated[
        str | None, typer.Option(help="Which tool it was. [default: seen from the files]")
    ] = None,
    statistic: Annotated[str, typer.Option(help="median or mean.")] = "median",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Read what a device's own tool measured into a latency table."""
    from .console import print_latency_table
    from .searchspace.files import make_folder, write_atomic
    from .searchspace.latency.importing import import_results

    table = import_results(pack, results, device=device, tool=tool, statistic=statistic)
    make_folder(out.parent)
    write_atomic(out, table.dumps())
    if as_json:
        print_json(_summary(table, out))
    elif not quiet:
        print_latency_table(table, out)


@latency_app.command("fit")
def fit_command(
    space: Space,
    measurements: Annotated[
        Path | None,
        typer.Option(help="CSV: a line an architecture (arch) and its latency_ms; 5 at least."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File of the fitted table.")] = None,
    prior: Annotated[
        list[Path] | None,
        typer.Option(help="Latency table of another device, of any kind; several times."),
    ] = None,
    propose: Annotated[
        int | None, typer.Option(help="List so many networks that are worth timing, and end.")
    ] = None,
    resolution: Resolution = None,
    classes: Classes = 10,
    option: Option = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    plugin: Plugin = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Predict a whole space from 10 to 50 timed networks, for who can time no block."""
    load_plugins(plugin)
    from .searchspace.errors import InvalidInputError
    from .searchspace.files import make_folder, write_atomic
    from .searchspace.latency.design import propose as proposed
    from .searchspace.latency.fit import fit_latency
    from .searchspace.latency.load import device_of, load_table

    if resolution and len(resolution) > 1:
        raise InvalidInputError(
            f"--resolution {resolution}: a fit is of one resolution; fit one table for each"
        )
    where = _spaces(space, resolution, classes, option)[0]
    if propose is not None:
        archs = proposed(where, propose, seed)
        if as_json:
            print_json({"networks": [str(arch) for arch in archs]})
        elif not quiet:
            _print_csv([str(arch) for arch in archs])
        return
    if measurements is None or out is None:
        raise InvalidInputError(
            "fit needs --measurements FILE.csv and --out FILE.json, or --propose N to list"
            " networks to time"
        )
    known = load_table(measurements, where)
    if known.rows is None:
        raise InvalidInputError(
            f"--measurements {measurements} holds no whole networks; give a CSV with the columns"
            " arch and latency_ms"
        )
    table = fit_latency(
        where,
        known.rows,
        known.latency(where, known.rows),
        device=device_of(out),
        prior=[load_table(path, where) for path in prior or ()],
        seed=seed,
    )
    make_folder(out.parent)
    write_atomic(out, table.dumps())
    numbers = {
        "table": str(out),
        "networks": len(known.rows),
        "mape": finite(table.mape),
        "spearman": finite(table.spearman),
        "spread": finite(table.spread),
        "unit": "ms",
    }
    if as_json:
        print_json(numbers)
    elif not quiet:
        from .console import print_fit

        print_fit(table, out)


# ---------------------------------------------------------------------- helpers


def _spaces(
    name: str, resolutions: list[int] | None, classes: int, option: list[str] | None
) -> list[SearchSpace]:
    from .searchspace.factory import create_space

    options: dict[str, Any] = {"num_classes": classes, **options_of(option)}
    if not resolutions:
        return [create_space(name, **options)]
    return [create_space(name, **options, resolution=r) for r in dict.fromkeys(resolutions)]


def _space_of(table: BlockTable, resolution: int | None) -> SearchSpace:
    from .searchspace.factory import create_space

    spec = dict(table.space)
    if resolution is not None:
        spec["resolution"] = resolution
    return create_space(spec.pop("name"), **spec)


def _runtime_of(table: BlockTable) -> Runtime:
    """The runtime a table was measured on; refused on another machine."""
    from .searchspace.errors import InvalidInputError
    from .searchspace.latency.build import host_words
    from .searchspace.latency.runtimes.base import Setting, create_runtime

    setting = dict(table.setting)
    if "statistic" in setting:
        raise InvalidInputError(
            f"latency table {table.source} was imported from another device's tool; nothing here"
            " can run on that device"
        )
    name = str(setting.pop("runtime"))
    if table.host != host_words():
        raise InvalidInputError(
            f"latency table {table.source} was measured on {table.host}, this machine is"
            f" {host_words()}; check it there"
        )
    return create_runtime(name, Setting(**setting))


def _summary(table: BlockTable, path: Path) -> dict[str, Any]:
    overheads = table.to_json()["overheads"]
    return {
        "table": str(path),
        "device": table.device,
        "setting": table.setting,
        "versions": table.versions,
        "host": table.host,
        "date": table.date,
        "space": table.space,
        "unit": "ms",
        "blocks": len(table.blocks),
        "overheads": overheads,
    }


def _say(text: str) -> None:
    from .console import print_line

    print_line(text)


def _print_csv(texts: list[str]) -> None:
    """Networks as the CSV that ``fit --measurements`` reads, the latencies to be filled in."""
    import csv
    import sys

    lines = csv.writer(sys.stdout, lineterminator="\n")
    lines.writerow(["arch", "latency_ms"])
    lines.writerows([text, ""] for text in texts)
