"""Searches of NAS-Bench-201 whose scores were measured before: lookups and no network.

What is searched is a latency table of the fastest cell of each isomorphism class: cells of a
class have one score, and whoever has the choice deploys the fastest.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _common import Column, write_csv

from scholarch.benchmarks.measure import TRAINED, Measurement, SeedScores
from scholarch.benchmarks.registry import get_benchmark
from scholarch.benchmarks.run import STORE
from scholarch.benchmarks.setting import images_of, spaces_of
from scholarch.benchmarks.tables import read_rows
from scholarch.proxies.score_table import CandidateScore
from scholarch.search.budget import Budget
from scholarch.search.domain import Domain
from scholarch.search.engine import Engine
from scholarch.search.find import REFERENCE_SIZE
from scholarch.search.run import SearchRun
from scholarch.search.settings import RunSettings, ScoreRule
from scholarch.search.store import RunStore
from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.cells.nasbench201 import PLACES
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.latency import load_table
from scholarch.searchspace.space import Columns, Matrix, SearchSpace

TABLE = "nasbench201_open_half.csv.gz"
LATENCIES = "nasbench201_latency_open_half.csv.gz"
TRUTHS = ("cifar10", "cifar100")
SEARCHER = "nsga2"
#: Of the representative, as scored; needs no measuring.
PARAMS = "params"


@dataclass(frozen=True)
class Cells:
    """Every row of the benchmark's open half.

    Attributes:
        archs: length N.
        truth: data set → accuracies in percent, ``[N]``.
        latency: device → ms, ``[N]``.
    """

    archs: tuple[Architecture, ...]
    truth: dict[str, Column]
    latency: dict[str, Column]


def scored_space(data: Path, size: int) -> SearchSpace:
    """The space that the benchmark scores, for CIFAR-10 images."""
    batch = images_of(data, None, size, [0])[0]
    return spaces_of(get_benchmark("nasbench201"), batch, None, None)[0]


def read_cells(data: Path, space: SearchSpace, devices: Sequence[str]) -> Cells:
    """Accuracies and latencies, joined by ``idx``."""
    rows = read_rows(data / TABLE)
    measured = {row["idx"]: row for row in read_rows(data / LATENCIES)}
    return Cells(
        tuple(space.parse(row["arch_str"]) for row in rows),
        {name: np.array([float(row[name]) for row in rows]) for name in TRUTHS},
        {name: np.array([float(measured[row["idx"]][name]) for row in rows]) for name in devices},
    )


class Stored(Measurement):
    """Reads what was measured, and measures nothing."""

    def _engine(self, proxies: Sequence[str], *_: object) -> Engine:
        raise InvalidInputError(
            f"the folder of scores lacks values of {', '.join(proxies)}; repeat the benchmark's"
            " command, which goes on where it stopped"
        )


def read_scores(
    folder: Path, data: Path, cells: Cells, rules: Sequence[ScoreRule], size: int, seeds: int
) -> list[SeedScores]:
    """What ``scholarch benchmark nasbench201 --out FOLDER`` measured, seed by seed."""
    space = scored_space(data, size)
    with closing(RunStore(folder / STORE, readonly=True)) as store:
        stored = Stored(space, cells.archs, [r for r in rules if r.name != PARAMS], store)
        found = [
            stored.seed(seed, batch, {})
            for seed, batch in enumerate(images_of(data, None, size, range(seeds)))
        ]
    canonical = space.canonical(space.encode(cells.archs))
    for scores in found:
        scores.candidates[TRAINED][PARAMS] = space.cost(canonical)[PARAMS]
    return found


def remember(space: SearchSpace) -> None:
    """Look keys and costs up that thousands of searches ask for again and again."""
    every = space.enumerate_matrix()
    keys, costs = space.keys(every), space.cost(every)

    def keys_of(matrix: Matrix) -> list[str]:
        return [keys[code] for code in (matrix @ PLACES).tolist()]

    def cost_of(archs: Sequence[Architecture] | Matrix) -> Columns:
        matrix = archs if isinstance(archs, np.ndarray) else space.encode(archs)
        return {name: column[matrix @ PLACES] for name, column in costs.items()}

    vars(space).update(keys=keys_of, cost=cost_of)


class Lookup:
    """An engine that knows every score by isomorphism class."""

    def __init__(self, cells: Cells, scores: SeedScores) -> None:
        row = {arch.key: i for i, arch in enumerate(cells.archs)}
        self._row, self._columns = row, scores.candidates[TRAINED]

    def score(
        self,
        archs: Sequence[Architecture],
        *,
        progress: Callable[[int], None] | None = None,  # noqa: ARG002
    ) -> list[dict[str, CandidateScore]]:
        values = [
            {name: float(column[self._row[arch.key]]) for name, column in self._columns.items()}
            for arch in archs
        ]
        why = "failed when it was measured"
        return [
            {name: CandidateScore(v, why if math.isnan(v) else None) for name, v in found.items()}
            for found in values
        ]

    def fingerprint(self, rule: ScoreRule) -> str:
        """Of the columns that a rule reads."""
        columns = b"".join(self._columns[part].tobytes() for part in rule.parts)
        return hashlib.sha256(columns).hexdigest()[:12]

    def close(self) -> None:
        """Nothing to give back."""


@dataclass(frozen=True)
class Reference:
    """The sample that ranks are taken against.

    Attributes:
        size: architectures.
        whole: drawn from all that the table knows, not from those inside the budget. Those
            outside are scored as well, so that as many fewer evaluations are left.
    """

    size: int = REFERENCE_SIZE
    whole: bool = False

    def __str__(self) -> str:
        return f"{self.size} {'of all' if self.whole else 'inside'}"


@dataclass(frozen=True)
class Place:
    """One device: its table, attached to a space of its own.

    Attributes:
        device: its name.
        space: that knows the table's cells alone.
        row: class → row of its fastest cell.
        slowest: of these, in ms.
    """

    device: str
    space: SearchSpace
    row: Mapping[str, int]
    slowest: float

    @classmethod
    def of(cls, device: str, cells: Cells, data: Path, size: int) -> Place:
        """Write the device's table as a file, and attach that."""
        row: dict[str, int] = {}
        for i in np.argsort(cells.latency[device], kind="stable").tolist():
            row.setdefault(cells.archs[i].key, i)
        space = scored_space(data, size)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{device}.csv"
            write_csv(
                path,
                [
                    {"arch": cells.archs[i].text, "latency_ms": cells.latency[device][i]}
                    for i in row.values()
                ],
            )
            space.attach(load_table(path, space))
        remember(space)
        return cls(device, space, row, float(cells.latency[device][list(row.values())].max()))

    def search(
        self,
        bound: float,
        rule: ScoreRule,
        engine: Lookup,
        seed: int,
        evaluations: int,
        reference: Reference,
    ) -> int | None:
        """One search under ``latency ≤ bound``; the row of its pick, ``None`` if all failed."""
        cost = f"latency:{self.device}"
        domain = Domain(self.space, Budget({cost: bound}), seed=seed)
        # A run that sees every cell picks the same one, however it got there: take the short way.
        least = evaluations - reference.size if reference.whole else evaluations
        exhausts = domain.size is not None and domain.size <= least
        settings = RunSettings(
            space=self.space.spec(),
            data={"name": "", "fingerprint": ""},
            teacher=None,
            score={
                "name": rule.name,
                "parts": list(rule.parts),
                "version": rule.version,
                "objectives": [cost],
                **({"weights": list(rule.weights)} if rule.weights else {}),
            },
            proxies=dict.fromkeys(rule.parts, 1),
            searcher="random" if exhausts else SEARCHER,
            seed=seed,
            budget=dict(domain.budget.bounds),
            reference_size=reference.size,
            costs=list(self.space.cost_names),
            tables={},
        )
        with closing(RunStore(":memory:")) as store:
            run = _Run(domain, settings, rule, engine, store, evaluations)
            if reference.whole:
                run.every = Domain(self.space, Budget({cost: self.slowest}), seed=seed)
            run.run()
            return self.best(run.objectives)

    def best(self, objectives: Mapping[str, Sequence[float]]) -> int | None:
        """The row that a search picks: the best score, of equals the fastest, then the key.

        Args:
            objectives: class → minus the score, and the latency.
        """
        scored = {key: v for key, v in objectives.items() if np.isfinite(v).all()}
        return self.row[min(scored, key=lambda key: (*scored[key], key))] if scored else None


class _Run(SearchRun):
    """A search that shows what it saw.

    Attributes:
        every: where the reference sample is drawn, if not inside the budget.
    """

    every: Domain | None = None

    def _reference(self) -> Matrix:
        if self.every is None:
            return super()._reference()
        inside, self.domain = self.domain, self.every
        rows = super()._reference()
        self.domain = inside
        feasible = inside.feasible(rows)
        self.evaluations -= int((~feasible).sum())
        return rows[feasible]

    @property
    def objectives(self) -> dict[str, list[float]]:
        return {key: values.tolist() for key, values in self._seen.items()}
