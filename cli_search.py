"""The command ``scholarch search``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .cli_options import (
    Device,
    Json,
    Length,
    Plugin,
    Precision,
    Quiet,
    Seconds,
    Tokenizer,
    interrupted,
    load_plugins,
    options_of,
    print_json,
    spec_of,
    teacher_of,
)
from .search.calibration.recipe import LABEL_EPOCHS, MIN_LABELS

if TYPE_CHECKING:
    from .search.result import SearchResult

__all__ = ["search_command", "show_result"]


def search_command(
    ctx: typer.Context,
    data: Annotated[
        str,
        typer.Option(
            help="digits, a .npz, a folder of images (CIFAR, IDX, HF), text (.txt, .tsv) or sound."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run; an unfinished one goes on.")],
    space: Annotated[
        str | None,
        typer.Option(help="scholarch list spaces. [default: derived from the teacher]"),
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="Option of the space, e.g. patch_size=4.")
    ] = None,
    teacher: Annotated[
        list[str] | None,
        typer.Option(
            help="Teacher: scholarch list teachers, a timm name, a file. Of several one is chosen."
        ),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="The teacher's weights.")] = None,
    untrained: Annotated[
        bool, typer.Option("--untrained", help="Let the teacher's weights be random.")
    ] = False,
    tap: Annotated[
        list[str] | None,
        typer.Option(help="Name a teacher's tap, e.g. final=layer4 or classifier=fc."),
    ] = None,
    supernet: Annotated[
        Path | None,
        typer.Option(
            help="Search on a supernet (the folder of scholarch train or inherit), without"
            " --space: by validation accuracy with inherited weights, or by --proxy on these."
        ),
    ] = None,
    predictor: Annotated[
        str,
        typer.Option(
            help="With --supernet: auto, off, or how many networks to evaluate for a predictor."
        ),
    ] = "auto",
    calibration: Annotated[
        int, typer.Option(help="With --supernet: training images batch norm is calibrated on.")
    ] = 2000,
    searcher: Annotated[str, typer.Option(help="scholarch list searchers.")] = "nsga2",
    proxy: Annotated[
        list[str] | None,
        typer.Option(help="What to maximise; several: the sum of log-ranks. [default: ensemble]"),
    ] = None,
    evaluations: Annotated[int, typer.Option(help="Distinct architectures to evaluate.")] = 500,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Training images to score on.")] = 64,
    max_params: Annotated[str | None, typer.Option(help="Parameters, e.g. 2M.")] = None,
    max_macs: Annotated[
        str | None, typer.Option(help="Multiply-accumulates of one image, e.g. 50M.")
    ] = None,
    max_flops: Annotated[str | None, typer.Option(help="FLOPs = 2 x MACs, e.g. 100M.")] = None,
    max_memory: Annotated[
        str | None, typer.Option(help="Peak activation memory of one image in bytes, e.g. 1M.")
    ] = None,
    max_weights: Annotated[
        str | None, typer.Option(help="Bytes of all parameters in float32, e.g. 4M.")
    ] = None,
    max_latency: Annotated[
        list[str] | None,
        typer.Option(help="Milliseconds by a table, e.g. 5ms@pixel3.json; once a device."),
    ] = None,
    refine: Annotated[
        str | None,
        typer.Option(
            help="supernet: then train the supernet of what survived, search on it, fine-tune."
        ),
    ] = None,
    refine_epochs: Annotated[
        float | None, typer.Option(help="With --refine: of the supernet. [default: 50]")
    ] = None,
    finetune_epochs: Annotated[
        int | None, typer.Option(help="With --refine: of the pick, 0 for none. [default: 10]")
    ] = None,
    calibrate: Annotated[
        int | None,
        typer.Option(
            help="Distil so many candidates from the teacher, correct the rank by them, and search"
            " on with it; the cost is told before."
        ),
    ] = None,
    calibrate_epochs: Annotated[
        int | None,
        typer.Option(help=f"With --calibrate: of each distillation. [default: {LABEL_EPOCHS}]"),
    ] = None,
    tokenizer: Tokenizer = None,
    length: Length = None,
    seconds: Seconds = None,
    workers: Annotated[int, typer.Option(help="Processes that score; the result is equal.")] = 1,
    device: Device = "cpu",
    precision: Precision = "float32",
    plugin: Plugin = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Search a space for the Pareto-optimal students of a teacher under a budget."""
    bounds = {
        "params": max_params,
        "macs": max_macs,
        "flops": max_flops,
        "peak_memory": max_memory,
        "weight_memory": max_weights,
    }
    from .searchspace.errors import InvalidInputError

    try:
        budget = _amounts({name: text for name, text in bounds.items() if text is not None})
        tables = _latencies(max_latency, budget)
        load_plugins(plugin)

        from .console import SearchConsole

        epochs = _epochs(refine, refine_epochs, finetune_epochs, supernet)
        _check_calibration(calibrate, calibrate_epochs, refine, supernet, teacher or [])
        data = spec_of(data, tokenizer, length, seconds)
        options = options_of(option)
        if refine is not None and options:
            raise InvalidInputError("--option and --refine exclude each other; leave one out")
        with SearchConsole(visible=not (quiet or as_json)) as console:
            guide = _teachers(teacher or [], data, weights, untrained, tap)
            asked: dict[str, Any] = {
                "space": space,
                "data": data,
                "teacher": guide,
                "predictor": predictor,
                "calibration": calibration,
                "tables": tables,
                "budget": budget,
                "proxies": proxy,
                "searcher": searcher,
                "evaluations": evaluations,
                "seed": seed,
                "batch_size": batch_size,
                "out": out,
                "workers": workers,
                "device": device,
                "precision": precision,
                "command": ctx.obj,
                "progress": console.update,
            }
            if refine is None:
                from .api import find_student

                result = find_student(
                    supernet=supernet,
                    calibrate=calibrate,
                    calibrate_epochs=calibrate_epochs,
                    space_options=options or None,
                    announce=None if quiet or as_json else _announce,
                    **asked,
                )
            else:
                from .refining import refine_student

                refined = refine_student(**asked, **epochs)
    except KeyboardInterrupt:
        interrupted(out)
    if refine is None:
        show_result(result, quiet, as_json)
    elif as_json:
        print_json(refined.to_json())
    elif not quiet:
        from .console_refined import print_refined

        print_refined(refined.told, out)


def show_result(result: SearchResult, quiet: bool, as_json: bool) -> None:
    """Print what a search found; raises, with the reasons, where nothing was."""
    told = {name: result.info[name] for name in ("calibration", "teachers") if name in result.info}
    if as_json:
        print_json(result.to_json() | told)
    elif not quiet:
        from .console import print_result

        print_result(result)
        _show_calibration(told.get("calibration"), result.out)
    if result.pick is None:
        result.best  # noqa: B018  (raises, with the reasons)


def _show_calibration(told: Mapping[str, Any] | None, out: str | None) -> None:
    """What a calibrated search found beside its front, and where all of it lies."""
    if told is None:
        return
    from .console import print_line

    def tau(value: float | None) -> str:
        return "unknown" if value is None else f"{value:.2f}"

    front = told["front"]
    print_line(
        f"calibrated by {len(told['labels'])} students of {told['teacher']}: tau of the rank"
        f" {tau(told['tau_prior'])} before, {tau(told['tau_left_out'])} on students left out;"
        f" {front['new']} of {front['second']} on the front are new"
    )
    if out is not None:
        print_line(f"what it changed: {Path(out).parent}/report.html")


def _announce(text: str) -> None:
    typer.echo(text, err=True)


def _teachers(
    names: Sequence[str], data: str, weights: Path | None, untrained: bool, tap: list[str] | None
) -> Any:
    """One teacher, ``None`` for the default one, or a list of several."""
    if len(names) < 2:
        return teacher_of(names[0] if names else None, data, weights, untrained, tap)
    from .searchspace.errors import InvalidInputError

    if weights is not None or untrained or tap:
        raise InvalidInputError(
            f"--weights, --untrained and --tap describe one teacher, {len(names)} are given; name"
            " files of weights with --teacher"
        )
    return [teacher_of(name, data, None, False, None) for name in names]


def _check_calibration(
    count: int | None,
    epochs: int | None,
    refine: str | None,
    supernet: Path | None,
    teachers: Sequence[str],
) -> None:
    """Check what goes together with --calibrate."""
    from .searchspace.errors import InvalidInputError

    if count is None and epochs is not None:
        raise InvalidInputError("--calibrate-epochs without --calibrate; add --calibrate N")
    if count is not None and count < MIN_LABELS:
        raise InvalidInputError(
            f"--calibrate {count}; need at least {MIN_LABELS} distillations to correct a rank by"
        )
    if count is not None and supernet is not None:
        raise InvalidInputError(
            "--calibrate and --supernet exclude each other: candidates of a supernet are measured,"
            " no training-free rank is left to correct"
        )
    if refine is not None and (count is not None or len(teachers) > 1):
        what = "--calibrate" if count is not None else "several teachers"
        raise InvalidInputError(f"--refine and {what} exclude each other; take one after the other")


def _amounts(texts: Mapping[str, str]) -> dict[str, float]:
    from .search.budget import bound_amount

    return {name: bound_amount(name, text) for name, text in texts.items()}


def _epochs(
    refine: str | None, training: float | None, tuning: int | None, supernet: Path | None
) -> dict[str, Any]:
    """Epochs of a refined search, where they are given; checks what goes together."""
    from .searchspace.errors import InvalidInputError

    given = {"refine_epochs": training, "finetune_epochs": tuning}
    named = {name: value for name, value in given.items() if value is not None}
    if refine is None and named:
        words = ", ".join(f"--{name.replace('_', '-')}" for name in named)
        raise InvalidInputError(f"{words} without --refine; add --refine supernet")
    if refine not in (None, "supernet"):
        raise InvalidInputError(f"--refine {refine!r}; there is: supernet")
    if refine is not None and supernet is not None:
        raise InvalidInputError(
            "--refine and --supernet exclude each other: the one trains a supernet, the other"
            " searches on one that is trained"
        )
    return named


def _latencies(texts: list[str] | None, budget: dict[str, float]) -> list[str]:
    """Paths of the tables in ``5ms@table.csv``; their bounds go into the budget."""
    from .search.budget import bound_amount
    from .searchspace.errors import InvalidInputError
    from .searchspace.latency import device_of

    paths: list[str] = []
    for text in texts or ():
        amount, at, path = text.partition("@")
        if not at or not path:
            raise InvalidInputError(f"--max-latency {text!r}; write TIME@TABLE, e.g. 5ms@cpu.csv")
        name = f"latency:{device_of(path)}"
        budget[name] = bound_amount(name, amount)
        paths.append(path)
    return paths
