"""What the Gaussian process was chosen among, on the sets that may be chosen on, and on no other.

    python results/calibration/tried.py --data FOLDER [--draws 20]

NAS-Bench-201's even half, S0's vanilla accuracies, and the choice half of FlexiBERT with the
measurements of ``results/ranking/flexibert_bank.csv``. Each variant changes the process of the
package in the places named; draws are those of ``run.py``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ranking"))
import run
from _common import Column, machine, markdown_table, read_csv
from flexibert_choose import TABLE, choice_half
from flexibert_nets import parse_layers

from scholarch.proxies.ranks import ReferenceRank, log_rank_sum
from scholarch.search.calibration import process as process_module
from scholarch.search.calibration.features import Features
from scholarch.search.calibration.picks import quantile_picks
from scholarch.search.calibration.process import RankProcess

#: A case as ``draw`` takes it: prior, truth, and what makes columns from the pool's places.
Columns = Callable[[Column, bool], tuple[Column, Column]]


class Best(RankProcess):
    """The model of the highest evidence alone."""

    def _conditioned(self, residual: Column) -> list[Any]:
        best = max(super()._conditioned(residual), key=lambda model: model.belief)
        return [replace(best, belief=1.0)]


def normal_scores(accuracies: Column, prior: Column) -> Column:
    """Rank-gauss of the labels among themselves."""
    if not len(prior):
        return np.zeros(0)
    return stats.norm.ppf((stats.rankdata(accuracies) - 0.5) / len(prior))


LOOSE = {"RBF": 0.5, "NOISES": (0.03, 0.1, 0.3, 0.6), "SHARES": (1.0,)}
SCORES = LOOSE | {"matched": normal_scores}
#: Name → constants of the process, its class, one block of all columns, genes left out.
VARIANTS: dict[str, tuple[dict[str, Any], type[RankProcess], bool, bool]] = {
    "as it is": ({}, RankProcess, False, False),
    "½ RBF, ½ linear": ({"RBF": 0.5}, RankProcess, False, False),
    "RBF alone": ({"RBF": 1.0}, RankProcess, False, False),
    "no slope": ({"SLOPE": 0.0}, RankProcess, False, False),
    "½, no leave-one-out": ({"RBF": 0.5, "SHARES": (1.0,)}, RankProcess, False, False),
    "½, noise from .03, no leave-one-out": (LOOSE, RankProcess, False, False),
    "… and labels as normal scores": (SCORES, RankProcess, False, False),
    "… and one block of columns": (SCORES, RankProcess, True, False),
    "… and the best model alone": (SCORES, Best, True, False),
    "… one block without genes": (SCORES, RankProcess, True, True),
}


def cases(data: Path) -> dict[str, tuple[Column, Column, Callable[..., tuple[Column, Column]]]]:
    """Name → prior, truth, and the function of pool and variant that gives prior and columns."""
    found = {}
    for one in run.BUILT_IN:
        if one[-1] == "chosen on":
            case = run.built_in(data, *one)
            found[case.name] = (case.prior, case.truth, _columns_of(case))
    found["flexibert glue"] = _flexibert(data)
    return found


def _columns_of(case: run.Case) -> Callable[..., tuple[Column, Column]]:
    def columns(pool: Column, *, whole: bool, bare: bool) -> tuple[Column, Column]:
        inside = {name: column[pool] for name, column in case.proxies.items()}
        features = Features(case.space, case.rows[pool], case.prior[pool], inside)
        found = features(case.rows, case.proxies)
        genes = features._blocks[0].size
        parts = [found[:, :genes], found[:, genes : genes + features._blocks[1].size]]
        parts.append(found[:, genes + parts[1].shape[1] :])
        return features.prior(case.prior), _joined(parts[1:] if bare else parts, whole=whole)

    return columns


def _joined(parts: list[Column], *, whole: bool) -> Column:
    """Blocks that count alike, or as many columns as they have."""
    total = sum(part.shape[1] for part in parts)
    columns = [part / math.sqrt(float(np.mean(part**2))) for part in parts]
    if whole:
        return np.concatenate(columns, axis=1)
    return np.concatenate(
        [math.sqrt(total / (len(parts) * part.shape[1])) * part for part in columns], axis=1
    )


def _flexibert(data: Path) -> tuple[Column, Column, Callable[..., tuple[Column, Column]]]:
    """Encoders of the choice half, as they were trained; shapes, sizes and two measurements."""
    import csv
    import gzip

    truth = choice_half(data)
    bank = [
        row
        for row in read_csv(run.HERE.parent / "ranking" / "flexibert_bank.csv")
        if (row["build"], row["inputs"], row["seed"]) == ("trained", "tokens", "0")
        and row["id"] in truth
    ]
    with gzip.open(data / TABLE, "rt", encoding="utf-8", newline="") as file:
        configs = {row["id"]: json.loads(row["nas_config"]) for row in csv.DictReader(file)}
    value = {name: np.array([float(row[name]) for row in bank]) for name in (
        "params", "macs", "layers-weighted", "hidden", "expr")}  # fmt: skip
    shapes = []
    for row in bank:
        layers = parse_layers(configs[row["id"]], "trained")
        widths = [sum(layer.widths) for layer in layers]
        counts = [len(layer.widths) for layer in layers]
        heads = [layer.heads for layer in layers]
        shapes.append([len(layers), float(row["hidden"]), np.mean(widths), widths[0], widths[-1],
                       np.mean(counts), np.mean(heads)])  # fmt: skip
    sizes = np.log(np.stack([value[k] for k in ("params", "macs", "layers-weighted")], axis=1))
    proxies = {"expr": value["expr"], "long": value["params"] * value["layers-weighted"] ** 2}
    prior = log_rank_sum(proxies, proxies, {"expr": 1.0, "long": 0.5})

    def columns(pool: Column, *, whole: bool, bare: bool) -> tuple[Column, Column]:
        def scaled(table: Column) -> Column:
            spread = table[pool].std(axis=0)
            return (table - table[pool].mean(axis=0)) / np.where(spread > 0, spread, 1.0)

        def gauss(column: Column) -> Column:
            fractions = np.clip(ReferenceRank(column[pool])(column), 1e-4, 1 - 1e-4)
            return np.asarray(stats.norm.ppf(fractions))

        ranks = np.stack([gauss(column) for column in proxies.values()], axis=1)
        parts = [scaled(np.array(shapes)), scaled(sizes), ranks]
        return gauss(prior), _joined(parts[1:] if bare else parts, whole=whole)

    return prior, np.array([truth[row["id"]] for row in bank]), columns


@contextlib.contextmanager
def changed(constants: dict[str, Any]) -> Iterator[None]:
    """The process with other constants for a while."""
    with contextlib.ExitStack() as stack:
        for name, value in constants.items():
            stack.enter_context(mock.patch.object(process_module, name, value))
        yield


def gains(case: Any, variant: Any, count: int, draws: int) -> Column:
    """τ calibrated less τ of the prior, on the held-out half of each draw."""
    score, truth, columns = case
    constants, kind, whole, bare = variant
    found = []
    for seed in range(draws):
        order = np.random.default_rng([seed, 0xCA11]).permutation(len(truth))
        pool, held = order[: len(order) // 2], order[len(order) // 2 :]
        prior, table = columns(pool, whole=whole, bare=bare)
        at = pool[quantile_picks(score[pool], count, seed)]
        with changed(constants):
            process = kind(prior[at], table[at], truth[at])
            mean, _ = process.predict(prior[held], table[held])
        found.append(run.tau(mean, truth[held]) - run.tau(score[held], truth[held]))
    return np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("SCHOLARCH_DATA"))
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--out", type=Path, default=run.HERE)
    given = parser.parse_args()
    if given.data is None:
        print("calibration: skipped; give --data or set SCHOLARCH_DATA to the real data")
        return
    sets = cases(Path(given.data))
    lines = []
    for name, variant in VARIANTS.items():
        line: dict[str, object] = {"variant": name}
        for title, case in sets.items():
            for count in run.COUNTS:
                gain = gains(case, variant, count, given.draws)
                half = stats.t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / math.sqrt(len(gain))
                line[f"{title.split()[0]}, {count}"] = f"{run._signed(gain.mean())} ± {half:.3f}"
        lines.append(line)
    text = f"{markdown_table(lines)}\n\n{given.draws} draws, seeds 0 on. {machine()}\n"
    (given.out / "tried.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
