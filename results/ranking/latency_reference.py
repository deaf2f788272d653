"""Where and how large the reference sample: chosen on the even half, before all was searched.

    python results/ranking/latency_reference.py --data FOLDER --scores SCORES

``SCORES`` are those of ``latency_search.py``. Here the cells of even ``iso_group`` are all that
there is: budgets are quantiles over them, every feasible class is ranked by the default ensemble
against a drawn reference sample, and the best-scored is the pick; no searcher. Each draw takes the
scores of one seed of two. Nothing of the other half is read.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _common import Column, machine, markdown_table
from latency_lookup import TABLE, Cells, Reference, read_cells, read_scores, scored_space
from latency_search import DEVICES

from scholarch.benchmarks.measure import TRAINED
from scholarch.benchmarks.setting import rules_of
from scholarch.benchmarks.tables import read_rows
from scholarch.proxies.ensemble import DEFAULT
from scholarch.search.settings import ScoreRule

Rows = npt.NDArray[np.int64]

QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75)
SIZE, SEEDS = 16, 2
#: Of the best-scored, how many another seed scores again.
AGAIN = 10
ALL = 10**6
#: Reference, and how many of the best-scored are scored again.
TRIED = (
    *((Reference(size), 0) for size in (32, 64, 128, 256, ALL)),
    (Reference(64), AGAIN),
    (Reference(128), AGAIN),
    *((Reference(size, whole=True), 0) for size in (64, 128, ALL)),
    (Reference(64, whole=True), AGAIN),
)


@dataclass(frozen=True)
class Budgeted:
    """One budget on one device.

    Attributes:
        quantile: of the device's latencies over the even half.
        classes: row of the fastest cell of each class.
        feasible: those inside the budget.
        best: accuracy of the best feasible row, in percent.
    """

    quantile: float
    classes: Rows
    feasible: Rows
    best: float


def budgets(cells: Cells, even: npt.NDArray[np.bool_]) -> Iterator[Budgeted]:
    for device in DEVICES:
        latency = cells.latency[device]
        fastest: dict[str, int] = {}
        for row in np.argsort(latency, kind="stable").tolist():
            if even[row]:
                fastest.setdefault(cells.archs[row].key, row)
        classes = np.array(list(fastest.values()))
        for quantile in QUANTILES:
            bound = float(np.quantile(latency[even], quantile))
            best = float(cells.truth["cifar10"][even & (latency <= bound)].max())
            yield Budgeted(quantile, classes, classes[latency[classes] <= bound], best)


def scores(
    where: Budgeted,
    columns: Callable[[int], Mapping[str, Column]],
    rule: ScoreRule,
    tried: tuple[Reference, int],
    draw: int,
) -> Column:
    """Of the feasible classes, against the sample of a draw, by the seed whose turn it is."""
    reference, again = tried
    pool = where.classes if reference.whole else where.feasible
    sample = np.random.default_rng([draw, 17]).permutation(pool)[: reference.size]

    def of(seed: int) -> Column:
        known = columns(seed % SEEDS)
        return rule(
            {part: known[part][where.feasible] for part in rule.parts},
            {part: known[part][sample] for part in rule.parts},
        )

    found = of(draw)
    if not again:
        return found
    top = np.argsort(-found)[:again]
    better = np.full(len(found), -np.inf)
    better[top] = (found[top] + of(draw + 1)[top]) / 2.0
    return better


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("SCHOLARCH_DATA"))
    parser.add_argument("--scores", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=60, help="of the reference sample")
    given = parser.parse_args()
    if given.data is None:
        sys.exit("ranking: skipped; give --data or set SCHOLARCH_DATA to the real data")
    data = Path(given.data)
    rule = rules_of((DEFAULT,), "convnet")[0]
    cells = read_cells(data, scored_space(data, SIZE), DEVICES)
    found = read_scores(given.scores, data, cells, [rule], SIZE, SEEDS)
    groups = np.array([int(row["iso_group"]) for row in read_rows(data / TABLE)])
    everywhere = list(budgets(cells, groups % 2 == 0))
    truth = cells.truth["cifar10"]
    lines = []
    for tried in TRIED:
        reference, again = tried
        size = "all" if reference.size == ALL else str(reference.size)
        line: dict[str, object] = {
            "reference": f"{size}, {'the whole space' if reference.whole else 'inside the budget'}"
            + (f"; {again} best by two seeds" if again else "")
        }
        for quantile in QUANTILES:
            lost, taus = [], []
            for where in (w for w in everywhere if w.quantile == quantile):
                for draw in range(given.draws):
                    score = scores(
                        where, lambda seed: found[seed].candidates[TRAINED], rule, tried, draw
                    )
                    lost.append(where.best - truth[where.feasible[score.argmax()]])
                    if not again:
                        taus.append(stats.kendalltau(score, truth[where.feasible]).statistic)
            tau = f" ({np.mean(taus):.3f})" if taus else ""
            line[f"{quantile:.0%}"] = f"{np.mean(lost):.2f}{tau}"
        lines.append(line)
        print(line, flush=True)
    print(markdown_table(lines), f"\n{given.draws} draws.", machine(), sep="\n")


if __name__ == "__main__":
    main()
