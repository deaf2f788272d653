"""How much faster DisWOT's released score is here than done plainly, on all of S0.

Every way scores the same 64 students on the same 64 real images, on one thread, interleaved
candidate by candidate, so that a busy neighbour slows all of them alike.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import plain
from _common import (
    IMAGES,
    Options,
    machine,
    markdown_table,
    parse_options,
    real_batch,
    s0_space,
    s0_students,
    write_csv,
)

from scholarch.proxies.batch import Batch
from scholarch.proxies.scoring import Scorer
from scholarch.proxies.teacher import Teacher
from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.space import SearchSpace
from scholarch.teacher import load_teacher

TEACHERS = ("resnet56-cifar10", "resnet110-cifar10")
PROXIES = ("diswot-released-semantic", "diswot-relation", "diswot-released")
BATCH = 64
SEED = 0
ROUNDS = 3
#: Candidates between two cold runs of ours.
EVERY = 8
TARGETS = {"released": 50.0, "cached": 10.0}
PARITY = 1e-5

LABELS = {
    "ours": "ours, cold",
    "released": "released: teacher recomputed, autograd",
    "cached": "teacher cached, autograd",
    "tuned": "teacher cached, channels-last, gradient of the classifier only",
}


def make_teacher(name: str, batch: Batch) -> Teacher:
    """A random teacher, as released, on the students' own normalisation."""
    return load_teacher(name, untrained=True, mean=batch.mean, std=batch.std, seed=SEED)


def plain_way(way: str, teacher: Teacher, batch: Batch) -> plain.Released:
    module = copy.deepcopy(teacher.module).train().requires_grad_(True)
    # Contiguous, whatever layout ours prefers.
    module.to(memory_format=torch.contiguous_format)
    return plain.WAYS[way](module, batch.normalised, batch.labels)


def depths_of(arch: Architecture) -> tuple[int, ...]:
    return tuple(int(digit) for digit in str(arch))


def score_cold(space: SearchSpace, archs: list[Architecture], name: str, batch: Batch) -> None:
    """Everything from nothing: the teacher, its taps, the nested network, 64 scores."""
    taps = make_teacher(name, batch).observe(batch)
    Scorer(space, ["diswot-released"], batch=batch, teacher=taps, seed=SEED).score(archs)


def clocked(function: Callable[[], object]) -> tuple[float, float]:
    """Wall-clock and processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - cpu


# ---------------------------------------------------------------------- parity


def parity(space: SearchSpace, archs: list[Architecture], batch: Batch) -> dict[str, float]:
    """Largest relative difference between ours and the plain way on the same nested weights."""
    worst = dict.fromkeys(PROXIES, 0.0)
    network = space.supernet(seed=SEED, init="normal").train()
    for name in TEACHERS:
        teacher = make_teacher(name, batch)
        taps = teacher.observe(batch)
        ours = Scorer(space, PROXIES, batch=batch, teacher=taps, seed=SEED).table(archs)
        way = plain_way("cached", teacher, batch)
        for i, arch in enumerate(archs):
            scores = way.score(network.extract(arch))
            expected = (scores.semantic, scores.relation, scores.total)
            for proxy, value in zip(PROXIES, expected, strict=True):
                difference = abs(float(ours[proxy][i]) - value) / abs(value)
                worst[proxy] = max(worst[proxy], difference)
    return worst


# ---------------------------------------------------------------------- timing


class Timings:
    """Seconds by way, teacher and round: of every candidate, or of every cold run of ours."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str], list[list[tuple[float, float]]]] = {}

    def add(self, way: str, teacher: str, round_: int, seconds: tuple[float, float]) -> None:
        rounds = self._seconds.setdefault((way, teacher), [])
        while len(rounds) <= round_:
            rounds.append([])
        rounds[round_].append(seconds)

    def of(self, way: str, teacher: str) -> np.ndarray:
        """``[rounds, samples, (wall, processor)]``."""
        return np.array(self._seconds[way, teacher])


def measure(
    space: SearchSpace, archs: list[Architecture], timed: list[Architecture], batch: Batch,
    rounds: int,
) -> Timings:
    timings = Timings()
    ways = {
        (way, name): plain_way(way, make_teacher(name, batch), batch)
        for name in TEACHERS
        for way in plain.WAYS
    }
    for name in TEACHERS:  # nothing lazy is left to be charged to either side
        score_cold(space, archs[:4], name, batch)
    for round_ in range(rounds):
        began = time.perf_counter()
        for i, arch in enumerate(timed):
            for (way, name), scorer in ways.items():

                def candidate(scorer: plain.Released = scorer, seed: int = i) -> object:
                    return scorer.score(plain.fresh_student(depths_of(arch), 10, seed))  # noqa: B023

                timings.add(way, name, round_, clocked(candidate))
            if i % EVERY == EVERY - 1 or len(timed) < 2 * EVERY:
                for name in TEACHERS:
                    seconds = clocked(lambda name=name: score_cold(space, archs, name, batch))
                    timings.add("ours", name, round_, seconds)
        print(f"round {round_ + 1} of {rounds}: {time.perf_counter() - began:.0f} s", flush=True)
    return timings


def summarise(timings: Timings, scale: float, count: int) -> list[dict[str, object]]:
    """One row a teacher and way, milliseconds a candidate."""
    rows: list[dict[str, object]] = []
    for name in TEACHERS:
        ours = timings.of("ours", name) / count  # [rounds, runs, clock]
        # Of a candidate the best round counts; of ours only the best round's middle run,
        # which if anything favours the plain ways.
        ours_best = float(np.median(ours[:, :, 0], axis=1).min())
        for way in LABELS:
            if way == "ours":
                per_round, best = ours.mean(axis=1), ours_best
            else:
                seconds = timings.of(way, name)
                per_round = seconds.mean(axis=1) * scale  # [rounds, clock]
                best = float(seconds[:, :, 0].min(axis=0).mean()) * scale
            ratios = per_round / ours.mean(axis=1)
            wall = per_round[:, 0] * 1e3
            rows.append(
                {
                    "teacher": name,
                    "way": way,
                    "ms_best": round(best * 1e3, 2),
                    "ms_mean": round(float(wall.mean()), 2),
                    "ms_sd": round(float(wall.std(ddof=1)), 2) if len(wall) > 1 else "",
                    "ratio_best": round(best / ours_best, 2),
                    "ratio_low": round(float(ratios[:, 0].min()), 2),
                    "ratio_high": round(float(ratios[:, 0].max()), 2),
                    "ratio_cpu": round(float(ratios[:, 1].mean()), 2),
                }
            )
    return rows


# ---------------------------------------------------------------------- writing


def readme(
    options: Options, rows: list[dict[str, object]], worst: dict[str, float], rounds: int,
    candidates: int,
) -> str:
    table = markdown_table(
        [
            {
                "teacher": str(row["teacher"]).removesuffix("-cifar10"),
                "way": LABELS[str(row["way"])],
                "ms a candidate": f"{row['ms_best']:.1f}",
                "mean ± sd of rounds": f"{row['ms_mean']:.1f}"
                + (f" ± {row['ms_sd']:.1f}" if row["ms_sd"] != "" else ""),
                "ours is faster by": f"**{row['ratio_best']:.1f}×**",
                "in single rounds": f"{row['ratio_low']:.1f}–{row['ratio_high']:.1f}×",
                "by processor time": f"{row['ratio_cpu']:.1f}×",
            }
            for row in rows
            if row["way"] != "ours"
        ]
    )
    own = markdown_table(
        [
            {
                "teacher": str(row["teacher"]).removesuffix("-cifar10"),
                "ms a candidate": f"{row['ms_best']:.1f}",
                "mean ± sd of rounds": f"{row['ms_mean']:.1f}"
                + (f" ± {row['ms_sd']:.1f}" if row["ms_sd"] != "" else ""),
            }
            for row in rows
            if row["way"] == "ours"
        ]
    )
    verdicts = []
    for way, target in TARGETS.items():
        least = min(float(str(r["ratio_best"])) for r in rows if r["way"] == way)
        word = "met" if least >= target else "**missed**"
        verdicts.append(f"at least {target:.0f}× against {way}: {word} ({least:.1f}×)")
    largest = max(worst.values())
    verdict = "met" if largest <= PARITY else "**missed**"
    differences = ", ".join(f"{name} {value:.1e}" for name, value in worst.items())
    scaled = ""
    if candidates < 64:
        scaled = (
            f"\n**Quick run**: the plain ways were timed on {candidates} of the 64 candidates"
            " and scaled by MACs to the mean candidate; numbers are indicative.\n"
        )
    return f"""# Speed of DisWOT's score

All 64 students of S0, {BATCH} real CIFAR-10 images, random teachers, as in the released code.
{scaled}
Ours, cold: loading the teacher, its one pass, building the nested network and scoring all 64,
divided by 64.

{own}

Against the plain ways (`plain.py`), a fresh module with N(0, 1) weights for each candidate:

{table}

Targets: {"; ".join(verdicts)}.

Most of the gain over the last row, which is as fast as plain PyTorch gets, is the nested
network: prefixes that candidates share are computed once (2.3 blocks a candidate in place of
12). The rest is the teacher computed once, the classifier's gradient in closed form instead
of a backward pass through everything, and the memory layout.

**Parity** with the plain way on the same nested weights, all {candidates} candidates, both
teachers, largest relative difference: {differences}. Target {PARITY:g}: {verdict}.

- Make it again: `{options.command}`; a minute's version: with `--quick`.
- Seeds: images, teacher and nested weights {SEED}; a plain student's weights: its number.
- Spread: {rounds} rounds, ways interleaved candidate by candidate, ours run cold after
  every {EVERY if candidates == 64 else 1} of them. "ms a candidate": the mean over candidates
  of each one's best round; of ours, the best round's median run. "In single rounds": ratio of
  the rounds' means.
- The released code runs a full backward pass where only the classifier's gradient is used;
  so do the first two rows of each teacher. Its per-class C×C correlations are formed as such.
- Machine: {machine()}.
"""


def draw(rows: list[dict[str, object]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    order = ["released", "cached", "tuned", "ours"]
    short = ["as released", "teacher cached", "cached and tuned", "scholarch, cold"]
    figure, axes = plt.subplots(figsize=(7.2, 2.9), layout="constrained")
    for k, (name, shade) in enumerate(zip(TEACHERS, ("#9db7d5", "#2f5f98"), strict=True)):
        found = {str(r["way"]): float(str(r["ms_best"])) for r in rows if r["teacher"] == name}
        y = np.arange(len(order)) + (0.19 if k else -0.19)
        values = [found[way] for way in order]
        axes.barh(y, values, 0.36, color=shade, label=f"teacher {name.removesuffix('-cifar10')}")
        for at, value in zip(y, values, strict=True):
            text = f"{value:.0f} ms" + (
                f"  ({value / found['ours']:.1f}×)" if value != found["ours"] else ""
            )
            axes.text(value * 1.06, at, text, va="center", fontsize=8, color="#333333")
    axes.set_xscale("log")
    axes.set_xlim(5, max(float(str(r["ms_best"])) for r in rows) * 4)
    axes.set_yticks(range(len(order)), short)
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds a candidate, one thread (log scale)")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    figure.savefig(path, dpi=160)


def main() -> None:
    options = parse_options(__file__, __doc__.split("\n")[0], [IMAGES])
    torch.set_num_threads(1)
    space = s0_space()
    archs = s0_students(space)
    batch = real_batch(options.data, BATCH, SEED)
    macs = space.cost(archs)["macs"]
    timed, rounds = archs, ROUNDS
    if options.quick:
        # Evenly from the smallest to the largest.
        timed = [archs[i] for i in np.argsort(macs)[4::8]]
        rounds = 1
    scale = float(macs.mean() / space.cost(timed)["macs"].mean())
    worst = parity(space, timed, batch)
    print("largest relative difference:", {k: f"{v:.1e}" for k, v in worst.items()}, flush=True)
    rows = summarise(measure(space, archs, timed, batch, rounds), scale, len(archs))
    write_csv(options.out / "table.csv", rows)
    text = readme(options, rows, worst, rounds, len(timed))
    (options.out / "README.md").write_text(text, encoding="utf-8")
    draw(rows, options.out / "speed.png")
    print(text)
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
