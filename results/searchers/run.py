"""Hypervolume of the front (score against MACs) by evaluations, every searcher against random.

    python results/searchers/run.py --data FOLDER [--space NAME] [--cache FOLDER]
    python results/searchers/run.py --data FOLDER --quick

With ``--cache`` scores and finished searches are kept, and an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _common import IMAGES, machine, markdown_table, real_batch, write_csv
from figure import draw
from traces import (
    QUICK_LIMIT,
    REFERENCE_SIZE,
    SCORING_SEED,
    Memo,
    Trace,
    hypervolumes,
    load_or_search,
    search_once,
    worst_score,
)

from scholarch.search.budget import Budget, human, parse_amount
from scholarch.search.domain import Domain
from scholarch.search.searchers.base import evaluation_limit, list_searchers
from scholarch.search.settings import ScoreRule
from scholarch.searchspace.factory import create_space

SPACE = "mobilenetv3-cifar"
CHECKPOINTS = (50, 100, 200, 300)
QUICK_CHECKPOINTS = (32, 64, 96)
STEP = 10


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="at most a minute, indicative only")
    parser.add_argument("--space", default=SPACE)
    parser.add_argument("--data", type=Path, default=os.environ.get("SCHOLARCH_DATA"))
    parser.add_argument("--out", type=Path, help="default: beside this file; --quick: temporary")
    parser.add_argument("--cache", type=Path, help="folder that keeps scores and searches")
    parser.add_argument("--searcher", action="append", choices=list_searchers())
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--evaluations", type=int)
    parser.add_argument("--images", type=int)
    parser.add_argument("--max-macs", help="default: the median of 4,096 uniform draws")
    given = parser.parse_args()
    folder = Path(__file__).resolve().parent
    if given.data is None or not (Path(given.data) / IMAGES).exists():
        print(
            f"{folder.name}: skipped; give --data or set SCHOLARCH_DATA to a folder with {IMAGES}"
        )
        sys.exit(0)
    given.seeds = given.seeds or (2 if given.quick else 10)
    given.evaluations = given.evaluations or (96 if given.quick else 300)
    given.images = given.images or (4 if given.quick else 16)
    if given.out is None:
        given.out = Path(tempfile.mkdtemp(prefix="searchers-")) if given.quick else folder
    for made in filter(None, (given.out, given.cache)):
        made.mkdir(parents=True, exist_ok=True)
    return given


def median_macs(space_name: str) -> float:
    space = create_space(space_name)
    return float(f"{np.median(space.cost(space.sample_matrix(4096, 0))['macs']):.2g}")


def all_traces(given: argparse.Namespace, domain: Domain) -> tuple[dict[str, list[Trace]], float]:
    """Searcher → one trace a seed, and the worst score of the reference sample."""
    rule = ScoreRule.of(["macs-expr"])  # the default when the table was made
    batch = real_batch(Path(given.data), given.images, SCORING_SEED)
    bound = domain.budget.bounds["macs"]
    memo = Memo(domain, rule, batch, given.cache / "scores.sqlite" if given.cache else ":memory:")
    traces: dict[str, list[Trace]] = {}
    for searcher in given.searcher or list_searchers():
        evaluations = given.evaluations
        if given.quick and evaluation_limit(searcher):
            evaluations = min(evaluations, QUICK_LIMIT)
        for seed in range(given.seeds):
            name = f"{given.space}-{bound:.6g}-{batch.fingerprint[:8]}"
            file = f"{name}-{searcher}-{evaluations}-{seed}.npz"
            traces.setdefault(searcher, []).append(
                load_or_search(
                    given.cache / file if given.cache else None,
                    lambda s=searcher, i=seed, n=evaluations: search_once(
                        domain, rule, memo, s, i, n
                    ),
                )
            )
        seconds = np.mean([trace.seconds for trace in traces[searcher]])
        print(f"{searcher}: {1e3 * seconds:.0f} ms an evaluation beside scoring", flush=True)
    worst = worst_score(domain, rule, memo)
    memo.close()
    return traces, worst


def table(
    traces: dict[str, list[Trace]], volumes: dict[str, np.ndarray], checkpoints: list[int]
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Rows for the CSV, one a searcher and checkpoint, and rows for the page."""
    rows: list[dict[str, object]] = []
    page: list[dict[str, object]] = []
    for name, curves in sorted(volumes.items(), key=lambda item: -np.nanmax(item[1].mean(axis=0))):
        line: dict[str, object] = {"searcher": name}
        above = ""
        for i, count in enumerate(checkpoints):
            column = curves[:, i]
            if np.isnan(column).any():
                line[str(count)] = ""
                continue
            mean, sd = column.mean(), column.std(ddof=1) if len(column) > 1 else 0.0
            line[str(count)] = f"{mean:.3f} ± {sd:.3f}"
            row = {"searcher": name, "evaluations": count, "mean": f"{mean:.6f}", "sd": f"{sd:.6f}"}
            if "random" in volumes and name != "random":
                won = int((column > volumes["random"][:, i]).sum())
                row["seeds_above_random"] = won
                above = f"{won} of {len(column)} at {count}" if count > REFERENCE_SIZE else ""
            else:
                row["seeds_above_random"] = ""
            rows.append(row | {"seeds": len(column)})
        line["seeds above random"] = above
        seconds = np.mean([trace.seconds for trace in traces[name]])
        line["ms an evaluation"] = f"{1e3 * seconds:.0f}"
        page.append(line)
    return rows, page


def main() -> None:
    given = parse()
    torch.set_num_threads(1)
    space = create_space(given.space)
    bound = parse_amount(given.max_macs) if given.max_macs else median_macs(given.space)
    domain = Domain(space, Budget({"macs": bound}), seed=SCORING_SEED)
    traces, lowest = all_traces(given, domain)
    corner = (-lowest, bound)
    # The yardstick: the front of everything that any searcher found with any seed.
    union = Trace(np.concatenate([t.objectives for found in traces.values() for t in found]), 0.0)
    best = hypervolumes(union, [len(union.objectives)], corner)[0]
    steps = QUICK_CHECKPOINTS if given.quick else CHECKPOINTS
    checkpoints = sorted({*(c for c in steps if c <= given.evaluations), given.evaluations})
    counts = list(range(STEP, given.evaluations + 1, STEP))

    def shares(points: list[int]) -> dict[str, np.ndarray]:
        return {
            name: np.stack([hypervolumes(trace, points, corner) / best for trace in found])
            for name, found in traces.items()
        }

    rows, page = table(traces, shares(checkpoints), checkpoints)
    write_csv(given.out / "table.csv", rows)
    command = ["python", "results/searchers/run.py", "--data", "FOLDER"]
    command += ["--quick"] if given.quick else []
    command += ["--space", given.space] if given.space != SPACE else []
    for option in ("seeds", "evaluations", "images", "max_macs"):
        if f"--{option.replace('_', '-')}" in " ".join(sys.argv):
            command += [f"--{option.replace('_', '-')}", str(getattr(given, option))]
    for name in given.searcher or ():
        command += ["--searcher", name]
    title = f"{given.space}, MACs ≤ {human(bound)}, {given.seeds} seeds: mean and one sd"
    text = f"""# Searchers on `{given.space}`

{markdown_table(page)}

Hypervolume of the front after so many evaluations, score (default ensemble) against MACs, as a
share of that of the front of everything any searcher found here; mean ± standard deviation over
{given.seeds} seeds (0 to {given.seeds - 1}) of the searcher. MACs ≤ {bound:,.0f}; the corner is
the bound and the lowest score of the reference sample. Scores are those of one fixed batch of
{given.images} images and one seed of the nested weights, ranked against one fixed sample of
{REFERENCE_SIZE}, so that they compare. The first {REFERENCE_SIZE} evaluations are uniform draws,
the same for every searcher of a seed; the dashed line in the figure marks their end.
`regularized-evolution` is told of the score alone, and `gp` ends at its limit of
{evaluation_limit("gp")} evaluations ({"sooner in a quick run" if given.quick else "blank beyond"}).
Milliseconds are the searcher's and the driver's own, without scoring.

    {shlex.join(command)}

{machine()}
"""
    (given.out / "table.md").write_text(text, encoding="utf-8")
    draw(
        counts,
        shares(counts),
        given.out / "hypervolume.png",
        title=title,
        start=REFERENCE_SIZE,
    )
    print(text)
    print(f"written to {given.out}")


if __name__ == "__main__":
    main()
