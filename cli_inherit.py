"""The command ``scholarch inherit``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from .cli_options import (
    Json,
    Length,
    Plugin,
    Quiet,
    Seconds,
    Tokenizer,
    load_plugins,
    options_of,
    print_json,
    spec_of,
    teacher_of,
)

__all__ = ["inherit_command"]


def inherit_command(
    teacher: Annotated[
        str,
        typer.Option(help="A Transformer: minilm-l6, whisper-tiny-en, a ViT of timm's, a folder."),
    ],
    data: Annotated[str, typer.Option(help="What importance is measured on; see search.")],
    out: Annotated[Path, typer.Option(help="Folder of the supernet.")],
    space: Annotated[
        str | None, typer.Option(help="[default: the one made from such a teacher]")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="Option of the space, e.g. patch_size=4.")
    ] = None,
    how: Annotated[
        str, typer.Option(help="What a student keeps: importance, even, prefix or stages.")
    ] = "importance",
    weights: Annotated[Path | None, typer.Option(help="The teacher's weights.")] = None,
    tokenizer: Tokenizer = None,
    length: Length = None,
    seconds: Seconds = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    plugin: Plugin = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Put a Transformer teacher's weights into its students' supernet; nothing is trained."""
    load_plugins(plugin)
    from .inheriting import inherit_supernet

    spec = spec_of(data, tokenizer, length, seconds)
    found = inherit_supernet(
        teacher=teacher_of(teacher, data, weights, untrained=False, tap=None),
        data=spec,
        space=space,
        space_options=options_of(option),
        how=how,
        seed=seed,
        out=out,
    )
    if as_json:
        about = {"supernet": str(found.path), "space": found.space.spec()}
        print_json(about | {"teacher": found.about["teacher"]})
    elif not quiet:
        from .console import print_line

        print_line(f"{found.path}: {found.space.name} of {found.about['teacher']['name']}")
        words = ["--supernet", str(out), "--data", spec, "--teacher", teacher, "--out", "RUN"]
        print_line(f"next: scholarch search {shlex.join(words)}")
