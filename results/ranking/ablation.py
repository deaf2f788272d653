"""What each part adds: the default ensemble without one part, the others' weights as they are.

    scholarch benchmark nasbench201 --data FOLDER --size 16 --seeds 2 --unique --half odd \\
        --proxy ensemble --out SCORES
    python results/ranking/ablation.py --data FOLDER --scores SCORES

The first measures, the second looks up. Candidates, reference samples, statistics and bootstrap
draws are the benchmark's own; its ``--proxy a+b`` gives every part a weight of 1.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _common import machine, markdown_table
from latency_lookup import Stored, scored_space

from scholarch.benchmarks.columns import fraction
from scholarch.benchmarks.intervals import draws_for, interval, kendall_draws, resamples
from scholarch.benchmarks.registry import get_benchmark
from scholarch.benchmarks.run import STORE
from scholarch.benchmarks.setting import images_of, rules_of, select
from scholarch.benchmarks.summary import Judge
from scholarch.proxies.ensemble import DEFAULT
from scholarch.search.settings import ScoreRule
from scholarch.search.store import RunStore

SIZE, SEEDS = 16, 2


def without(rule: ScoreRule, part: str) -> ScoreRule:
    """The rule with one part fewer."""
    kept = [(p, w) for p, w in zip(rule.parts, rule.weights, strict=True) if p != part]
    parts, weights = zip(*kept, strict=True)
    return replace(rule, name=f"without {part}", parts=parts, weights=weights)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("SCHOLARCH_DATA"))
    parser.add_argument("--scores", type=Path, required=True)
    given = parser.parse_args()
    if given.data is None:
        sys.exit("ranking: skipped; give --data or set SCHOLARCH_DATA to the real data")
    data = Path(given.data)
    space = scored_space(data, SIZE)
    table = get_benchmark("nasbench201").read(data)
    candidates = select(table, "cifar10", space, space, half="odd", unique=True)
    full = rules_of((DEFAULT,), space.family)[0]
    with closing(RunStore(given.scores / STORE, readonly=True)) as store:
        stored = Stored(space, candidates.archs, [full], store)
        batches = images_of(data, None, SIZE, range(SEEDS))
        found = [stored.seed(seed, batch, {}) for seed, batch in enumerate(batches)]
    draws = resamples(candidates.clusters, draws_for(len(candidates.archs)), 0)
    judge = Judge(candidates.truth, candidates.costs["params"], candidates.costs["macs"], draws)
    lines: list[dict[str, object]] = []
    whole = judge.row(full.name, "ensemble", [seeded.score(full) for seeded in found])
    of_whole = kendall_draws(whole.values, candidates.truth, draws)
    for rule in (full, *(without(full, part) for part in full.parts)):
        row = judge.row(rule.name, "ensemble", [seeded.score(rule) for seeded in found])
        line: dict[str, object] = {
            "score": rule.name,
            "τ": fraction(row.numbers["tau"]),
            "of a seed": f"{fraction(row.numbers['seed_tau'])} ± "
            f"{fraction(row.numbers['seed_tau_sd'])}",
        }
        gained = of_whole - kendall_draws(row.values, candidates.truth, draws)
        low, high = interval(gained)
        added = whole.numbers["tau"] - row.numbers["tau"]
        line["the part adds"] = "" if rule is full else f"{added:+.3f}"
        line["95%"] = "" if rule is full else f"{low:+.3f} … {high:+.3f}"
        line["top tenth"] = fraction(row.numbers["top_rho"])
        line["self ρ"] = fraction(row.numbers["self_rho"])
        lines.append(line)
    print(markdown_table(lines), f"\n{len(draws)} bootstrap draws.", machine(), sep="\n")


if __name__ == "__main__":
    main()
