"""Block tables against whole networks that they were not built from, and the usual other ways.

Builds a table of ``mobilenetv3`` on this machine for each runtime, measures unseen networks, and
predicts them by the table, by blocks timed alone (as once-for-all's tables were), by MACs and by
params, each with an affine correction fitted on the table's own whole networks.

    python results/latency/blocks.py --runtime torch --runtime onnxruntime
"""

from __future__ import annotations

import argparse
import csv
import platform
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from scholarch.search.latency_figure import save_check
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.latency.build import build_table, fit_overhead, host_words
from scholarch.searchspace.latency.check import Check, check_table
from scholarch.searchspace.latency.cut import cut
from scholarch.searchspace.latency.plan import BlockPlan
from scholarch.searchspace.latency.runtimes.base import Runtime, Setting, create_runtime
from scholarch.searchspace.latency.table import BlockTable
from scholarch.searchspace.space import Matrix, SearchSpace

HERE = Path(__file__).parent
_ALONE = 30


def main() -> None:
    options = _options()
    lines: list[dict[str, object]] = []
    for name in options.runtime:
        for seed in range(options.seeds):
            lines += _one(options, name, seed)
            _write(options, lines)


def _one(options: argparse.Namespace, name: str, seed: int) -> list[dict[str, object]]:
    space = create_space(options.space, resolution=options.resolution, num_classes=options.classes)
    runtime = create_runtime(name, Setting(threads=options.threads))
    begin = time.perf_counter()
    table = build_table([space], "here", runtime, seconds=options.seconds, seed=seed)
    took = time.perf_counter() - begin
    check = check_table(
        table,
        space,
        runtime,
        networks=options.networks,
        seconds=options.check_seconds,
        seed=1000 + seed,
    )
    if seed == 0:
        save_check(check, table, HERE / f"{options.space}-{name}")
    known = space.encode([space.parse(w.arch) for w in table.wholes])
    whole = np.array([w.ms for w in table.wholes])
    rows = space.encode(list(check.archs))
    alone = _alone(space, table, runtime, known)
    ways: dict[str, np.ndarray] = {"table": check.predicted}
    plan = table.ready(space)[0]
    sums = {
        "blocks timed alone": (plan.total(alone, known), plan.total(alone, rows)),
        "MACs": (space.cost(known)["macs"] / 1e6, space.cost(rows)["macs"] / 1e6),
        "params": (space.cost(known)["params"] / 1e6, space.cost(rows)["params"] / 1e6),
        "depth": (space.cost(known)["depth"], space.cost(rows)["depth"]),
    }
    for way, (fitted, asked) in sums.items():
        overhead = fit_overhead(fitted, whole)
        ways[way] = overhead.ms + overhead.scale * asked
    ways["mean of all"] = np.full(len(rows), whole.mean())
    found = []
    for way, predicted in ways.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the mean, which ranks nothing
            numbers = Check(check.archs, predicted, check.measured, check.retest).to_json()
        found.append(
            {
                "runtime": name,
                "seed": seed,
                "way": way,
                "networks": len(rows),
                "ms": f"{check.measured.min():.2f} … {check.measured.max():.2f}",
                "mape": f"{numbers['mape']:.4f}",
                "within5": f"{numbers['within5']:.3f}",
                "within10": f"{numbers['within10']:.3f}",
                "spearman": f"{numbers['spearman']:.4f}" if np.ptp(predicted) > 0 else "–",
                "bias": f"{numbers['bias']:+.4f}",
                "retest": f"{check.retest:.4f}",
                "build_s": f"{took:.0f}",
                "blocks": len(table.blocks),
            }
        )
    return found


def _alone(space: SearchSpace, table: BlockTable, runtime: Runtime, rows: Matrix) -> np.ndarray:
    """Each block as a network of its own, called over and over."""
    plan: BlockPlan = table.ready(space)[0]
    ms = np.full(len(plan.blocks), np.nan)
    numbers = {block.key: i for i, block in enumerate(plan.blocks)}
    image = (space.in_channels, space.resolution, space.resolution)
    with runtime.pinned():
        for arch in space.decode(rows):
            network = space.build(arch, seed=0).eval()
            for chunk in cut(network, image, plan.finer):
                at = numbers[chunk.key]
                if np.isfinite(ms[at]):
                    continue
                shape = tuple(chunk.args[0].shape[1:])
                module = nn.Sequential(chunk.module)
                loaded = runtime.load(module, [], shape)  # type: ignore[arg-type]
                ms[at] = float(np.median(loaded.whole(_ALONE)))
    return ms


def _write(options: argparse.Namespace, lines: list[dict[str, object]]) -> None:
    with (HERE / "blocks.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    text = [
        "# Block tables against whole networks",
        "",
        f"`{options.space}` at {options.resolution} pixels, {options.networks} networks that no"
        f" table was built from, {options.threads} thread, batch 1. Each way has an affine"
        " correction fitted on the table's own whole networks; `retest` is the mean absolute"
        " difference between two halves of the measurement of the same networks.",
        "",
        "| runtime | way | seeds | MAPE | within 5 % | within 10 % | Spearman | bias | retest |"
        " build |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for runtime in dict.fromkeys(line["runtime"] for line in lines):
        for way in dict.fromkeys(line["way"] for line in lines):
            of = [line for line in lines if (line["runtime"], line["way"]) == (runtime, way)]
            cells = [
                _cell(of, "mape", 100, " %"),
                _cell(of, "within5", 100, " %", 0),
                _cell(of, "within10", 100, " %", 0),
                _cell(of, "spearman", 1, "", 4),
                _cell(of, "bias", 100, " %"),
                _cell(of, "retest", 100, " %"),
                _cell(of, "build_s", 1, " s", 0),
            ]
            text.append(f"| {runtime} | {way} | {len(of)} | {' | '.join(cells)} |")
    versions = ", ".join(f"{n} {v}" for n, v in _versions().items())
    text += [
        "",
        "Values are medians over seeds (least … most).",
        "",
        f"{lines[0]['blocks']} distinct blocks, {lines[0]['ms']} ms. Pictures: "
        + ", ".join(f"[{name}]({options.space}-{name}/check.png)" for name in options.runtime)
        + ".",
        "",
        f"Make it again: `python results/latency/blocks.py {_command(options)}`."
        f" {host_words()}, {versions}.",
        "",
    ]
    (HERE / "blocks.md").write_text("\n".join(text), encoding="utf-8")


def _cell(of: list[dict[str, object]], name: str, by: float, unit: str, digits: int = 1) -> str:
    texts = [str(line[name]) for line in of]
    if "–" in texts:
        return "–"
    values = by * np.array([float(text) for text in texts])
    middle = f"{np.median(values):.{digits}f}{unit}"
    if len(values) == 1:
        return middle
    return f"{middle} ({values.min():.{digits}f} … {values.max():.{digits}f})"


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    found = {"torch": torch.__version__, "Python": platform.python_version()}
    return found | {name: version(name) for name in ("onnxruntime",)}


def _command(options: argparse.Namespace) -> str:
    words = [f"--runtime {name}" for name in options.runtime]
    return " ".join([*words, f"--networks {options.networks}", f"--seeds {options.seeds}"])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", action="append", required=True)
    parser.add_argument("--space", default="mobilenetv3")
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--networks", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--check-seconds", type=float, default=120.0)
    parser.add_argument("--seeds", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
