"""The commands ``scholarch train`` and ``scholarch import-ofa``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .cli_options import (
    Json,
    Length,
    Plugin,
    Quiet,
    Seconds,
    Tokenizer,
    leads,
    load_plugins,
    one_voice,
    options_of,
    print_json,
    spec_of,
)

__all__ = ["import_command", "train_command"]

_SETTING = "--setting"


def train_command(
    ctx: typer.Context,
    data: Annotated[
        str,
        typer.Option(help="digits, fashion-mnist, a .npz, a folder, text (.txt, .tsv) or sound."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    space: Annotated[
        str | None, typer.Option(help="scholarch list spaces; not needed with --start.")
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            help="Begin with a supernet's weights: a folder of inherit, train, import-ofa."
        ),
    ] = None,
    schedule: Annotated[str, typer.Option(help="scholarch list schedules.")] = "delayed",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an unfinished run in --out, bit for bit.")
    ] = False,
    width_mult: Annotated[
        float | None, typer.Option(help="Factor of the space's widths, e.g. 0.5.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="Option of the space, e.g. patch_size=4.")
    ] = None,
    schedule_option: Annotated[
        list[str] | None, typer.Option(help="Option of the schedule, e.g. warmup=0.4.")
    ] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Passes over the training part. [default: 50]")
    ] = None,
    max_passed_macs: Annotated[
        str | None,
        typer.Option(
            help="In place of epochs: multiply-accumulates, forward once, backward twice, e.g. 2T."
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images a step and process.")] = 64,
    lr: Annotated[
        float | None,
        typer.Option(help="Peak learning rate. [default: 2.6 for a batch of 2048, in proportion]"),
    ] = None,
    augment: Annotated[str, typer.Option(help="none, light, auto or strong.")] = "auto",
    teacher: Annotated[
        str | None,
        typer.Option(help="Whose answers all networks learn. [default: the largest network's]"),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="The teacher's weights.")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(help="Any other setting, e.g. weight_decay=1e-4: see TrainSettings."),
    ] = None,
    evaluations: Annotated[
        int, typer.Option(help="How often networks are evaluated on the validation part.")
    ] = 10,
    patience: Annotated[
        int, typer.Option(help="Stop after so many evaluations without a gain; 0: never.")
    ] = 0,
    tokenizer: Tokenizer = None,
    length: Length = None,
    seconds: Seconds = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    precision: Annotated[
        str, typer.Option(help="Of convolutions and linear layers: float32 or bfloat16.")
    ] = "float32",
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the network block by block.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    plugin: Plugin = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train all networks of a space at once, in one set of shared weights.

    Networks need no training of their own afterwards: any of them is extracted and its batch
    norm calibrated. Under torchrun several processes train together.
    """
    from .searchspace.errors import InvalidInputError

    load_plugins(plugin)
    with one_voice(out, resume=resume):
        given = _settings(epochs, max_passed_macs, setting)
        options = _space_options(option, width_mult)
        if weights is not None and teacher is None:
            raise InvalidInputError(
                f"--weights {weights} describes a teacher; name it with --teacher"
            )

        from .console import TrainConsole
        from .teacher import load_teacher
        from .training import train_supernet

        with TrainConsole(visible=leads() and not (quiet or as_json)) as console:
            trained = train_supernet(
                space=space,
                start=start,
                data=spec_of(data, tokenizer, length, seconds),
                schedule=schedule,
                out=out,
                teacher=None if teacher is None else load_teacher(teacher, weights=weights),
                seed=seed,
                resume=resume,
                space_options=options,
                command=ctx.obj,
                progress=console.update,
                options=options_of(schedule_option, "--schedule-option"),
                batch_size=batch_size,
                lr=lr,
                augment=augment,
                evaluations=evaluations,
                patience=patience,
                device=device,
                precision=precision,
                compile=compiled,
                **given,
            )
    if not leads():
        return
    if as_json:
        print_json(trained.to_json())
    elif not quiet:
        from .console_training import print_trained

        print_trained(trained, data)


def _space_options(option: list[str] | None, width_mult: float | None) -> dict[str, Any]:
    return options_of(option) | ({} if width_mult is None else {"width_mult": width_mult})


def _settings(
    epochs: float | None, max_passed_macs: str | None, setting: list[str] | None
) -> dict[str, Any]:
    from .search.budget import parse_amount
    from .searchspace.errors import InvalidInputError

    given = options_of(setting, _SETTING)
    options = ("options", "batch_size", "lr", "augment", "evaluations", "patience", "device")
    for name in given:
        if name in (*options, "precision", "compile", "epochs", "macs", "seed", "schedule"):
            raise InvalidInputError(f"{_SETTING} {name}=… has an option of its own; see --help")
    if epochs is not None and max_passed_macs is not None:
        raise InvalidInputError(
            f"--epochs {epochs:g} and --max-passed-macs {max_passed_macs} both say how long; give"
            " one of them"
        )
    if epochs is not None:
        given["epochs"] = epochs
    if max_passed_macs is not None:
        try:
            given["macs"] = parse_amount(max_passed_macs)
        except InvalidInputError as error:
            raise InvalidInputError(f"--max-passed-macs: {error}") from error
    return given


def import_command(
    file: Annotated[Path, typer.Argument(help="Checkpoint of a once-for-all network.")],
    out: Annotated[Path, typer.Option(help="Folder of the supernet.")],
    space: Annotated[str, typer.Option(help="Space it was trained in.")] = "mobilenetv3",
    classes: Annotated[int, typer.Option(help="Outputs of its classifier.")] = 1000,
    width_mult: Annotated[
        float | None, typer.Option(help="Factor of its widths, e.g. 1.2.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="Option of the space, e.g. resolution=192.")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make a once-for-all checkpoint (OFA, CompOFA) a supernet that can be searched."""
    from .supernet.ofa_checkpoint import import_ofa

    options = _space_options(option, width_mult)
    found = import_ofa(file, out=out, space=space, num_classes=classes, **options)
    if as_json:
        print_json({"supernet": str(found.path), "space": found.space.spec(), **found.about})
    elif not quiet:
        from .console import print_line

        print_line(f"{found.path}: {found.about['imported']['layout']} in {found.space.name}")
        print_line(f"next: scholarch search --supernet {out} --data DIR --out RUN")
