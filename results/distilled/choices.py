"""Which distiller the picked student gets: chosen on CIFAR-10's validation images alone.

Three students of the distilled benchmark, teacher ResNet-20, the recipe of :mod:`common`::

    python results/distilled/choices.py run
    python results/distilled/choices.py table
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import common
from _common import machine, markdown_table

DATA, TEACHER = "cifar10", "r20"
STUDENTS = ("4-4x4-16x2-20x3", "8-8x2-8x5-20x6", "8-8x1-4x4-20x3")
#: Name → distiller, its options, weight of the labels; ``@`` a learning rate.
VARIANTS: dict[str, tuple[str, dict[str, Any], float | None]] = {
    "labels": ("none", {}, None),
    "labels @ .1": ("none", {}, None),
    "labels @ .2": ("none", {}, None),
    "kd": ("kd", {}, None),
    "kd, T = 2": ("kd", {"temperature": 2.0}, None),
    "kd, T = 1": ("kd", {"temperature": 1.0}, None),
    "kd, labels 1": ("kd", {"weight": 1.0}, 1.0),
    "kd, labels 1 @ .1": ("kd", {"weight": 1.0}, 1.0),
    "kd, T = 2, labels 1": ("kd", {"temperature": 2.0, "weight": 1.0}, 1.0),
    "dist": ("dist", {}, None),
    "dkd": ("dkd", {}, None),
    "at": ("at", {}, None),
    "sp": ("sp", {}, None),
    "diswot": ("diswot", {}, None),
    "pld": ("pld", {}, None),
}


def run(variants: list[str], seeds: int) -> None:
    common.one_thread()
    data, space = common.data_of(DATA), common.space_of()
    teacher = common.teacher_of(TEACHER, data)
    folder = common.cache() / f"answers-{TEACHER}-{DATA}"
    folder.mkdir(exist_ok=True)
    for seed in range(seeds):
        for text in STUDENTS:
            for name in variants:
                distiller, options, labels = VARIANTS[name]
                rate = float(name.split("@")[1]) if "@" in name else None

                def work(
                    text: str = text, distiller: str = distiller, options: Any = options,
                    labels: float | None = labels, seed: int = seed,
                    rate: float | None = rate,
                ) -> dict[str, Any]:  # fmt: skip
                    settings = common.settings_of(
                        distiller, seed, options=options, labels=labels, lr=rate
                    )
                    guides = [teacher] if settings.teaches else []
                    arch = space.parse(text)
                    return common.train(
                        space, arch, data, settings, guides, folder=folder, test=False
                    )

                common.once("choices", {"variant": name, "arch": text, "seed": seed}, work)


def table() -> None:
    lines = [json.loads(t) for t in (common.HERE / "choices.jsonl").read_text().splitlines()]
    by = {(x["variant"], x["arch"], x["seed"]): x for x in lines}
    rows = []
    for name in VARIANTS:
        mine = [x for x in lines if x["variant"] == name]
        if not mine:
            continue
        gains = [x["val"] - by["labels", x["arch"], x["seed"]]["val"] for x in mine]
        rows.append(
            {
                "variant": name,
                "runs": len(mine),
                "validation": common.mean_sd([x["val"] for x in mine]),
                "− labels": "" if name == "labels" else common.interval(gains),
                "CPU s": f"{sum(x['seconds'] for x in mine) / len(mine):.1f}",
            }
        )
    print(markdown_table(rows), f"\n\n{machine()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--variants", default=";".join(VARIANTS), help="separated by semicolons")
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    if given.what == "run":
        run(given.variants.split(";"), given.seeds)
    else:
        table()


if __name__ == "__main__":
    main()
