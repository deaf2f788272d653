"""Search on NAS-Bench-201 under latency: accuracy lost against the best feasible cell.

    scholarch benchmark nasbench201 --data FOLDER --seeds 3 --size 16 --proxy ensemble \\
        --proxy az-nas --proxy macs-expr --proxy naswot --proxy jacov --proxy snip --out SCORES
    python results/ranking/latency_search.py --data FOLDER --scores SCORES

The first measures every score (hours on one core), the second looks them up: the command's own
search, 500 evaluations of ``nsga2`` inside the latency budget, ten seeds; the images, weights
and scores of seed ``i`` are those of seed ``i mod 3``. Nothing is fitted.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _common import Column, machine, write_csv
from latency_lookup import (
    LATENCIES,
    PARAMS,
    TABLE,
    TRUTHS,
    Cells,
    Lookup,
    Place,
    Reference,
    read_cells,
    read_scores,
    scored_space,
)
from latency_tables import RANDOM, TARGET, Case, budget_table, score_table

from scholarch.benchmarks.measure import SeedScores
from scholarch.benchmarks.run import STORE
from scholarch.benchmarks.setting import rules_of
from scholarch.benchmarks.summary import averaged
from scholarch.proxies.ensemble import DEFAULT, ENSEMBLES
from scholarch.search.find import REFERENCE_SIZE
from scholarch.search.settings import ScoreRule

Mask = npt.NDArray[np.bool_]

DEVICES = ("raspi4", "pixel3", "gold_6226", "1080ti_32")
#: Budgets: quantiles of a device's latency over all rows.
QUANTILES = (0.25, 0.5, 0.75)
COMBINED = (DEFAULT, "macs-expr", "az-nas")
SINGLE = (
    *ENSEMBLES[DEFAULT].parts,
    *ENSEMBLES["az-nas"].parts,
    "naswot",
    "jacov",
    "snip",
    "macs",
    PARAMS,
)
#: Reference samples beside the searches' own; :mod:`latency_reference` chose among them.
OTHERS = (Reference(128), Reference(64, whole=True))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two seeds, two scores: indicative")
    parser.add_argument("--data", type=Path, default=os.environ.get("SCHOLARCH_DATA"))
    parser.add_argument("--scores", type=Path, help="the --out of the benchmark's command")
    parser.add_argument("--out", type=Path, help="default: beside this file; --quick: temporary")
    parser.add_argument("--seeds", type=int, help="of the searches; default 10")
    parser.add_argument("--score-seeds", type=int, default=3, help="seeds that were measured")
    parser.add_argument("--size", type=int, default=16, help="images that were scored on")
    parser.add_argument("--evaluations", type=int, default=500)
    parser.add_argument("--cache", type=Path, help="file that keeps the picks, to go on later")
    given = parser.parse_args()
    needed = [TABLE, LATENCIES, "cifar10_5k.npz"]
    if given.data is None or not all((Path(given.data) / name).exists() for name in needed):
        print(f"ranking: skipped; give --data or set SCHOLARCH_DATA to {', '.join(needed)}")
        sys.exit(0)
    given.data = Path(given.data)
    if given.scores is None or not (given.scores / STORE).exists():
        print(f"ranking: skipped; --scores has to hold {STORE}, see --help for the command")
        sys.exit(0)
    given.seeds = given.seeds or (2 if given.quick else 10)
    if given.out is None:
        quick = given.quick
        given.out = Path(
            tempfile.mkdtemp(prefix="latency-") if quick else Path(__file__).resolve().parent
        )
    given.out.mkdir(parents=True, exist_ok=True)
    return given


class Picks:
    """Picks of finished searches, kept in a file if one is given."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, int | None] = {}
        if path is not None and path.exists():
            self._known = json.loads(path.read_text(encoding="utf-8"))

    def of(
        self,
        place: Place,
        bound: float,
        rule: ScoreRule,
        engine: Lookup,
        seed: int,
        evaluations: int,
        reference: Reference,
    ) -> int | None:
        """What :meth:`Place.search` gives."""
        weights = ",".join(map(str, rule.weights))
        name = f"{place.device} {bound:.6g} {rule.name} {weights} {engine.fingerprint(rule)}"
        name = f"{name} {seed} {evaluations} {reference.size} {reference.whole}"
        if name not in self._known:
            self._known[name] = place.search(bound, rule, engine, seed, evaluations, reference)
        return self._known[name]

    def save(self) -> None:
        if self._path is not None:
            self._path.write_text(json.dumps(self._known), encoding="utf-8")


def variants(rules: Sequence[ScoreRule]) -> Iterator[tuple[ScoreRule, Reference]]:
    """Every score as a search has it; sums of ranks against other reference samples, too."""
    for rule in rules:
        yield rule, Reference()
    for reference in OTHERS:
        yield from ((rule, reference) for rule in rules if rule.ranks)


def label(rule: ScoreRule, reference: Reference) -> str:
    """What a table calls them."""
    return rule.name if reference == Reference() else f"{rule.name}, {reference}"


def losses(
    picks: Sequence[int | None], cells: Cells, inside: Mask, best: dict[str, float]
) -> dict[str, Column]:
    """Points lost by picks; a search that scored nothing loses what the worst cell would."""
    return {
        name: np.array(
            [best[name] - (truth[inside].min() if pick is None else truth[pick]) for pick in picks]
        )
        for name, truth in cells.truth.items()
    }


def cases_at(
    place: Place,
    quantile: float,
    rules: Sequence[ScoreRule],
    cells: Cells,
    found: Sequence[SeedScores],
    known: Picks,
    given: argparse.Namespace,
) -> Iterator[Case]:
    """Every score, and chance, under one budget."""
    latency = cells.latency[place.device]
    bound = float(np.quantile(latency, quantile))
    inside = latency <= bound
    best = {name: float(truth[inside].max()) for name, truth in cells.truth.items()}
    listed = {key: row for key, row in place.row.items() if inside[row]}
    rows = list(listed.values())
    least = {name: best[name] - float(truth[rows].max()) for name, truth in cells.truth.items()}
    about = (place.device, quantile, bound, int(inside.sum()), len(rows), best, least)
    engines = [Lookup(cells, scores) for scores in found]

    def top(score: Column) -> int | None:
        return place.best({key: [-score[row], latency[row]] for key, row in listed.items()})

    for rule, reference in variants(rules):
        columns = [scores.score(rule) for scores in found]
        picks = [
            known.of(
                place,
                bound,
                rule,
                engines[seed % len(engines)],
                seed,
                given.evaluations,
                reference,
            )
            for seed in range(given.seeds)
        ]
        averaged_top = losses([top(averaged(columns))], cells, inside, best)
        yield Case(
            *about,
            label(rule, reference),
            losses(picks, cells, inside, best),
            losses([top(column) for column in columns], cells, inside, best),
            {name: float(lost[0]) for name, lost in averaged_top.items()},
        )
    chance = {name: best[name] - truth[inside] for name, truth in cells.truth.items()}
    nothing = {name: np.zeros(0) for name in TRUTHS}
    yield Case(*about, RANDOM, chance, nothing, dict.fromkeys(TRUTHS, float("nan")))


def page(cases: Sequence[Case], scores: Sequence[str], given: argparse.Namespace) -> str:
    combined = [name for name in COMBINED if name in scores]
    combined[1:1] = [name for name in scores if name.startswith(f"{DEFAULT},")]
    command = ["python", "results/ranking/latency_search.py", "--data", "FOLDER"]
    command += ["--scores", "SCORES", *(["--quick"] if given.quick else [])]
    for name, default in (("seeds", 10), ("score_seeds", 3), ("size", 16), ("evaluations", 500)):
        if getattr(given, name) != default and not (given.quick and name == "seeds"):
            command += [f"--{name.replace('_', '-')}", str(getattr(given, name))]
    measure = ["scholarch", "benchmark", "nasbench201", "--data", "FOLDER", "--seeds"]
    measure += [str(given.score_seeds), "--size", str(given.size)]
    for name in (*COMBINED, "naswot", "jacov", "snip"):
        measure += ["--proxy", name]
    return f"""# Search on NAS-Bench-201 under latency

Points of accuracy lost against the best feasible cell, CIFAR-10:

{budget_table(cases, combined, "cifar10")}

CIFAR-100, the same searches:

{budget_table(cases, combined, "cifar100")}

Every score, over the {len(DEVICES) * len(QUANTILES)} budgets:

{score_table(cases, scores)}

Mean ± standard deviation (worst) over {given.seeds} searches, seeds 0 to {given.seeds - 1}:
`nsga2`, {given.evaluations} evaluations inside the budget, the pick the best score and of equals
the fastest. Seed i takes the scores of seed i mod {given.score_seeds}, of {given.size} CIFAR-10
training images. "All cells" is the best-scored of every feasible cell by the score averaged over
its seeds (as many: {given.score_seeds}); there ranks are against the benchmark's sample of the
whole space. `{RANDOM}` is exact: mean and standard deviation over all feasible rows. "Worst
budget" is the largest of the budgets' means, "≤ {TARGET} pp" counts the budgets whose mean is.

Ranks are against {REFERENCE_SIZE} cells drawn inside the budget, as searches have it, where
nothing else is said. Beside it stand two other reference samples that the even half of the
cells prefers ([latency_reference.md](latency_reference.md)): "128 inside" is twice as many,
"64 of all" is drawn from every cell of the table, **dearer**. Of the latter those
that are too slow are scored beside the candidates; as many fewer are left, and a search scores
{given.evaluations} cells either way.

The rows are all of the open half of the table, in either half of its isomorphism groups, budgets
the 25, 50 and 75 % quantiles of a device's latency over them, and the best feasible cell is the
best row. Cells of a class share a score but neither their latency nor the luck of their training
(half of the classes by a standard deviation above .12 points), so the table file that is searched
lists the fastest cell of each class; "least" is what the best of those loses. Where a budget
leaves fewer classes than evaluations, a search sees them all, and its pick depends on the score
alone.

    {shlex.join([*measure, "--out", "SCORES"])}
    {shlex.join(command)}

{machine()}
"""


def main() -> None:
    given = parse()
    torch.set_num_threads(1)
    rules = rules_of((DEFAULT, "macs") if given.quick else (*COMBINED, *SINGLE), "convnet")
    cells = read_cells(given.data, scored_space(given.data, given.size), DEVICES)
    found = read_scores(given.scores, given.data, cells, rules, given.size, given.score_seeds)
    picks = Picks(given.cache)
    cases: list[Case] = []
    for device in DEVICES:
        place = Place.of(device, cells, given.data, given.size)
        for quantile in QUANTILES:
            cases += cases_at(place, quantile, rules, cells, found, picks, given)
            picks.save()
            print(f"{device}, {quantile:.0%}: done", flush=True)
    write_csv(given.out / "latency_search.csv", [case.row() for case in cases])
    text = page(cases, [label(*variant) for variant in variants(rules)], given)
    (given.out / "latency_search.md").write_text(text, encoding="utf-8")
    print(text)
    print(f"written to {given.out}")


if __name__ == "__main__":
    main()
