"""The command ``scholarch distil``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .cli_options import (
    Json,
    Plugin,
    Quiet,
    leads,
    load_plugins,
    one_voice,
    options_of,
    print_json,
)

__all__ = ["distil_command", "report_distilled"]

_SETTING = "--setting"

#: Settings with an option of their own, or none.
_NAMED = ("epochs", "seed", "patience", "device", "precision", "compile", "average", "int8")


def distil_command(
    ctx: typer.Context,
    folder: Annotated[
        Path, typer.Argument(help="Folder of a search, or of a student.", metavar="DIR")
    ],
    teacher: Annotated[
        list[str] | None,
        typer.Option(help="Who is learned from; several: their mean. [default: the run's own]"),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="The teacher's weights.")] = None,
    data: Annotated[
        str | None,
        typer.Option(help="digits, fashion-mnist, a .npz, or a folder. [default: the run's own]"),
    ] = None,
    distiller: Annotated[
        str,
        typer.Option(
            help="scholarch list distillers; none: labels alone; auto: try several, pick one."
        ),
    ] = "kd",
    distiller_option: Annotated[
        list[str] | None, typer.Option(help="Option of the distiller, e.g. temperature=2.")
    ] = None,
    labels: Annotated[
        float | None,
        typer.Option(help="Weight of the labels' cross-entropy. [default: the distiller's]"),
    ] = None,
    init: Annotated[
        str,
        typer.Option(
            help="First weights: scratch, trained (those that the student has from a supernet),"
            " or teacher (selected from the teacher's)."
        ),
    ] = "scratch",
    epochs: Annotated[
        float | None, typer.Option(help="Passes over the training part. [default: 60]")
    ] = None,
    baseline: Annotated[
        bool,
        typer.Option(
            "--baseline", help="Train the hand-made network of the student's size likewise."
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the distillation. [default: DIR/distil]")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an unfinished run, bit for bit.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    average: Annotated[
        float, typer.Option(help="Decay of averaged weights, e.g. 0.999; 0: none.")
    ] = 0.0,
    int8: Annotated[
        bool,
        typer.Option("--int8", help="Train rounded, for export --format onnx-int8 afterwards."),
    ] = False,
    setting: Annotated[
        list[str] | None,
        typer.Option(help="Any other setting, e.g. lr=0.02 or batch_size=128: see TrainSettings."),
    ] = None,
    patience: Annotated[
        int, typer.Option(help="Stop after so many evaluations without a gain; 0: never.")
    ] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    precision: Annotated[
        str, typer.Option(help="Of convolutions and linear layers: float32 or bfloat16.")
    ] = "float32",
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the network; for distillers of logits.")
    ] = False,
    plugin: Plugin = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a searched student by its teacher's answers; the test part is read once, at the end.

    Under torchrun several processes train together.
    """
    load_plugins(plugin)
    place = folder / "distil" if out is None else out
    with one_voice(place, resume=resume):
        given = _settings(setting)

        from .console_distil import DistilConsole
        from .distilling import distil_student

        with DistilConsole(visible=leads() and not (quiet or as_json)) as console:
            found = distil_student(
                folder,
                teacher=_teachers(teacher, weights),
                data=data,
                out=place,
                distiller=distiller,
                options=options_of(distiller_option, "--distiller-option"),
                labels=labels,
                init=init,
                epochs=epochs,
                seed=seed,
                resume=resume,
                baseline=baseline,
                average=average,
                int8=int8,
                command=ctx.obj,
                progress=console.show,
                patience=patience,
                device=device,
                precision=precision,
                compile=compiled,
                **given,
            )
    if not leads():
        return
    if as_json:
        print_json(found.to_json())
    elif not quiet:
        from .console_distil import print_distilled

        print_distilled(found.told, place)


def report_distilled(folder: Path, quiet: bool, as_json: bool) -> None:
    """Write the report of a distillation's folder again, and print its comparison."""
    from .search.distil_pages import write_reports
    from .search.distilled import read_record

    told, _ = read_record(folder)
    write_reports(folder, folder.parent if folder.name == "distil" else None)
    if as_json:
        print_json(told)
    elif not quiet:
        from .console_distil import print_distilled

        print_distilled(told, folder)


def _settings(setting: list[str] | None) -> dict[str, Any]:
    from .searchspace.errors import InvalidInputError

    given = options_of(setting, _SETTING)
    for name in given:
        if name in _NAMED:
            raise InvalidInputError(f"{_SETTING} {name}=… has an option of its own; see --help")
    return given


def _teachers(names: list[str] | None, weights: Path | None) -> Any:
    """Teachers by name, or ``None`` for the run's own."""
    from .searchspace.errors import InvalidInputError
    from .teacher import load_teacher

    if not names:
        if weights is not None:
            raise InvalidInputError(
                f"--weights {weights} describes a teacher; name it with --teacher"
            )
        return None
    if weights is not None and len(names) > 1:
        raise InvalidInputError(
            f"--weights {weights} with {len(names)} teachers; whose are they? give each teacher as"
            " a folder or a file that tells its network"
        )
    return [load_teacher(name, weights=weights) for name in names]
