"""Which blocks a space is made of, and which of them an architecture has where.

A *slot* is a place in the networks of a space; which block stands there depends on a few genes
alone. Both are found by building networks on shapes, and checked on architectures that nothing
was found from, so that a space, a user's own included, needs to declare neither.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ..architecture import Architecture
from ..errors import InvalidInputError
from ..space import Matrix, SearchSpace
from .cut import Chunk, cut

__all__ = ["Block", "BlockPlan", "Slot", "plan_blocks"]

#: A slot whose genes have more combinations is cut into its children.
MOST_COMBINATIONS = 1000

_BASES = 1
_HELD_OUT = 24
_ROUNDS = 6
_DRAWS = 8

#: Rows looked up at a time: their columns stay in the processor's cache.
_CHUNK = 8192

Cut = dict[str, str]
"""Path → key of the block there, of one architecture."""


@dataclass(frozen=True, slots=True)
class Block:
    """A distinct piece of network, to be timed once.

    Attributes:
        key: its input and layers in words; equal for equal blocks.
        row: gene indices of an architecture that holds it.
        path: where in that architecture's network.
    """

    key: str
    row: tuple[int, ...]
    path: str


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """A place in the networks of a space.

    Attributes:
        path: in the network, e.g. ``"stages.1.2"``.
        columns: genes that decide which block stands there.
        index: block of each combination of their values, ``[∏ values]``, row-major; -1: none.
    """

    path: str
    columns: tuple[int, ...]
    index: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class BlockPlan:
    """A space's slots and distinct blocks at one resolution.

    Attributes:
        cardinalities: values of each gene.
        slots: in the order in which they run.
        blocks: what the slots' indices mean.
        finer: classes of modules that were cut into their children.
    """

    cardinalities: tuple[int, ...]
    slots: tuple[Slot, ...]
    blocks: tuple[Block, ...]
    finer: frozenset[str]

    def codes(self, slot: Slot, matrix: Matrix) -> npt.NDArray[np.int64]:
        """Place of each row's combination in :attr:`Slot.index`, ``[N]``."""
        code = np.zeros(len(matrix), dtype=np.int64)
        for column in slot.columns:
            code *= self.cardinalities[column]
            code += matrix[:, column]
        return code

    def indices(self, matrix: Matrix) -> npt.NDArray[np.int64]:
        """Block in each slot, ``[N, slots]``; -1 where there is none."""
        columns = [slot.index[self.codes(slot, matrix)] for slot in self.slots]
        return np.stack(columns, axis=1)

    def total(self, values: npt.NDArray[np.float64], matrix: Matrix) -> npt.NDArray[np.float64]:
        """Sum over each row's blocks of a number a block has, ``[N]``."""
        padded = np.append(values, 0.0)  # -1, no block, is the last
        looked_up = [(slot, padded[slot.index]) for slot in self.slots]
        total = np.zeros(len(matrix))
        for begin in range(0, len(matrix), _CHUNK):
            rows = np.asfortranarray(matrix[begin : begin + _CHUNK])  # read column by column
            part = total[begin : begin + _CHUNK]
            for slot, times in looked_up:
                part += times[self.codes(slot, rows)]
        return total

    def counts(self, matrix: Matrix) -> npt.NDArray[np.float64]:
        """How often each row has each block, ``[N, blocks]``."""
        found = np.zeros((len(matrix), len(self.blocks) + 1))
        rows = np.arange(len(matrix))
        for column in self.indices(matrix).T:
            np.add.at(found, (rows, column), 1.0)
        return found[:, :-1]


def plan_blocks(space: SearchSpace, *, progress: Callable[[str], None] | None = None) -> BlockPlan:
    """Find the slots and blocks of a space at its resolution.

    Raises:
        InvalidInputError: if no few genes decide on each block, as in NAS-Bench-101's cells;
            names the way out.
    """
    finer: frozenset[str] = frozenset()
    while True:
        cutter = _Cutter(space, finer)
        try:
            return _plan(cutter, progress or (lambda _: None))
        except _TooManyError as error:
            if not error.inside or error.inside in finer:
                raise InvalidInputError(
                    f"the networks of space {space.name!r} cannot be cut into blocks: what stands"
                    f" at {error.path!r} depends on {len(error.columns)} genes at once; measure"
                    " whole networks instead (scholarch latency fit)"
                ) from None
            finer |= {error.inside}


class _TooManyError(Exception):
    def __init__(self, path: str, columns: Sequence[int], inside: str) -> None:
        super().__init__(path)
        self.path, self.columns, self.inside = path, columns, inside


class _Cutter:
    """Cuts architectures, each once."""

    def __init__(self, space: SearchSpace, finer: frozenset[str]) -> None:
        self.space = space
        self.finer = finer
        self.cardinalities = tuple(len(gene.values) for gene in space.genes)
        self.order: dict[str, None] = {}
        self.inside: dict[str, str] = {}
        self._known: dict[bytes, Cut] = {}

    def __call__(self, row: npt.NDArray[np.int64]) -> Cut:
        code = row.tobytes()
        if code not in self._known:
            self._known[code] = self._cut(row)
        return self._known[code]

    def _cut(self, row: npt.NDArray[np.int64]) -> Cut:
        found = cut_row(self.space, row, self.finer)
        for chunk in found:
            self.inside.setdefault(chunk.path, chunk.inside)
        paths = [chunk.path for chunk in found]
        if not set(paths) <= set(self.order):
            self.order = dict.fromkeys(_merge_orders(list(self.order), paths))
        return {chunk.path: chunk.key for chunk in found}


def cut_row(space: SearchSpace, row: npt.NDArray[np.int64], finer: frozenset[str]) -> list[Chunk]:
    """The blocks of one architecture, on shapes alone."""
    network = shapes_of(space, space.decode(row[None])[0])
    return cut(network, space.input_shape(), finer)


def shapes_of(space: SearchSpace, arch: Architecture) -> nn.Module:
    """An architecture's network without memory, where its space can build one, else with it."""
    try:
        with torch.device("meta"):
            return space.build(arch)
    except (RuntimeError, NotImplementedError):
        return space.build(arch)  # a plug-in's, which draws its weights on the way


def _merge_orders(first: list[str], second: list[str]) -> list[str]:
    """Both lists in one, each in its own order where they agree."""
    merged, known = list(first), set(first)
    at = 0
    for name in second:
        if name in known:
            at = max(at, merged.index(name) + 1)
        else:
            merged.insert(at, name)
            known.add(name)
            at += 1
    return merged


def _plan(cutter: _Cutter, progress: Callable[[str], None]) -> BlockPlan:
    space = cutter.space
    rng = np.random.default_rng(0)
    last = np.array(cutter.cardinalities, dtype=np.int64) - 1
    bases = [last, *space.sample_matrix(_BASES, rng)]
    bases = [row for row in bases if space.valid(row[None])[0]]
    held_out = [row for row in space.sample_matrix(_HELD_OUT, rng) if space.valid(row[None])[0]]
    depends: dict[str, set[int]] = {}
    for _ in range(_ROUNDS):
        progress("which genes decide on which block")
        for row in bases:
            _learn(cutter, row, depends)
        progress("which blocks there are")
        tables, wrong = _enumerate(cutter, depends, rng)
        wrong += [row for row in held_out if _predict(tables, depends, row) != cutter(row)]
        if not wrong:
            return _as_plan(cutter, tables, depends)
        bases = wrong[:2]
    path = min(cutter(bases[0]).items() ^ _predict(tables, depends, bases[0]).items())[0]
    raise _TooManyError(path, sorted(depends.get(path, ())), cutter.inside.get(path, ""))


def _learn(cutter: _Cutter, base: npt.NDArray[np.int64], depends: dict[str, set[int]]) -> None:
    """Change one gene at a time, and note what changes with it."""
    before = cutter(base)
    for column, count in enumerate(cutter.cardinalities):
        for value in range(count):
            if value == base[column]:
                continue
            row = base.copy()
            row[column] = value
            if not cutter.space.valid(row[None])[0]:
                continue
            after = cutter(row)
            for path in before.keys() | after.keys():
                columns = depends.setdefault(path, set())
                if before.get(path) != after.get(path):
                    columns.add(column)
            _check(cutter, depends)


def _check(cutter: _Cutter, depends: Mapping[str, set[int]]) -> None:
    for path, columns in depends.items():
        if math.prod(cutter.cardinalities[c] for c in columns) > MOST_COMBINATIONS:
            raise _TooManyError(path, sorted(columns), cutter.inside.get(path, ""))


Table = dict[tuple[int, ...], tuple[str | None, tuple[int, ...]]]
"""Values of a slot's genes → key of the block, if any, and a row that has it there."""


def _enumerate(
    cutter: _Cutter, depends: Mapping[str, set[int]], rng: np.random.Generator
) -> tuple[dict[str, Table], list[npt.NDArray[np.int64]]]:
    """The block of every combination in every slot, from as few networks as will do.

    Each network is filled greedily: slot by slot a combination that is still missing, as far as
    the genes set so far allow. Ends early where two networks contradict each other: the second
    returned list holds the row that shows that a slot hangs on more genes.
    """
    todo: dict[str, set[tuple[int, ...]]] = {}
    columns = {path: tuple(sorted(found)) for path, found in depends.items()}
    for path, own in columns.items():
        every = itertools.product(*(range(cutter.cardinalities[c]) for c in own))
        todo[path] = set(every)
    tables: dict[str, Table] = {path: {} for path in columns}
    while any(todo.values()):
        row = _fill(cutter, columns, todo, rng)
        found = cutter(row)
        for path in [*columns, *(found.keys() - columns.keys())]:
            own = columns.get(path, ())
            combination = tuple(int(row[c]) for c in own)
            todo.setdefault(path, set()).discard(combination)
            known = tables.setdefault(path, {}).setdefault(
                combination, (found.get(path), tuple(row.tolist()))
            )
            if known[0] != found.get(path):
                return tables, [row]
    return tables, []


def _fill(
    cutter: _Cutter,
    columns: Mapping[str, tuple[int, ...]],
    todo: dict[str, set[tuple[int, ...]]],
    rng: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """A row with combinations that are still missing; what no row can have is struck off."""
    fixed: dict[int, int] = {}
    # The slot with most to do goes first: it is sure to get one.
    for path in sorted(todo, key=lambda path: -len(todo[path])):
        own = columns.get(path, ())
        for combination in sorted(todo[path]):
            wanted = dict(zip(own, combination, strict=True))
            if any(fixed.get(c, v) != v for c, v in wanted.items()):
                continue
            if _valid(cutter.space, fixed | wanted):
                fixed |= wanted
                break
            if not fixed:
                todo[path].discard(combination)
    wanted_columns = list(fixed)
    row: npt.NDArray[np.int64]
    for row in cutter.space.sample_matrix(_DRAWS, rng):
        row[wanted_columns] = [fixed[column] for column in wanted_columns]
        if cutter.space.valid(row[None])[0]:
            return row
    row = np.zeros(len(cutter.space.genes), dtype=np.int64)
    row[wanted_columns] = [fixed[column] for column in wanted_columns]
    return row


def _valid(space: SearchSpace, fixed: Mapping[int, int]) -> bool:
    row = np.zeros(len(space.genes), dtype=np.int64)
    for column, value in fixed.items():
        row[column] = value
    return bool(space.valid(row[None])[0])


def _predict(
    tables: Mapping[str, Table], depends: Mapping[str, Iterable[int]], row: npt.NDArray[np.int64]
) -> Cut:
    """What the tables say of an architecture."""
    found = {}
    for path, table in tables.items():
        combination = tuple(int(row[c]) for c in sorted(depends.get(path, ())))
        key = table.get(combination, (None, ()))[0]
        if key is not None:
            found[path] = key
    return found


def _as_plan(
    cutter: _Cutter, tables: Mapping[str, Table], depends: Mapping[str, set[int]]
) -> BlockPlan:
    blocks: dict[str, Block] = {}
    numbers: dict[str, int] = {}
    slots = []
    for path in cutter.order:
        table = tables[path]
        columns = tuple(sorted(depends.get(path, ())))
        index = np.full(math.prod(cutter.cardinalities[c] for c in columns), -1, dtype=np.int64)
        for combination, (key, row) in table.items():
            if key is None:
                continue
            if key not in blocks:
                numbers[key] = len(blocks)
                blocks[key] = Block(key, row, path)
            code = 0
            for column, value in zip(columns, combination, strict=True):
                code = code * cutter.cardinalities[column] + value
            index[code] = numbers[key]
        slots.append(Slot(path, columns, index))
    return BlockPlan(cutter.cardinalities, tuple(slots), tuple(blocks.values()), cutter.finer)
