"""How much a few labels improve the training-free rank: on architectures whose truth is known.

    python results/calibration/run.py --data FOLDER
    python results/calibration/run.py --csv FILE --truth COLUMN --space NAME [--images DATA]
    python results/calibration/run.py --csv results/distilled-benchmark.csv --truth kd_r20 \
        --truth kd_r56 --space resnet-cifar --option width_mult=0.25 --option resolution=16 \
        --scores results/distilled/scores.json

In each of 20 draws half of the architectures are what may be labelled, isomorphism classes whole,
and the other half judges. N of the first half, one from each quantile of the prior, get their true
accuracy as label; Kendall's τ-b of the calibrated rank on the second half stands beside that of
the prior, of sizes and of chance on the same half.

Scores of the built-in benchmarks are in ``scores/``, made by the commands in README.md. A CSV
needs columns ``arch`` (or ``text``) and the truth, and labels are read from the column of the
truth's name and ``_val`` where there is one; its architectures are scored once, into
``scores/``, by the space's default ensemble, or looked up in JSON: score → a list a seed, each with
a value a line of the CSV, of which the first counts.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _common import Column, machine, markdown_table, read_csv, write_csv

import scholarch
from scholarch.benchmarks.registry import get_benchmark
from scholarch.benchmarks.setting import select
from scholarch.cli_options import options_of
from scholarch.proxies.ensemble import DEFAULT, ensemble_for
from scholarch.search.calibration.features import Features
from scholarch.search.calibration.picks import quantile_picks
from scholarch.search.calibration.process import RankProcess
from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.space import Matrix, SearchSpace

HERE = Path(__file__).resolve().parent
SCORES = HERE / "scores"
COUNTS = (5, 10, 20)
DRAWS = 20
SIZES = ("params", "macs", "depth")


@dataclass(frozen=True)
class Case:
    """Architectures, what is known of them untrained, and the truth.

    Attributes:
        name: of the benchmark and its truth.
        role: whether anything was chosen on it.
        space: of the architectures.
        rows: ``[A, genes]``, one an isomorphism class.
        prior: the default ensemble's score, ``[A]``.
        proxies: its parts, name → ``[A]``.
        costs: params, macs and depth, ``[A]``.
        truth: accuracy, ``[A]``.
        labels: what a label says, ``[A]``: the truth, or validation accuracy where it is known.
    """

    name: str
    role: str
    space: SearchSpace
    rows: Matrix
    prior: Column
    proxies: Mapping[str, Column]
    costs: Mapping[str, Column]
    truth: Column
    labels: Column


#: Benchmark, half, truth, what it served for.
BUILT_IN = (
    ("nasbench201", "even", "cifar10", "chosen on"),
    ("resnet-cifar-s0", "all", "vanilla_acc", "chosen on"),
    ("nasbench201", "odd", "cifar10", "reported"),
    ("nasbench201", "odd", "cifar100", "reported"),
    ("resnet-cifar-s0", "all", "kd_acc", "reported"),
    ("vitbench-autoformer", "all", "cifar100_kd", "reported"),
    ("vitbench-pit", "all", "cifar100_kd", "reported"),
)
#: Classes drawn of a half of NAS-Bench-201, seed 0.
LIMIT = 300


def built_in(data: Path, name: str, half: str, truth: str, role: str) -> Case:
    """A benchmark of the package, with the scores that lie beside this script."""
    benchmark = get_benchmark(name)
    space = create_space(benchmark.space, **benchmark.published)
    table = benchmark.read(data)
    limit = LIMIT if name == "nasbench201" else None
    found = select(table, truth, space, space, half=half, unique=True, limit=limit)
    stem = name if half == "all" else f"{name}-{half}"
    scores = {row["arch"]: row for row in read_csv(SCORES / f"{stem}.csv")}
    by_key = {space.parse(text).key: row for text, row in scores.items()}
    lines = [by_key[arch.key] for arch in found.archs]
    title = f"{stem} {truth}"
    return _case(title, role, space, space.encode(found.archs), lines, found.costs, found.truth)


def from_csv(
    path: Path, truth: str, space: SearchSpace, images: str, seed: int, scores: Path | None
) -> Case:
    """Any table of trained architectures; they are scored where they have not been."""
    table = read_csv(path)
    if not table or truth not in table[0]:
        sys.exit(f"calibration: {path} has no column {truth!r}")
    column = "arch" if "arch" in table[0] else "text"
    kept: dict[str, int] = {}
    archs = [space.parse(row[column]) for row in table]
    for i, (arch, row) in enumerate(zip(archs, table, strict=True)):
        if row[truth] and math.isfinite(float(row[truth])):
            kept.setdefault(arch.key, i)
    places = list(kept.values())
    names = (DEFAULT, *ensemble_for(DEFAULT, space.family).parts)
    if scores is not None:
        found = json.loads(scores.read_text(encoding="utf-8"))
        lines = [{name: repr(found[name][0][i]) for name in names} for i in places]
    else:
        lines = _scored(path.stem, space, [archs[i] for i in places], names, images, seed)
    rows = space.encode([archs[i] for i in places])
    label = f"{truth}_val" if f"{truth}_val" in table[0] else truth
    values, labels = (np.array([float(table[i][name]) for i in places]) for name in (truth, label))
    name, costs = f"{path.stem} {truth}", space.cost(rows)
    return _case(name, "reported", space, rows, lines, costs, values, labels)


def _scored(
    stem: str,
    space: SearchSpace,
    archs: Sequence[Architecture],
    names: Sequence[str],
    images: str,
    seed: int,
) -> list[dict[str, str]]:
    """Scores of architectures, those in ``scores/`` first of all."""
    path = SCORES / f"{stem}.csv"
    known = {row["arch"]: row for row in read_csv(path)} if path.exists() else {}
    if new := [arch for arch in archs if arch.text not in known]:
        batch = scholarch.load_batch(images, size=64, seed=seed)
        table = scholarch.score(space, new, batch=batch, proxies=names, seed=seed)
        for i, arch in enumerate(new):
            known[arch.text] = {"arch": arch.text} | {k: f"{table[k][i]:.9g}" for k in table}
        write_csv(path, list(known.values()))
    return [known[arch.text] for arch in archs]


def _case(
    name: str,
    role: str,
    space: SearchSpace,
    rows: Matrix,
    lines: Sequence[Mapping[str, str]],
    costs: Mapping[str, Column],
    truth: Column,
    labels: Column | None = None,
) -> Case:
    columns = {
        key: np.array([float(line[key] or "nan") for line in lines])
        for key in lines[0]
        if key != "arch"
    }
    prior = columns.pop(DEFAULT)
    fine = np.isfinite(prior)
    return Case(
        name,
        role,
        space,
        rows[fine],
        prior[fine],
        {key: column[fine] for key, column in columns.items()},
        {key: costs[key][fine] for key in SIZES},
        truth[fine],
        (truth if labels is None else labels)[fine],
    )


def tau(first: Column, second: Column) -> float:
    """Kendall's τ-b; 0 where one is constant, which ranks nothing."""
    if np.ptp(first) == 0:
        return 0.0
    return float(stats.kendalltau(first, second).statistic)


def draw(case: Case, count: int, seed: int) -> dict[str, float]:
    """τ on the held-out half of one draw, by name."""
    rng = np.random.default_rng([seed, 0xCA11])
    order = rng.permutation(len(case.truth))
    pool, held = order[: len(order) // 2], order[len(order) // 2 :]

    def proxies(at: Column) -> dict[str, Column]:
        return {name: column[at] for name, column in case.proxies.items()}

    features = Features(case.space, case.rows[pool], case.prior[pool], proxies(pool))
    picked = pool[quantile_picks(case.prior[pool], count, seed)]
    process = RankProcess(
        features.prior(case.prior[picked]),
        features(case.rows[picked], proxies(picked)),
        case.labels[picked],
    )
    mean, _ = process.predict(
        features.prior(case.prior[held]), features(case.rows[held], proxies(held))
    )
    truth = case.truth[held]
    return {
        "calibrated": tau(mean, truth),
        "prior": tau(case.prior[held], truth),
        **{name: tau(column[held], truth) for name, column in case.costs.items()},
        "random": tau(rng.random(len(held)), truth),
        "share": process.share,
    }


def row(case: Case, count: int) -> dict[str, object]:
    """One line of the table."""
    draws = [draw(case, count, seed) for seed in range(DRAWS)]
    columns = {name: np.array([one[name] for one in draws]) for name in draws[0]}
    gain = columns["calibrated"] - columns["prior"]
    half = stats.t.ppf(0.975, DRAWS - 1) * gain.std(ddof=1) / math.sqrt(DRAWS)
    return {
        "truth": case.name,
        "role": case.role,
        "N": count,
        "share of all": f"{count / len(case.truth):.0%}",
        "prior": _spread(columns["prior"]),
        "calibrated": _spread(columns["calibrated"]),
        "gain": _signed(gain.mean()),
        "95%": f"{_signed(gain.mean() - half)} … {_signed(gain.mean() + half)}",
        "worst draw": _signed(gain.min()),
        "below": "yes" if gain.mean() + half < 0 else "no",
        **{name: _spread(columns[name]) for name in (*SIZES, "random")},
        "correction kept": f"{columns['share'].mean():.2f}",
    }


def _spread(values: Column) -> str:
    sd = values.std(ddof=1)
    return f"{values.mean():.3f} ± {sd:.3f}".replace("-", "−")


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("SCHOLARCH_DATA"))
    parser.add_argument("--out", type=Path, default=HERE, help="default: the script's folder")
    parser.add_argument("--quick", action="store_true", help="write nothing; it takes 15 s anyway")
    parser.add_argument("--csv", type=Path, help="a table of trained architectures")
    parser.add_argument("--truth", action="append", help="its column of accuracies, several")
    parser.add_argument("--space", help="its space")
    parser.add_argument("--option", action="append", help="of the space, e.g. width_mult=0.5")
    parser.add_argument("--images", default="digits", help="on which it is scored")
    parser.add_argument("--seed", type=int, default=0, help="of that scoring")
    parser.add_argument("--scores", type=Path, help="JSON of scores that are there")
    given = parser.parse_args()
    if given.csv is not None:
        if not given.truth or not given.space:
            sys.exit("calibration: --csv needs --truth COLUMN and --space NAME")
        space = create_space(given.space, **options_of(given.option))
        cases = [
            from_csv(given.csv, truth, space, given.images, given.seed, given.scores)
            for truth in given.truth
        ]
        stem = f"table-{given.csv.stem}"
    else:
        if given.data is None:
            print("calibration: skipped; give --data or set SCHOLARCH_DATA to the real data")
            return
        cases = [built_in(Path(given.data), *one) for one in BUILT_IN]
        stem = "table"
    lines = [row(case, count) for case in cases for count in COUNTS if 2 * count <= len(case.truth)]
    text = f"{markdown_table(lines)}\n\n{DRAWS} draws, seeds 0 … {DRAWS - 1}. {machine()}\n"
    print(text)
    if given.quick:
        return
    given.out.mkdir(parents=True, exist_ok=True)
    write_csv(given.out / f"{stem}.csv", lines)
    (given.out / f"{stem}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
