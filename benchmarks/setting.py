"""From names to what is measured: candidates and their truth, images, teacher, spaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data import DataSet, load_data
from ..proxies.batch import Batch
from ..proxies.ensemble import DEFAULT, ensemble_for
from ..proxies.teacher import Teacher
from ..search.settings import ScoreRule
from ..searchspace.architecture import Architecture
from ..searchspace.errors import InvalidInputError, UnknownNameError
from ..searchspace.factory import create_space
from ..searchspace.space import Columns, SearchSpace
from ..teacher import load_teacher
from .metrics import Column, Index
from .registry import IMAGES, TEACHER, WEIGHTS, Benchmark
from .tables import TruthTable

__all__ = ["HALVES", "Candidates", "images_of", "rules_of", "select", "spaces_of", "teacher_of"]

HALVES = ("all", "even", "odd")
_LEAST = 4
#: Between the parts of a score that is a sum of log-ranks, as in ``macs+expr``.
_PLUS = "+"


@dataclass(frozen=True)
class Candidates:
    """What is ranked.

    Attributes:
        archs: architectures, length N.
        truth: accuracies in percent, ``[N]``.
        costs: sizes as trained, name → ``[N]``.
        rows: rows of the table that they stand for, before duplicates became one.
    """

    archs: tuple[Architecture, ...]
    truth: Column
    costs: Columns
    rows: int

    @property
    def clusters(self) -> list[str]:
        """Isomorphism class of each candidate."""
        return [arch.key for arch in self.archs]


def rules_of(names: Sequence[str] | None, family: str) -> list[ScoreRule]:
    """Scores by name: a proxy, an ensemble, or proxies joined by ``+``; Σ log-rank.

    Args:
        names: none: the default ensemble, then each of its parts.
        family: the space's, by which the default ensemble differs.

    Raises:
        UnknownNameError: if one is unknown.
        InvalidInputError: if one names no proxy at all.
    """
    names = names or (DEFAULT, *ensemble_for(DEFAULT, family).parts)
    for name in names:
        if not all(name.split(_PLUS)):
            raise InvalidInputError(
                f"score {name!r} lacks a proxy; write one proxy, an ensemble, or proxies joined by"
                f" {_PLUS}, as in macs{_PLUS}expr"
            )
    return [ScoreRule.of(name.split(_PLUS), family) for name in dict.fromkeys(names)]


def images_of(folder: Path, images: str | None, size: int, seeds: Sequence[int]) -> list[Batch]:
    """A batch of training images for every seed."""
    data: DataSet = load_data(folder / IMAGES if images is None else images)
    return [data.batch(size, seed) for seed in seeds]


def teacher_of(folder: Path, teacher: Any, *, needed: bool, ours: bool) -> Teacher | None:
    """The teacher given, else the one that the data folder has for its own images.

    Args:
        folder: the data folder.
        teacher: as :func:`~scholarch.teacher.load_teacher` takes it, or ``None``.
        needed: whether a score takes a teacher.
        ours: whether the images are the folder's own, which its teacher was trained on.
    """
    if teacher is not None:
        return teacher if isinstance(teacher, Teacher) else load_teacher(teacher)
    weights = sorted(folder.glob(WEIGHTS)) if needed and ours else []
    return load_teacher(TEACHER, weights=weights[0]) if weights else None


def spaces_of(
    benchmark: Benchmark, batch: Batch, resolution: int | None, options: Mapping[str, Any] | None
) -> tuple[SearchSpace, SearchSpace]:
    """The space that is scored, and the one whose sizes are quoted.

    Args:
        benchmark: which.
        batch: images to score on; their classes and channels are the scored space's.
        resolution: to which images are resized; default the benchmark's, else the images' own.
        options: more of the scored space's, over the benchmark's own.
    """
    if "name" in (options or {}):
        raise InvalidInputError(
            f"option name = {(options or {})['name']!r}: a benchmark is of its own space,"
            f" {benchmark.space!r}; leave the option out"
        )
    own = {
        "num_classes": batch.num_classes,
        "resolution": int(batch.images.shape[-1]),
        "in_channels": int(batch.images.shape[1]),
    }
    asked = {} if resolution is None else {"resolution": resolution}
    scored = create_space(
        benchmark.space, **(own | dict(benchmark.scored) | dict(options or {}) | asked)
    )
    return scored, create_space(benchmark.space, **benchmark.published)


def select(
    table: TruthTable,
    truth: str,
    scored: SearchSpace,
    quoted: SearchSpace,
    *,
    half: str = "all",
    unique: bool = False,
    limit: int | None = None,
    seed: int = 0,
) -> Candidates:
    """The candidates that are ranked.

    Args:
        table: of the benchmark.
        truth: name of a column; rows without a value there are left out.
        scored: space that reads the table's notation.
        quoted: space whose costs are quoted.
        half: ``"even"`` or ``"odd"`` isomorphism groups, or all.
        unique: one candidate, the representative, for each isomorphism class, with the mean
            of its rows' accuracies.
        limit: so many candidates drawn at random; default all.
        seed: of that draw.

    Raises:
        UnknownNameError: if there is no such column.
        InvalidInputError: if a row cannot be read, too few are left, or halves are asked of a
            table without groups.
    """
    if truth not in table.truths:
        raise UnknownNameError("column of accuracies", truth, table.truths)
    if half not in HALVES:
        raise UnknownNameError("half", half, HALVES)
    if limit is not None and (isinstance(limit, bool) or limit < _LEAST):
        raise InvalidInputError(f"limit = {limit!r}; need a whole number of at least {_LEAST}")
    column = table.truths[truth]
    kept = np.isfinite(column)
    if half != "all":
        if table.groups is None:
            raise InvalidInputError(
                f"{table.source} tells no isomorphism groups, so it has no {half} half; leave"
                " the half out"
            )
        kept &= table.groups % 2 == HALVES.index(half) - 1
    rows = np.flatnonzero(kept)
    archs = [_parse(scored, table, int(row)) for row in rows]
    values = column[rows]
    counts = np.ones(len(rows), dtype=np.int64)
    if unique:
        archs, values, counts = _classes(scored, archs, values)
    if limit is not None and limit < len(archs):
        rng = np.random.default_rng([seed, 0x11])
        drawn = np.sort(rng.choice(len(archs), size=limit, replace=False))
        archs, values, counts = [archs[i] for i in drawn], values[drawn], counts[drawn]
    if len(archs) < _LEAST:
        raise InvalidInputError(
            f"{table.source} leaves {len(archs)} candidates; need at least {_LEAST} to rank"
        )
    costs = quoted.cost(scored.encode(archs))
    return Candidates(tuple(archs), values, costs, int(counts.sum()))


def _parse(space: SearchSpace, table: TruthTable, row: int) -> Architecture:
    try:
        return space.parse(table.archs[row])
    except InvalidInputError as error:
        raise InvalidInputError(f"{table.source}, row {row + 1}: {error}") from error


def _classes(
    space: SearchSpace, archs: Sequence[Architecture], values: Column
) -> tuple[list[Architecture], Column, Index]:
    """One architecture an isomorphism class, the mean of its values, and how many there were."""
    if not archs:
        return [], values, np.zeros(0, dtype=np.int64)
    place: dict[str, int] = {}
    member = np.array([place.setdefault(arch.key, len(place)) for arch in archs], dtype=np.int64)
    counts = np.bincount(member)
    mean = np.bincount(member, values) / counts
    first = np.unique(member, return_index=True)[1]
    rows = space.canonical(space.encode([archs[i] for i in first]))
    return space.decode(rows), mean, counts
