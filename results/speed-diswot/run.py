"""How much faster DisWOT's released score is here than done plainly, on all of S0.

Every way scores the same 64 students on the same 64 real images, on one thread, interleaved
candidate by candidate, so that a busy neighbour slows all of them alike.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

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
from measure import EVERY, PROXIES, SEED, TEACHERS, VARIANTS, Timings, measure, parity

BATCH = 64
ROUNDS = 3
TARGETS = {"released": 50.0, "cached": 10.0}
PARITY = 1e-5

LABELS = {
    "ours": "ours, cold",
    "released": "as released: teacher recomputed, autograd",
    "cached": "teacher cached, autograd",
    "tuned": "teacher cached, channels-last, gradient of the classifier only",
}


def summarise(timings: Timings, scale: float, count: int) -> list[dict[str, object]]:
    """One row a teacher and way, milliseconds a candidate."""
    rows: list[dict[str, object]] = []
    for name in TEACHERS:
        ours = np.array(timings.each["ours", name]) / count  # [rounds, runs, clock]
        # Of a candidate the best round counts; of ours only the best round's middle run,
        # which if anything favours the plain ways.
        ours_best = float(np.median(ours[:, :, 0], axis=1).min())
        for way in LABELS:
            if way == "ours":
                per_round, best = ours.mean(axis=1), ours_best
            else:
                seconds = np.array(timings.each[way, name])
                once = np.array(timings.once[way, name])[:, 0] / count  # [rounds, clock]
                per_round = seconds.mean(axis=1) * scale + once  # [rounds, clock]
                best = float(seconds[:, :, 0].min(axis=0).mean() * scale + once[:, 0].min())
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
    options: Options,
    rows: list[dict[str, object]],
    differences: dict[str, list[float]],
    rounds: int,
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
    same_layout = next(iter(differences.values()))
    verdict = "met" if max(same_layout) <= PARITY else "**missed**"
    parity_table = markdown_table(
        [
            {"largest relative difference": name}
            | {proxy: f"{value:.1e}" for proxy, value in zip(PROXIES, values, strict=True)}
            for name, values in differences.items()
        ]
    )
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

## Parity

The plain way on the same nested weights (`supernet.extract`), {candidates} candidates, both
teachers. Target, the first row: {PARITY:g}, {verdict}.

{parity_table}

The layout matters to the last digits: in float32 the logits of N(0, 1) weights, large and
saturated, pass their rounding on to the class gradients.

## How

- Make it again: `{options.command}`; a minute's version: with `--quick`.
- Seeds: images, teacher and nested weights {SEED}; a plain student's weights: its number.
- Spread: {rounds} round{"s" if rounds > 1 else ""}, ways interleaved candidate by candidate,
  ours run cold after every {EVERY if candidates == 64 else candidates // 2} of them. "Ms a
  candidate" is the mean over candidates of each one's best round; of ours, the best round's
  median run. "In single rounds": ratios of the rounds' means. What a way does once, the
  teacher, is in its time, divided by 64.
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
    widest = max(float(str(row["ms_best"])) for row in rows)
    figure, axes = plt.subplots(figsize=(7.2, 2.9), layout="constrained")
    for k, (name, shade) in enumerate(zip(TEACHERS, ("#9db7d5", "#2f5f98"), strict=True)):
        found = {str(r["way"]): float(str(r["ms_best"])) for r in rows if r["teacher"] == name}
        y = np.arange(len(order)) + (0.19 if k else -0.19)
        values = [found[way] for way in order]
        axes.barh(y, values, 0.36, color=shade, label=f"teacher {name.removesuffix('-cifar10')}")
        for at, value in zip(y, values, strict=True):
            text = f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms"
            if value != found["ours"]:
                text += f"  ({value / found['ours']:.1f}×)"
            axes.text(value + 0.008 * widest, at, text, va="center", fontsize=8, color="#333333")
    axes.set_xlim(0, widest * 1.2)
    axes.set_yticks(range(len(order)), short)
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds a candidate, one thread")
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
    variants = list(VARIANTS)[: 2 if options.quick else None]
    differences = parity(space, timed, batch, variants)
    for name, values in differences.items():
        print(f"{name}: {max(values):.1e}", flush=True)
    rows = summarise(measure(space, archs, timed, batch, rounds), scale, len(archs))
    write_csv(options.out / "table.csv", rows)
    text = readme(options, rows, differences, rounds, len(timed))
    (options.out / "README.md").write_text(text, encoding="utf-8")
    draw(rows, options.out / "speed.png")
    print(text)
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
