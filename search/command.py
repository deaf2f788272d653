"""The shell lines that repeat searches which were started from Python."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from ..proxies.batch import Batch
from ..proxies.teacher import Teacher
from ..searchspace.latency import device_of
from ..searchspace.space import SearchSpace
from .budget import Budget

__all__ = ["command_line", "line_of"]

#: Costs whose option on the command line has a shorter name.
_BOUNDS = {"peak_memory": "memory", "weight_memory": "weights"}


def command_line(
    space: SearchSpace,
    batch: Batch,
    teacher: Teacher | None,
    budget: Budget,
    proxies: Sequence[str] | None,
    searcher: str,
    evaluations: int,
    seed: int,
    out: str | Path | None,
    tables: Sequence[str | Path] = (),
    options: Mapping[str, tuple[str, str]] = MappingProxyType({}),
) -> str:
    """The shell line of a search that was started from Python, as far as there is one."""
    words = ["--space", space.name, "--data", batch.name]
    if teacher is not None:
        words += ["--teacher", teacher.name, *([] if teacher.trained else ["--untrained"])]
    for name in proxies or ():
        words += ["--proxy", name]
    own = {"searcher": searcher, "evaluations": evaluations, "seed": seed}
    counts = {name: (str(value), "") for name, value in own.items()}
    counts["batch-size"] = (str(len(batch)), "")
    return line_of(words, budget, tables, {**counts, **options}, out)


def line_of(
    words: Sequence[str],
    budget: Budget,
    tables: Sequence[str | Path],
    options: Mapping[str, tuple[str, str]],
    out: str | Path | None,
) -> str:
    """A shell line of ``scholarch search``; options of their default value are left out."""
    words = ["scholarch", "search", *words]
    paths = {device_of(path): str(path) for path in tables}
    for name, bound in budget.bounds.items():
        kind, _, device = name.partition(":")
        option = _BOUNDS.get(kind, kind)
        table = f"ms@{paths.get(device, device)}" if device else ""
        words += [f"--max-{option}", f"{bound:.12g}{table}"]
    for option, (value, default) in options.items():
        words += [f"--{option}", value] if value != default else []
    words += ["--out", str(out) if out is not None else "RUN"]
    return shlex.join(words)
