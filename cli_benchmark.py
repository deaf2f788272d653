"""The command ``scholarch benchmark``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .cli_options import (
    Json,
    Plugin,
    Quiet,
    interrupted,
    load_plugins,
    options_of,
    print_json,
    teacher_of,
)

__all__ = ["benchmark_command"]


def benchmark_command(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="scholarch list benchmarks.")],
    data: Annotated[Path, typer.Option(help="Folder with the tables of accuracies and images.")],
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="Score to rank by, several times; a+b is the sum of log-ranks."
            " [default: ensemble and its parts]"
        ),
    ] = None,
    truth: Annotated[
        str | None, typer.Option(help="Column of accuracies. [default: the benchmark's]")
    ] = None,
    seeds: Annotated[int, typer.Option(help="How many; the score is averaged over them.")] = 3,
    seed: Annotated[int, typer.Option(help="The first of them.")] = 0,
    size: Annotated[int, typer.Option(help="Training images to score on.")] = 64,
    half: Annotated[str, typer.Option(help="all, even or odd isomorphism groups.")] = "all",
    unique: Annotated[
        bool, typer.Option("--unique", help="One candidate, the mean, an isomorphism class.")
    ] = False,
    limit: Annotated[int | None, typer.Option(help="So many candidates, at random.")] = None,
    controls: Annotated[
        bool,
        typer.Option(
            "--controls",
            help="Check what scores know of the teacher: shuffled images, labels alone, a"
            " constant and a random teacher.",
        ),
    ] = False,
    teacher: Annotated[
        str | None,
        typer.Option(help="[default: the data folder's ResNet-56, for its own images]"),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="The teacher's weights.")] = None,
    untrained: Annotated[bool, typer.Option("--untrained", help="Random teacher.")] = False,
    tap: Annotated[list[str] | None, typer.Option(help="Name a teacher's tap.")] = None,
    images: Annotated[
        str | None,
        typer.Option(help="Images to score on, as search --data. [default: cifar10_5k.npz]"),
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Resize them to so many pixels. [default: the benchmark's]")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(help="Option of the space that is scored, e.g. patch_size=4."),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that score; the result is equal.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for tables, picture and raw scores; a stopped one goes on."),
    ] = None,
    plugin: Plugin = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Rank architectures of known accuracy: statistics, intervals, controls of every score.

    Shown for each score and for params, MACs, depth and chance: Kendall's tau with a bootstrap
    interval, Spearman's rho, nDCG, rho in the top tenth, tau inside size strata, pairs of equal
    size, regret under budgets, agreement between seeds.
    """
    load_plugins(plugin)
    from .benchmarks.run import benchmark
    from .console import SearchConsole

    try:
        with SearchConsole(visible=not (quiet or as_json)) as console:
            guide = teacher_of(teacher, images or "", weights, untrained, tap)
            result = benchmark(
                name,
                data=data,
                proxies=proxy,
                truth=truth,
                seeds=seeds,
                seed=seed,
                size=size,
                half=half,
                unique=unique,
                limit=limit,
                controls=controls,
                teacher=guide,
                images=images,
                resolution=resolution,
                options=options_of(option),
                workers=workers,
                out=out,
                command=ctx.obj or "",
                progress=console.update,
            )
    except KeyboardInterrupt:
        if out is None:
            raise
        interrupted(out)
    if as_json:
        print_json(result.to_json())
    elif not quiet:
        from .benchmarks.page import print_benchmark

        print_benchmark(result, out)
