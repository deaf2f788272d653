"""What the commands of the command line share: options, the teacher they name, output."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

__all__ = [
    "Device",
    "Json",
    "Length",
    "Plugin",
    "Precision",
    "Quiet",
    "Seconds",
    "Tokenizer",
    "finite",
    "interrupted",
    "leads",
    "load_plugins",
    "one_voice",
    "options_of",
    "print_json",
    "spec_of",
    "teacher_of",
]

Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and JSON alone, on stdout.")]
Plugin = Annotated[
    list[Path] | None,
    typer.Option(
        help="Python file that registers spaces, proxies, searchers, teachers or benchmarks."
    ),
]
Device = Annotated[str, typer.Option(help="Where candidates are scored: cpu, cuda or cuda:N.")]
Tokenizer = Annotated[
    str | None,
    typer.Option(help="Of text: a tokenizer.json, a folder with one or a vocab.txt, or minilm-l6."),
]
Length = Annotated[int | None, typer.Option(help="Of text: tokens of a sentence at most.")]
Seconds = Annotated[float | None, typer.Option(help="Of sound: how long clips are made.")]
Precision = Annotated[str, typer.Option(help="Of convolutions in scoring: float32 or bfloat16.")]


def load_plugins(files: list[Path] | None) -> None:
    """Run what ``--plugin`` names."""
    if files:
        from .searchspace.plugins import load_plugin

        for file in files:
            load_plugin(file)


def teacher_of(
    name: str | None, data: str, weights: Path | None, untrained: bool, tap: list[str] | None
) -> Any:
    """The teacher the options name, or ``None`` for the default one.

    Args:
        name: of the teacher.
        data: what is scored on; ``"digits"`` has a bundled teacher.
        weights: its checkpoint.
        untrained: let its weights be random.
        tap: ``ROLE=MODULE``, several.

    Raises:
        InvalidInputError: if options describe a teacher that none names.
    """
    from .searchspace.errors import InvalidInputError
    from .teacher import load_teacher
    from .teachers.bundled import BUNDLED

    if name is None:
        if weights is None and not untrained and not tap:
            return None
        if data != "digits":
            raise InvalidInputError(
                "--weights, --untrained and --tap describe a teacher; name it with --teacher"
            )
        name = BUNDLED
    named: dict[str, Any] = {}
    for text in tap or ():
        role, equals, path = text.partition("=")
        if not equals or not path:
            raise InvalidInputError(f"--tap {text!r}; write ROLE=MODULE, e.g. final=layer4")
        named[role] = path.split(",") if role == "stages" else path
    return load_teacher(name, weights=weights, untrained=untrained, taps=named or None)


def spec_of(data: str, tokenizer: str | None, length: int | None, seconds: float | None) -> str:
    """Data and how they are read, in the one string by which a run knows them."""
    if tokenizer is None and length is None and seconds is None:
        return data
    from .data import data_spec

    return data_spec(data, tokenizer=tokenizer, length=length, seconds=seconds)


def options_of(texts: list[str] | None, option: str = "--option") -> dict[str, Any]:
    """``width_mult=0.5`` as data: whole numbers, numbers, true and false, else words.

    Args:
        texts: ``NAME=VALUE`` each.
        option: by which they were given.

    Raises:
        InvalidInputError: if a text is no ``NAME=VALUE``.
    """
    from .searchspace.errors import InvalidInputError

    options: dict[str, Any] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise InvalidInputError(f"{option} {text!r}; write NAME=VALUE, e.g. patch_size=4")
        options[name] = {"true": True, "false": False}.get(value, value)
        for kind in (float, int):
            try:
                options[name] = kind(value)
            except ValueError:
                continue
    return options


def interrupted(out: Path, what: str = "scored", how: str = "") -> NoReturn:
    """End by Ctrl-C, with what was scored kept; ``how``: what the same command needs beside."""
    print(
        f"stopped; what was {what} is kept in {out}. Run the same command{how} to go on.",
        file=sys.stderr,
    )
    raise typer.Exit(130)


@contextmanager
def one_voice(out: Path, *, resume: bool) -> Iterator[None]:
    """Let the first process of ``torchrun`` alone say that a training in ``out`` ended early."""
    from .searchspace.errors import InvalidInputError

    try:
        yield
    except KeyboardInterrupt:
        if not leads():
            raise typer.Exit(130) from None
        interrupted(out, "trained", "" if resume else " with --resume")
    except InvalidInputError:
        if leads():
            raise
        raise typer.Exit(2) from None


def leads() -> bool:
    """Whether this is the first process, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def finite(value: float) -> float | None:
    """A number as JSON has them: ``None`` for NaN and infinities."""
    return float(value) if math.isfinite(value) else None


def print_json(data: Any) -> None:
    """Print data as JSON, in ASCII, which any terminal can show."""
    print(json.dumps(data, indent=2, allow_nan=False))
