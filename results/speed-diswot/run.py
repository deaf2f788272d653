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
from measure import PROXIES, QUIET, SEED, TEACHERS, VARIANTS, Timings, measure, parity, windows_of

BATCH = 64
#: One takes three minutes on a quiet machine.
ROUNDS = 2
#: Seconds to wait for a quiet machine before each window.
PATIENCE = 20.0
#: Quiet windows that are needed to leave the others out.
LEAST = 4
TARGETS = {"released": 50.0, "cached": 10.0}
PARITY = 1e-5

LABELS = {
    "ours": "ours, cold",
    "released": "as released: teacher recomputed, autograd",
    "cached": "teacher cached, autograd",
    "tuned": "teacher cached, channels-last, gradient of the classifier only",
}


def counted(timings: Timings) -> np.ndarray:
    """Which windows count: the quiet ones if they are at least four, else all, ``[windows]``.

    A busy machine slows ours more than the plain ways, by a tenth or two: it keeps the vector
    units busier, which neighbours may share.
    """
    quiet = np.array(timings.others) <= QUIET
    return quiet if quiet.sum() >= LEAST else np.ones_like(quiet)


def summarise(timings: Timings, scale: float, count: int) -> list[dict[str, object]]:
    """One row a teacher and way: milliseconds a candidate, and ratios paired by window."""
    rows: list[dict[str, object]] = []
    kept = counted(timings)
    for name in TEACHERS:
        ours = np.array(timings.each["ours", name])[kept]  # [windows, (wall, processor)]
        for way in LABELS:
            seconds = ours
            if way != "ours":
                once = np.median(timings.once[way, name], axis=0) / count
                seconds = np.array(timings.each[way, name])[kept] * scale + once
            # A neighbour slows a window as a whole: ratios within windows see little of it.
            low, ratio, high = np.percentile(seconds[:, 0] / ours[:, 0], [25, 50, 75])
            rows.append(
                {
                    "teacher": name,
                    "way": way,
                    "ms_median": round(float(np.median(seconds[:, 0])) * 1e3, 2),
                    "ms_lowest": round(float(seconds[:, 0].min()) * 1e3, 2),
                    "ratio": round(float(ratio), 2),
                    "ratio_q1": round(float(low), 2),
                    "ratio_q3": round(float(high), 2),
                    "ratio_of_lowest": round(float(seconds[:, 0].min() / ours[:, 0].min()), 2),
                    "ratio_cpu": round(float(np.median(seconds[:, 1] / ours[:, 1])), 2),
                    "windows": len(seconds),
                }
            )
    return rows


# ---------------------------------------------------------------------- writing


def readme(
    options: Options,
    rows: list[dict[str, object]],
    differences: dict[str, list[float]],
    timings: Timings,
    rounds: int,
    candidates: int,
) -> str:
    def cells(row: dict[str, object]) -> dict[str, str]:
        return {
            "teacher": str(row["teacher"]).removesuffix("-cifar10"),
            "way": LABELS[str(row["way"])],
            "ms a candidate, median": f"{row['ms_median']:.1f}",
            "lowest": f"{row['ms_lowest']:.1f}",
        }

    def ratios(row: dict[str, object]) -> dict[str, str]:
        return {
            "ours is faster by": f"**{row['ratio']:.1f}×**",
            "quartiles": f"{row['ratio_q1']:.1f}–{row['ratio_q3']:.1f}×",
            "lowest by lowest": f"{row['ratio_of_lowest']:.1f}×",
            "by processor time": f"{row['ratio_cpu']:.1f}×",
        }

    own = markdown_table([cells(row) for row in rows if row["way"] == "ours"])
    table = markdown_table([cells(row) | ratios(row) for row in rows if row["way"] != "ours"])
    verdicts = []
    for way, target in TARGETS.items():
        found = [float(str(row["ratio"])) for row in rows if row["way"] == way]
        word = "met" if min(found) >= target else "**missed**"
        values = " and ".join(f"{value:.1f}×" for value in found)
        verdicts.append(f"at least {target:.0f}× against {way}: {word} ({values})")
    same_layout = next(iter(differences.values()))
    verdict = "met" if max(same_layout) <= PARITY else "**missed**"
    parity_table = markdown_table(
        [
            {"largest relative difference": name}
            | {proxy: f"{value:.1e}" for proxy, value in zip(PROXIES, values, strict=True)}
            for name, values in differences.items()
        ]
    )
    others = np.array(timings.others)
    windows, kept = len(others), counted(timings)
    load = f"All count; other processes kept {np.median(others):.1f} cores busy meanwhile (median)"
    if (others <= QUIET).sum() >= LEAST:
        load = f"The {kept.sum()} count in which other processes kept fewer than {QUIET} cores busy"
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
- Spread: {windows} windows ({rounds} round{"s" if rounds > 1 else ""} through the candidates)
  of {candidates * rounds // windows} candidates, of nearly the same mean size. In each, all ways
  score every candidate in turn, and ours runs cold over all 64 halfway, once for each teacher.
  Ratios are taken within windows, since a busy neighbour slows a window as a whole; given are
  their median and quartiles. {load}.
  What a way does once, the teacher, is in its time, divided by 64.
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
    widest = max(float(str(row["ms_median"])) for row in rows)
    figure, axes = plt.subplots(figsize=(7.2, 2.9), layout="constrained")
    for k, (name, shade) in enumerate(zip(TEACHERS, ("#9db7d5", "#2f5f98"), strict=True)):
        found = {str(r["way"]): r for r in rows if r["teacher"] == name}
        y = np.arange(len(order)) + (0.19 if k else -0.19)
        values = [float(str(found[way]["ms_median"])) for way in order]
        axes.barh(y, values, 0.36, color=shade, label=f"teacher {name.removesuffix('-cifar10')}")
        for way, at, value in zip(order, y, values, strict=True):
            text = f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms"
            if way != "ours":
                text += f"  ({float(str(found[way]['ratio'])):.1f}×)"
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
    timed, rounds, count, patience = archs, ROUNDS, 8, PATIENCE
    if options.quick:
        # Evenly from the smallest to the largest.
        timed = [archs[i] for i in np.argsort(macs)[4::8]]
        rounds, count, patience = 1, 2, 0.0
    windows = windows_of(timed, space.cost(timed)["macs"], count)
    scale = float(macs.mean() / space.cost(timed)["macs"].mean())
    variants = list(VARIANTS)[: 2 if options.quick else None]
    differences = parity(space, timed, batch, variants)
    for name, values in differences.items():
        print(f"{name}: {max(values):.1e}", flush=True)
    timings = measure(space, archs, windows, batch, rounds, patience)
    rows = summarise(timings, scale, len(archs))
    write_csv(options.out / "table.csv", rows)
    text = readme(options, rows, differences, timings, rounds, len(timed))
    (options.out / "README.md").write_text(text, encoding="utf-8")
    draw(rows, options.out / "speed.png")
    print(text)
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
