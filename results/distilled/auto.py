"""What ``--distiller auto`` picks, beside the fixed kd and the best of its candidates in hindsight.

One student of the distilled benchmark, teacher ResNet-20, the recipe of :mod:`common` for four
epochs, each distiller with its paper's defaults as ``scholarch distil`` has them::

    python results/distilled/auto.py run --data fashion-mnist
    python results/distilled/auto.py table
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import common
import numpy as np
from _common import machine, markdown_table

from scholarch.supernet.distil.choose import CANDIDATES, REFERENCE, Tried, choose_distiller
from scholarch.supernet.distil.settings import NO_DISTILLER, DistilSettings

TEACHER, STUDENT, EPOCHS = "r20", "8-8x1-4x4-20x3", 4


def settings_of(name: str, seed: int) -> DistilSettings:
    """With the distiller's own defaults: ``auto`` passes no options."""
    return common.settings_of(name, seed, epochs=EPOCHS, options={})


def run(name: str, seeds: int) -> None:
    common.one_thread()
    data, space = common.data_of(name), common.space_of()
    arch = space.parse(STUDENT)
    teacher = common.teacher_of(TEACHER, data)
    folder = common.cache() / f"answers-{TEACHER}-{name}"
    folder.mkdir(exist_ok=True)

    def train(settings: DistilSettings, *, test: bool) -> dict[str, Any]:
        guides = [teacher] if settings.teaches else []
        return common.train(space, arch, data, settings, guides, folder=folder, test=test)

    for seed in range(seeds):
        key = {"data": name, "arch": STUDENT, "seed": seed, "epochs": EPOCHS}

        def choose(seed: int = seed) -> dict[str, Any]:
            def attempt(settings: DistilSettings, rung: int) -> Tried:
                found = train(settings, test=False)
                seconds = found["seconds"]
                return Tried(settings.distiller, rung, found["val"], found["steps"], 0.0, seconds)

            images = len(data.val.labels)
            choice = choose_distiller(attempt, settings_of(REFERENCE, seed), images)
            return {
                "picked": choice.distiller,
                "why": choice.why,
                "seconds": round(sum(one.seconds for one in choice.tries), 2),
                "tries": [[t.distiller, t.rung, t.steps, t.accuracy] for t in choice.tries],
            }

        length = {"epochs": EPOCHS}
        common.once("auto", key | {"what": "choice"}, choose, length=length)
        for distiller in CANDIDATES:

            def work(distiller: str = distiller, seed: int = seed) -> dict[str, Any]:
                return train(settings_of(distiller, seed), test=True)

            common.once("auto", key | {"what": distiller}, work, length=length)


def table() -> None:
    lines = [json.loads(t) for t in (common.HERE / "auto.jsonl").read_text().splitlines()]
    rows, seeds = [], []
    for data in dict.fromkeys(line["data"] for line in lines):
        by = {(x["what"], x["seed"]): x for x in lines if x["data"] == data}
        seeds = sorted(s for what, s in by if what == CANDIDATES[-1] and ("choice", s) in by)
        picked = [by["choice", s]["picked"] for s in seeds]
        fixed = {name: [by[name, s] for s in seeds] for name in CANDIDATES}
        auto = [by[name, s] for name, s in zip(picked, seeds, strict=True)]
        best = [max((fixed[n][i] for n in CANDIDATES), key=lambda x: x["test"])
                for i in range(len(seeds))]  # fmt: skip
        tries = [by["choice", s]["seconds"] for s in seeds]
        cost = {
            "auto": np.mean([a + x["seconds"] for a, x in zip(tries, auto, strict=True)]),
            "best in hindsight": np.mean(
                [sum(fixed[n][i]["seconds"] for n in CANDIDATES) for i in range(len(seeds))]
            ),
        }
        shown = {"auto": auto, "best in hindsight": best} | fixed
        for name, found in shown.items():
            gain = [a["test"] - b["test"] for a, b in zip(found, fixed[REFERENCE], strict=True)]
            which = {"auto": picked, "best in hindsight": [x["what"] for x in best]}.get(name, [])
            rows.append(
                {
                    "data": data,
                    "distiller": {NO_DISTILLER: "labels alone"}.get(name, name),
                    "which": ", ".join(which),
                    "seeds": len(seeds),
                    "test": common.mean_sd([x["test"] for x in found]),
                    f"− {REFERENCE}": "" if name == REFERENCE else common.interval(gain),
                    "CPU s": f"{cost.get(name, np.mean([x['seconds'] for x in found])):.0f}",
                }
            )
    print(markdown_table(rows), f"\n\n{machine()}")
    for line in lines:
        if line["what"] == "choice":
            print(f"seed {line['seed']}: {line['why']} ({line['seconds']} s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--data", choices=("fashion-mnist", "cifar10"), default="fashion-mnist")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    if given.what == "run":
        run(given.data, given.seeds)
    else:
        table()


if __name__ == "__main__":
    main()
