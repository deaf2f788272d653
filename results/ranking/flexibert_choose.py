"""Which measurements rank the FlexiBERT encoders: on the half that may be used for choosing.

    python results/ranking/flexibert_choose.py --data FOLDER [--bank CSV ...]

Of the 250 rows in the order of ``id``, those at even positions are the choice half; of the
others this reads no accuracy. A score is the mean over seeds; a combination is the sum of the
parts' log rank fractions among the choice half. Kendall's τ-b against ``glue``; inside strata
it is over the pairs of the same depth, of the same depth and width, or of |Δ ln params| < .15.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import itertools
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _common import markdown_table, read_csv

from scholarch.proxies.ranks import ReferenceRank

Column = npt.NDArray[np.float64]

TABLE = "flexibert_open_half.csv.gz"
RESAMPLES = 200
SPLITS = 200
NEAR = 0.15
#: What a search over vision Transformers can measure as well, in one form each.
POOL = (
    "params",
    "macs",
    "depth",
    "layers-weighted",
    "params-sumlog",
    "heads",
    "expr",
    "expr-sub",
    "az-progressivity",
    "az-trainability",
    "snip-cls",
    "grad-norm-cls",
    "fisher-cls",
    "jacov",
    "zico",
    "naswot",
    "dss-log",
    "head-confidence-sum",
)
#: What the issue asks every choice to beat.
FLOOR = "macs + expr"
KEYS = ("id", "build", "inputs", "seed")


def choice_half(data: Path) -> dict[str, float]:
    """``glue`` by ``id`` of the completed rows at even positions."""
    with gzip.open(data / TABLE, "rt", encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["id"]))[0::2]
    return {row["id"]: float(row["glue"]) for row in rows if row["completed"] == "True"}


def scores(bank: Sequence[Mapping[str, str]], ids: Sequence[str]) -> dict[str, Column]:
    """Means over seeds, one entry an id."""
    lines: dict[str, list[list[float]]] = {name: [] for name in ids}
    names = [name for name in bank[0] if name not in KEYS]
    for line in bank:
        if line["id"] in lines:
            lines[line["id"]].append([float(line[name]) for name in names])
    table = np.array([np.mean(lines[name], axis=0) for name in ids])
    return dict(zip(names, table.T, strict=True))


class Pairs:
    """All pairs of N rows, and Kendall's τ-b over any part of them.

    Args:
        truth: ``[N]``.
        depth: likewise.
        hidden: likewise.
        params: likewise.
    """

    def __init__(self, truth: Column, depth: Column, hidden: Column, params: Column) -> None:
        self.i, self.j = np.triu_indices(len(truth), 1)
        self.truth = self.signs(truth)
        same = depth[self.i] == depth[self.j]
        size = np.log(params)
        self.strata = {
            "all": np.ones(len(self.i), dtype=bool),
            "depth": same,
            "depth+width": same & (hidden[self.i] == hidden[self.j]),
            "params": np.abs(size[self.i] - size[self.j]) < NEAR,
        }

    def signs(self, column: Column) -> npt.NDArray[np.int8]:
        return np.sign(column[self.i] - column[self.j]).astype(np.int8)

    def tau(self, signs: npt.NDArray[np.int8], weights: Column) -> Column:
        """τ-b, the pairs weighted.

        Args:
            signs: ``[..., pairs]``.
            weights: ``[pairs]`` or, for several at once, ``[pairs, R]``.
        """
        agree = (signs * self.truth).astype(np.float32) @ weights
        told = np.abs(signs).astype(np.float32) @ weights
        other = np.abs(self.truth).astype(np.float32) @ weights
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(agree / np.sqrt(told * other))

    def resamples(self, rows: int) -> Column:
        """Weights of bootstrap samples of the rows, ``[pairs, RESAMPLES]``."""
        rng = np.random.default_rng(0)
        drawn = rng.multinomial(rows, np.full(rows, 1.0 / rows), size=RESAMPLES).T
        return (drawn[self.i] * drawn[self.j]).astype(np.float32)

    def halves(self, rows: int) -> tuple[Column, Column]:
        """Weights of random halves of the rows and of the rest, ``[pairs, SPLITS]`` each."""
        rng = np.random.default_rng(1)
        side = np.array([rng.permutation(rows) < rows // 2 for _ in range(SPLITS)]).T
        first = side[self.i] & side[self.j]
        rest = ~side[self.i] & ~side[self.j]
        return first.astype(np.float32), rest.astype(np.float32)


def _lines(
    pairs: Pairs,
    names: Sequence[str],
    signs: npt.NDArray[np.int8],
    floor: npt.NDArray[np.int8],
    rows: int,
) -> list[dict[str, object]]:
    taus = {key: pairs.tau(signs, part.astype(np.float32)) for key, part in pairs.strata.items()}
    drawn = pairs.tau(signs, pairs.resamples(rows))
    errors, gains = drawn.std(axis=1), (drawn - pairs.tau(floor[None], pairs.resamples(rows)))
    return [
        {"what": name}
        | {("τ" if key == "all" else f"in {key}"): f"{t[k]:.3f}" for key, t in taus.items()}
        | {"± τ": f"{errors[k]:.3f}", "over floor": f"{gains[k].mean():+.3f}"}
        | {"± over": f"{gains[k].std():.3f}"}
        for k, name in enumerate(names)
    ]


def combinations(columns: Mapping[str, Column], pool: Sequence[str]) -> dict[str, Column]:
    """Σ log rank fraction of all sets of 2, 3 and 4 of the pool."""
    logs = {name: ReferenceRank(columns[name]).log(columns[name]) for name in pool}
    return {
        " + ".join(parts): np.sum([logs[name] for name in parts], axis=0)
        for size in (2, 3, 4)
        for parts in itertools.combinations(pool, size)
    }


def report(title: str, columns: dict[str, Column], truth: Column, pool: Sequence[str]) -> None:
    """Print the tables of one build and input."""
    rows = len(truth)
    pairs = Pairs(truth, columns["depth"], columns["hidden"], columns["params"])
    print(f"\n# {title}: {rows} rows\n")
    # A constant column (depth inside a stratum of depth) has no τ there: nan.
    mixed = combinations(columns, pool)
    floor = pairs.signs(mixed[FLOOR])
    singles = list(columns)
    single_signs = np.array([pairs.signs(columns[n]) for n in singles])
    table = _lines(pairs, singles, single_signs, floor, rows)
    print(markdown_table(sorted(table, key=lambda line: -float(str(line["τ"])))))
    print("\n## Pairs of parts with expr, and the floor\n")
    some = [n for n in mixed if "expr" in n.split(" + ") and n.count("+") == 1]
    some_signs = np.array([pairs.signs(mixed[n]) for n in some])
    print(markdown_table(_lines(pairs, some, some_signs, floor, rows)))
    names = list(mixed)
    signs = np.array([pairs.signs(mixed[n]) for n in names])
    taus = pairs.tau(signs, pairs.strata["all"].astype(np.float32))
    best = np.argsort(-taus)[:40]
    print(f"\n## Best 40 of {len(names)} combinations\n")
    print(markdown_table(_lines(pairs, [names[k] for k in best], signs[best], floor, rows)))
    top = np.argsort(-taus)[:100]
    counts = {n: sum(n in names[k].split(" + ") for k in top) for n in pool}
    print("\nin the best 100:", ", ".join(f"{n} {c}" for n, c in counts.items() if c))
    first, rest = pairs.halves(rows)
    inside, outside = pairs.tau(signs, first), pairs.tau(signs, rest)
    chosen = inside.argmax(axis=0)
    columns_of = np.arange(SPLITS)
    print(
        f"chosen on a random half: τ {inside[chosen, columns_of].mean():.3f} there,"
        f" {outside[chosen, columns_of].mean():.3f} on the rest; on the rest also",
        ", ".join(
            f"{n} {pairs.tau(pairs.signs(columns[n])[None], rest).mean():.3f}"
            for n in ("params", "macs", "depth", "layers-weighted")
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("SCHOLARCH_DATA"))
    parser.add_argument(
        "--bank",
        type=Path,
        nargs="+",
        default=[Path(__file__).resolve().parent / "flexibert_bank.csv"],
    )
    given = parser.parse_args()
    if given.data is None:
        sys.exit("flexibert_choose: skipped; give --data or set SCHOLARCH_DATA to the real data")
    bank = [line for path in given.bank for line in read_csv(path)]
    truth = choice_half(given.data)
    for build, inputs in dict.fromkeys((line["build"], line["inputs"]) for line in bank):
        part = [line for line in bank if (line["build"], line["inputs"]) == (build, inputs)]
        columns = scores(part, list(truth))
        report(f"{build}, {inputs}", columns, np.array(list(truth.values())), POOL)


if __name__ == "__main__":
    main()
