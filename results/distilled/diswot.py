"""DisWOT's own table at bench-S' size: KD < DisWOT < DisWOT†, or not.

Teachers: ResNet-56 and ResNet-20 of full width, and ResNet-56 and ResNet-110 at half of it, which
half the epochs left weaker than a student; students of ResNet-20's size at a quarter
(``4-4x3-8x3-16x3``). **KD**: that ResNet-20, distilled by KD. **DisWOT**: of S0's 64 depths at
these widths the one inside ResNet-20's parameters that the score ``diswot`` likes best, distilled
by KD. **DisWOT†**: the same with the distiller ``diswot``. The cross (ResNet-20 by ``diswot``) says
what of a gain is the architecture's and what the distiller's::

    python results/distilled/diswot.py run
    python results/distilled/diswot.py table
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import Any

import common
import numpy as np
from _common import machine, markdown_table

import scholarch
from scholarch.proxies.teacher import Teacher
from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.convnets.resnet_cifar import CifarResNetSpace
from scholarch.teacher import load_teacher

DATA = "fashion-mnist"
#: Of the teachers, half of what common's are given: they are deep and slow.
EPOCHS = 6
DEPTHS = {"ResNet-56 (½)": 9, "ResNet-110 (½)": 18}
#: Of full width, trained for twice as long: common's.
FULL = {"ResNet-56": "r56", "ResNet-20": "r20"}
STUDENT = ((4,), (4,), (8,), (16,))
TEACHER = ((8,), (8,), (16,), (32,))
RESNET20 = (3, 3, 3)
METHODS = {
    "labels": ("resnet20", "none"),
    "KD": ("resnet20", "kd"),
    "DisWOT": ("diswot", "kd"),
    "DisWOT†": ("diswot", "diswot"),
    "ResNet-20, †": ("resnet20", "diswot"),
}


def space_of(depths: tuple[int, ...], widths: Any) -> CifarResNetSpace:
    options: dict[str, Any] = {"num_classes": common.CLASSES, "resolution": common.SIDE}
    return CifarResNetSpace("diswot-table", depths, widths, **options)


def teacher_of(name: str, data: Any) -> Teacher:
    """Trained once, by the teachers' recipe of :mod:`common`."""
    if name in FULL:
        return replace(common.teacher_of(FULL[name], data), name=name)
    from safetensors.torch import load_file, save_file

    space = space_of((DEPTHS[name],), TEACHER)
    arch = space.sample(1, seed=0)[0]
    file = common.cache() / f"half{DEPTHS[name]}-{data.name}.safetensors"
    if not file.exists():
        settings = common.settings_of("none", 0, epochs=EPOCHS, augment="light")
        found = common.train(space, arch, data, settings)
        network = found.pop("network")
        save_file({k: v.contiguous() for k, v in network.state_dict().items()}, file)
        file.with_suffix(".json").write_text(json.dumps({"name": name} | found))
    network = space.build(arch)
    network.load_state_dict(load_file(file))
    about = json.loads(file.with_suffix(".json").read_text())
    teacher = load_teacher(network.eval(), mean=data.mean, std=data.std)
    return replace(teacher, name=name, accuracy=about["test"])


def students(teacher: Teacher, data: Any, seed: int) -> dict[str, Architecture]:
    """ResNet-20, and what DisWOT picks of its size."""
    space = space_of((1, 3, 5, 7), STUDENT)
    rows = space.enumerate_matrix()
    archs = space.decode(rows)
    params = space.cost(archs)["params"]
    depth = [tuple(space.genes[i].values[row[i]] for i in range(3)) for row in rows]
    plain = archs[depth.index(RESNET20)]
    limit = params[archs.index(plain)]
    inside = [arch for arch, size in zip(archs, params, strict=True) if size <= limit]
    batch = data.batch(64, seed)
    scores = scholarch.score(space, inside, batch=batch, teacher=teacher, proxies=["diswot"], seed=seed)  # noqa: E501  # fmt: skip
    return {"resnet20": plain, "diswot": inside[int(np.nanargmax(scores["diswot"]))]}


def run(seeds: int, teachers: list[str]) -> None:
    common.one_thread()
    data = common.data_of(DATA)
    space = space_of((1, 3, 5, 7), STUDENT)
    for name in teachers:
        teacher = teacher_of(name, data)
        folder = common.cache() / f"answers-{FULL.get(name) or f'half{DEPTHS[name]}'}"
        folder.mkdir(exist_ok=True)
        for seed in range(seeds):
            archs = students(teacher, data, seed)
            for method, (which, distiller) in METHODS.items():
                key = {"teacher": name, "method": method, "seed": seed}
                settings = common.settings_of(distiller, seed)
                arch = archs[which]

                def work(arch: Any = arch, settings: Any = settings) -> dict[str, Any]:
                    guides = [teacher] if settings.teaches else []  # noqa: B023
                    done = common.train(space, arch, data, settings, guides, folder=folder)  # noqa: B023
                    own = {n: int(v[0]) for n, v in space.cost([arch]).items()}
                    return {"arch": arch.text, "of": teacher.accuracy} | own | done  # noqa: B023

                common.once("diswot", key, work)


def table() -> None:
    lines = [json.loads(t) for t in (common.HERE / "diswot.jsonl").read_text().splitlines()]
    rows = []
    for teacher in (*FULL, *DEPTHS):
        by = {(x["method"], x["seed"]): x for x in lines if x["teacher"] == teacher}
        seeds = sorted({seed for _, seed in by})
        for method in METHODS if by else ():
            found = [by[method, s] for s in seeds]
            gain = [by[method, s]["test"] - by["KD", s]["test"] for s in seeds]
            rows.append(
                {
                    "teacher": f"{teacher}, {100 * found[0]['of']:.1f} %",
                    "method": method,
                    "student": ", ".join(dict.fromkeys(x["arch"] for x in found)),
                    "params": f"{np.mean([x['params'] for x in found]):.0f}",
                    "test": common.mean_sd([x["test"] for x in found]),
                    "− KD": "" if method == "KD" else common.interval(gain),
                }
            )
    print(markdown_table(rows), f"\n\n{len(seeds)} seeds. {machine()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--teachers", default=",".join((*FULL, *DEPTHS)))
    given = parser.parse_args()
    if given.what == "run":
        run(given.seeds, given.teachers.split(","))
    else:
        table()


if __name__ == "__main__":
    main()
