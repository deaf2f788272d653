"""The student our search picks, distilled, against what else a user could do with the budget.

Teacher ResNet-20 of full width; students of ``resnet-cifar`` at ``width_mult=.25`` of at most a
tenth of its multiply-accumulates; the recipe of :mod:`common`, by KD. Data at bench-S' size::

    python results/distilled/pick.py run --data fashion-mnist
    python results/distilled/pick.py run --data fashion-mnist --calibrate 20
    python results/distilled/pick.py run --data cifar10
    python results/distilled/pick.py run --data fashion-mnist --epochs 10 [--calibrate 20]
    python results/distilled/pick.py table [--epochs 10]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import common
import numpy as np
from _common import machine, markdown_table

import scholarch
from scholarch.proxies.teacher import Teacher
from scholarch.search.calibration.calibrated import CalibratedRank
from scholarch.search.calibration.labels import Label
from scholarch.search.calibration.picks import quantile_picks
from scholarch.search.result import SearchResult
from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.convnets.resnet_cifar import CifarResNetSpace
from scholarch.searchspace.space import SearchSpace

TEACHER = "r20"
DATA = ("fashion-mnist", "cifar10")
RANDOM = 5
EVALUATIONS = 500


def shrunk(limit: float) -> tuple[SearchSpace, Architecture]:
    """The teacher with all widths multiplied by one factor, the largest inside the limit."""
    found = None
    for width in range(1, 17):
        widths = ((width,), (width,), (2 * width,), (4 * width,))
        space = _exact(widths)
        arch = space.sample(1, seed=0)[0]
        if float(space.cost([arch])["macs"][0]) > limit:
            break
        found = (space, arch)
    if found is None:
        raise RuntimeError("no width fits")
    return found


def _exact(widths: tuple[tuple[int, ...], ...]) -> CifarResNetSpace:
    """ResNet-20 of widths that need not be multiples of 4."""
    options: dict[str, Any] = {"num_classes": common.CLASSES, "resolution": common.SIDE}
    return CifarResNetSpace("shrunk", (3,), widths, **options)


def calibrated(
    found: SearchResult, data: Any, teacher: Teacher, count: int, seed: int, length: dict[str, int]
) -> Architecture:
    """The best of the candidates by a rank that ``count`` distillations have corrected.

    As ``scholarch search --calibrate`` has it, by labels of the recipe that all are judged by.
    """
    folder = common.cache() / f"answers-{TEACHER}-{data.name}"
    scores = np.array([candidate.score for candidate in found.candidates])
    labels = []
    for place in quantile_picks(scores, count, seed):
        arch = found.candidates[place].arch
        settings = common.settings_of("kd", seed, **length)

        def work(arch: Any = arch, settings: Any = settings) -> dict[str, Any]:
            return common.train(
                found.space, arch, data, settings, [teacher], folder=folder, test=False
            )

        key = {"data": data.name, "arch": arch.text, "seed": seed} | length
        line = common.once("labels", key, work, length=length)
        labels.append(Label(TEACHER, arch.text, arch.key, seed, line["val"], line["seconds"]))
    rank = CalibratedRank(found, labels)
    mean, _ = rank.of(rank.pool)
    return rank.pool[int(np.argmax(mean))].arch


def candidates(
    data: Any, seed: int, calibrate: int, length: dict[str, int], out: str
) -> Iterator[tuple[str, SearchSpace, Architecture]]:
    """Method, space and architecture of everything that is distilled."""
    space = common.space_of()
    teacher = common.teacher_of(TEACHER, data)
    plain = common.space_of(1.0)  # a teacher's own count is at another resolution
    limit = 0.1 * float(plain.cost([plain.parse(common.TEACHERS[TEACHER])])["macs"][0])
    found = scholarch.find_student(
        space=space, data=data, teacher=teacher, budget={"macs": limit}, seed=seed,
        evaluations=EVALUATIONS, out=Path(out) / "search",
    )  # fmt: skip
    if calibrate:
        yield "calibrated", space, calibrated(found, data, teacher, calibrate, seed, length)
        return
    yield "ours", space, found.best.arch
    yield "shrunk", *shrunk(limit)
    rows = space.sample_matrix(4000, np.random.default_rng((seed, 5)))
    rows = rows[space.cost(rows)["macs"] <= limit][:RANDOM]
    for i, arch in enumerate(space.decode(rows)):
        yield f"random{i}", space, arch


def run(name: str, seeds: int, calibrate: int, epochs: int) -> None:
    # Lines of the benchmark's own length do not name it: they are older than the choice.
    length = {} if epochs == common.EPOCHS else {"epochs": epochs}
    common.one_thread()
    data = common.data_of(name)
    teacher = common.teacher_of(TEACHER, data)
    folder = common.cache() / f"answers-{TEACHER}-{name}"
    folder.mkdir(exist_ok=True)
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as out:
            found = list(candidates(data, seed, calibrate, length, out))
        for method, space, arch in found:
            kinds = ("kd", "none") if method == "ours" else ("kd",)
            for kind in kinds:
                key = {"data": name, "method": method, "distiller": kind, "seed": seed} | length
                teachers = [teacher] if kind == "kd" else []
                settings = common.settings_of(kind, seed, **length)
                costs = space.cost([arch])

                def work(
                    space: Any = space, arch: Any = arch, s: Any = settings, t: Any = teachers,
                    costs: Any = costs,
                ) -> dict[str, Any]:  # fmt: skip
                    done = common.train(space, arch, data, s, t, folder=folder)
                    own = {n: int(costs[n][0]) for n in ("params", "macs", "depth")}
                    return {"arch": arch.text} | own | done

                common.once("pick", key, work, length=length)


def table(epochs: int) -> None:
    import json

    lines = [json.loads(t) for t in (common.HERE / "pick.jsonl").read_text().splitlines()]
    lines = [line for line in lines if line.get("epochs", common.EPOCHS) == epochs]
    rows = []
    for data in dict.fromkeys(line["data"] for line in lines):
        mine = [line for line in lines if line["data"] == data]
        by = {(x["method"], x["distiller"], x["seed"]): x for x in mine}
        last = (f"random{RANDOM - 1}", "kd")
        seeds = sorted(seed for *method, seed in by if tuple(method) == last)
        ours = [by["ours", "kd", s] for s in seeds]
        randoms = [[by[f"random{i}", "kd", s] for i in range(RANDOM)] for s in seeds]
        rank = [by.get(("calibrated", "kd", s)) for s in seeds]
        methods = {
            "ours, distilled": ours,
            **({"ours --calibrate 20, distilled": rank} if all(rank) else {}),
            "teacher shrunk, distilled": [by["shrunk", "kd", s] for s in seeds],
            "best of 5 random, distilled": [max(r, key=lambda x: x["val"]) for r in randoms],
            "mean of 5 random, distilled": randoms,
            "ours, labels alone": [by["ours", "none", s] for s in seeds],
        }
        for name, found in methods.items():
            tests = [_mean(one, "test") for one in found]
            gain = [a["test"] - b for a, b in zip(ours, tests, strict=True)]
            rows.append(
                {
                    "data": data,
                    "student": name,
                    "architectures": ", ".join(dict.fromkeys(_names(found))),
                    "seeds": len(seeds),
                    "MMACs": f"{np.mean([_mean(x, 'macs') for x in found]) / 1e6:.2f}",
                    "test": common.mean_sd(tests),
                    "ours − it": "" if found is ours else common.interval(gain),
                    "trained": RANDOM if "random" in name else 21 if found is rank else 1,
                }
            )
    print(markdown_table(rows), f"\n\n{machine()}")


def _mean(one: Any, name: str) -> float:
    return float(np.mean([x[name] for x in (one if isinstance(one, list) else [one])]))


def _names(found: list[Any]) -> list[str]:
    return ["various"] if isinstance(found[0], list) else [x["arch"] for x in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--data", choices=DATA, default=DATA[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--calibrate", type=int, default=0, help="labels of the calibrated pick")
    parser.add_argument("--epochs", type=int, default=common.EPOCHS, help="of every run")
    given = parser.parse_args()
    if given.what == "run":
        run(given.data, given.seeds, given.calibrate, given.epochs)
    else:
        table(given.epochs)


if __name__ == "__main__":
    main()
