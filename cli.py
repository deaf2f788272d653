"""The command line. Only typer is loaded until a command runs."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from .cli_benchmark import benchmark_command
from .cli_distil import distil_command, report_distilled
from .cli_export import export_command
from .cli_inherit import inherit_command
from .cli_latency import latency_app
from .cli_options import (
    Device,
    Json,
    Length,
    Plugin,
    Precision,
    Quiet,
    Seconds,
    Tokenizer,
    finite,
    load_plugins,
    options_of,
    print_json,
    spec_of,
    teacher_of,
)
from .cli_search import search_command, show_result
from .cli_train import import_command, train_command

__all__ = ["app", "main"]

app = typer.Typer(
    name="scholarch",
    help="Find the best student architectures for a teacher under a budget, without training"
    " a single candidate.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,  # rich's help costs two thirds of the start-up time
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from . import __version__

        print(f"scholarch {__version__}")
        raise typer.Exit


app.command("search")(search_command)


@app.command("score")
def score_command(
    file: Annotated[Path, typer.Argument(help="One architecture a line, in the space's notation.")],
    data: Annotated[
        str,
        typer.Option(help="digits, a .npz file, a folder of images, text (.txt, .tsv) or sound."),
    ],
    space: Annotated[
        str | None, typer.Option(help="Registered space; a supernet brings its own.")
    ] = None,
    supernet: Annotated[
        Path | None,
        typer.Option(help="Score on its weights as they are (the folder of train or inherit)."),
    ] = None,
    teacher: Annotated[str | None, typer.Option(help="Teacher.")] = None,
    weights: Annotated[Path | None, typer.Option(help="The teacher's weights.")] = None,
    untrained: Annotated[bool, typer.Option("--untrained", help="Random teacher.")] = False,
    tap: Annotated[list[str] | None, typer.Option(help="Name a teacher's tap.")] = None,
    proxy: Annotated[list[str] | None, typer.Option(help="[default: ensemble]")] = None,
    seed: Annotated[int, typer.Option(help="Of weights, batch and reference sample.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Training images to score on.")] = 64,
    option: Annotated[
        list[str] | None, typer.Option(help="Option of the space, e.g. patch_size=4.")
    ] = None,
    tokenizer: Tokenizer = None,
    length: Length = None,
    seconds: Seconds = None,
    device: Device = "cpu",
    precision: Precision = "float32",
    plugin: Plugin = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Score architectures listed in a file."""
    from .console import print_scores
    from .deriving import space_for
    from .scoring import score
    from .supernet.pretrained import load_supernet

    load_plugins(plugin)
    from .data import load_data
    from .searchspace.errors import InvalidInputError
    from .supernet.targets import answered
    from .teacher import load_teacher

    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"cannot read {file}: {error}") from error
    dataset = load_data(spec_of(data, tokenizer, length, seconds))
    batch = dataset.batch(batch_size, seed)
    guide = teacher_of(teacher, data, weights, untrained, tap)
    if guide is None and data == "digits":
        from .teachers.bundled import BUNDLED

        guide = load_teacher(BUNDLED)
    if guide is not None:
        guide = load_teacher(guide, classes=dataset)
        batch = answered(batch, guide)
    options, trained = options_of(option), None
    if supernet is not None:
        if space is not None or options:
            raise InvalidInputError(
                "--supernet and --space or --option exclude each other: a supernet brings its space"
            )
        trained = load_supernet(supernet)
        where = trained.space
    elif space is None:
        raise InvalidInputError("nothing to score architectures of; give --space or --supernet")
    else:
        where = space_for(space, batch, guide, options)
    archs = []
    for number, line in enumerate(lines, start=1):
        if line and not line.startswith("#"):
            try:
                archs.append(where.parse(line))
            except InvalidInputError as error:
                raise InvalidInputError(f"{file}, line {number}, {line!r}: {error}") from error
    if not archs:
        raise InvalidInputError(f"{file} lists no architecture; write one a line")
    table = score(
        where,
        archs,
        supernet=trained,
        batch=batch,
        teacher=guide,
        proxies=proxy,
        seed=seed,
        device=device,
        precision=precision,
    )
    if as_json:
        rows = [
            {"arch": str(arch)} | {k: finite(table[k][i]) for k in table}
            for i, arch in enumerate(archs)
        ]
        failures = [
            {"row": row, "proxy": name, "reason": reason}
            for (row, name), reason in table.failures.items()
        ]
        print_json({"scores": rows, "failures": failures})
    elif not quiet:
        print_scores(archs, table)


@app.command("report")
def report_command(
    folder: Annotated[Path, typer.Argument(help="Folder of a run.")],
    plugin: Plugin = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a run's report again from its store, and print its front."""
    load_plugins(plugin)
    from .search.folder import REPORT
    from .search.result import SearchResult
    from .searchspace.files import write_atomic

    if (folder / "refine.json").is_file():
        _report_refined(folder, quiet, as_json)
        return
    if (folder / "calibration.json").is_file():
        _report_calibrated(folder, quiet, as_json)
        return
    if (folder / "distil.json").is_file():
        report_distilled(folder, quiet, as_json)
        return
    result = SearchResult.load(folder)
    write_atomic(folder / REPORT, result.report())
    show_result(result, quiet, as_json)


@app.command("list")
def list_command(
    what: Annotated[
        str,
        typer.Argument(
            help="spaces, proxies, searchers, schedules, distillers, teachers or benchmarks."
        ),
    ],
    pattern: Annotated[str, typer.Argument(help="Shell pattern of names.")] = "*",
    plugin: Plugin = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """List what is registered."""
    from .catalog import CATALOGS
    from .searchspace.errors import UnknownNameError

    load_plugins(plugin)
    if what not in CATALOGS:
        raise UnknownNameError("list", what, CATALOGS)
    rows = CATALOGS[what](pattern)
    if as_json:
        print_json(rows)
    elif not quiet:
        width = max((len(row["name"]) for row in rows), default=0)
        for row in rows:
            print(f"{row['name']:{width}}  {row['about']}".rstrip())


app.command("benchmark")(benchmark_command)
app.command("inherit")(inherit_command)
app.command("train")(train_command)
app.command("import-ofa")(import_command)
app.command("distil")(distil_command)
app.command("export")(export_command)
app.add_typer(latency_app)


@app.command("conformance")
def conformance_command(
    plugin: Plugin = None,
    quiet: Quiet = False,
) -> None:
    """Run the conformance suites on what plug-ins register; without any, on everything."""
    from importlib.util import find_spec

    from .searchspace.errors import ScholarchError

    if find_spec("pytest") is None:
        raise ScholarchError("the conformance suites need pytest: pip install 'scholarch[dev]'")
    load_plugins(plugin)  # in words, before pytest shows a traceback
    from .testing.runner import run_suites

    code = run_suites([str(file.resolve()) for file in plugin or ()], quiet=quiet)
    if code:
        raise ScholarchError("the conformance suites failed; see above")


# ---------------------------------------------------------------------- helpers


def _report_refined(folder: Path, quiet: bool, as_json: bool) -> None:
    """Write the report of a refined search again."""
    from .search.refine_report import REPORT, read_refine, refined_html
    from .search.result import SearchResult
    from .searchspace.files import write_atomic

    told = read_refine(folder)
    first, second = (SearchResult.load(folder / name) for name in ("first", "second"))
    write_atomic(folder / REPORT, refined_html(first, second, told, folder / "supernet"))
    if as_json:
        print_json(told)
    elif not quiet:
        from .console_refined import print_refined

        print_refined(told, folder)


def _report_calibrated(folder: Path, quiet: bool, as_json: bool) -> None:
    """Write the report of a calibrated search again."""
    from .search.calibration.folder import read_calibration
    from .search.calibration.report import REPORT, calibrated_html
    from .search.result import SearchResult
    from .searchspace.files import write_atomic

    told = read_calibration(folder)
    first, second = (SearchResult.load(folder / name) for name in ("first", "second"))
    write_atomic(folder / REPORT, calibrated_html(first, second, told))
    show_result(second, quiet, as_json)


def _usage_problems() -> type[Exception]:
    """What typer raises on a wrong word: its own class, or click's before it carried click."""
    try:
        from typer.exceptions import TyperException
    except ImportError:
        from click import ClickException

        return ClickException
    return TyperException


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 2 for bad input, 130 for Ctrl-C.

    Errors are one or two plain lines on stderr, never a traceback.
    """
    words = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that lacks a character shows its code, not a traceback.
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors="backslashreplace")
    command = typer.main.get_command(app)
    try:
        code = command.main(
            words,
            prog_name="scholarch",
            standalone_mode=False,
            obj=shlex.join(["scholarch", *words]),
        )
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a full disk or a closed pipe is one line
    except _usage_problems() as error:
        text = error.format_message() if hasattr(error, "format_message") else str(error)
        print(text if "Usage:" in text else f"error: {text}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, typer.Abort):
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        _abandon_stdout()  # the reader went away, as in `scholarch list proxies | head -1`
        return 1
    except OSError as error:
        _abandon_stdout()
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        return 2
    except Exception as error:
        from .searchspace.errors import ScholarchError

        if not isinstance(error, ScholarchError):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    return int(code) if isinstance(code, int) else 0


def _abandon_stdout() -> None:
    """Let what is still unwritten go nowhere, so that the interpreter ends without a word."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
