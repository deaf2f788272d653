"""Adversarially trained supernets of digits: what training under attack buys, and the front.

nice -n 15 python results/supernet/robust.py [--quick]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.datasets import load_digits

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _common import machine, markdown_table, spread, write_csv

from scholarch.data import DataSet, load_data
from scholarch.search.robust import robust_front
from scholarch.searchspace.convnets.resnet_cifar import CifarResNetSpace
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.space import SearchSpace, register_space
from scholarch.supernet.encoding import DESIGNS, design
from scholarch.supernet.predictor import Predictor
from scholarch.supernet.pretrained import Supernet, load_supernet
from scholarch.supernet.robust.checks import check_attack
from scholarch.supernet.robust.evaluate import RobustEvaluator
from scholarch.supernet.robust.strength import Attack
from scholarch.supernet.session import TrainingRun, landmarks
from scholarch.supernet.settings import TrainSettings
from scholarch.supernet.trainer import Trainer

SPACE = "resnet-digits-27x8"
SEEDS = (0, 1, 2)
EPOCHS = 16
TRAINING = {"epsilon": 0.1, "step": 0.025, "attack_steps": 10}
STRONG = Attack(epsilon=0.1, step=0.025)
ATTACKS = {"weak": Attack(), "strong": STRONG}
KINDS = ("ridge", "gp")
LEARN, DRAWS = 40, 20
#: Images of a part that are attacked.
LIMIT = 200


@register_space(SPACE)
def _space(name: str, **options: Any) -> SearchSpace:
    """216 ResNets: blocks a stage 1 … 3, two widths a stage."""
    return CifarResNetSpace(name, (1, 2, 3), [(8,), (4, 8), (8, 16), (16, 32)], **options)


def digits(train: int = 1000, val: int = 300) -> DataSet:
    """The 1,797 scans of 8×8 pixels: 1,000 to train on, 300 to choose on, 497 for the last word."""
    raw = load_digits()
    order = np.random.default_rng(0).permutation(len(raw.target))
    grey = np.round(raw.images[order] * 255 / 16).astype(np.uint8)
    images, labels = np.repeat(grey[..., None], 3, axis=-1), raw.target[order].astype(np.int64)
    parts = np.split(np.arange(len(labels)), [train, train + val])
    arrays = {}
    for part, rows in zip(("train", "val", "test"), parts, strict=True):
        arrays |= {f"x_{part}": images[rows], f"y_{part}": labels[rows]}
    return load_data(arrays)


@dataclass(frozen=True)
class Trained:
    supernet: Supernet
    chosen: dict[str, Any]
    steps: int
    macs: float
    seconds: float


def train(data: DataSet, seed: int, schedule: str, folder: Path, **settings: Any) -> Trained:
    space = create_space(SPACE, num_classes=10, resolution=8)
    settings = {"batch_size": 64, "lr": 0.1, "augment": "none", "evaluations": 0, **settings}
    trainer = Trainer(space, data, TrainSettings(schedule=schedule, seed=seed, **settings))
    since = time.process_time()
    run = TrainingRun(trainer, folder)
    clock = folder / "cpu_seconds"
    if not run.finished:
        run.run()
        clock.write_text(str(time.process_time() - since), encoding="utf-8")
    named = landmarks(trainer)
    chosen = {"smallest": named["smallest"], "mid": named["between1"], "largest": named["largest"]}
    seconds = float(clock.read_text(encoding="utf-8"))
    passed = trainer.macs_passed
    return Trained(load_supernet(folder), chosen, trainer.plan.steps, passed, seconds)


def compare(
    data: DataSet, seeds: tuple[int, ...], epochs: float, at: Path
) -> tuple[list[dict[str, object]], list[dict[str, object]], dict[str, list[Trained]]]:
    """Every schedule and seed: a table, its rows, and the supernets."""
    trained: dict[str, list[Trained]] = {"delayed": [], "delayed, equal MACs": [], "robust": []}
    rows: list[dict[str, object]] = []
    for seed in seeds:
        robust = train(data, seed, "robust", at / f"r{seed}", epochs=epochs, options=TRAINING)
        clean = train(data, seed, "delayed", at / f"d{seed}", epochs=epochs)
        # As many multiply-accumulates as the adversarial training's: nine times the steps.
        equal = train(data, seed, "delayed", at / f"e{seed}", macs=robust.macs)
        runs = {"delayed": clean, "delayed, equal MACs": equal, "robust": robust}
        for name, run in runs.items():
            trained[name].append(run)
            evaluators = {
                a: RobustEvaluator(
                    run.supernet.network, data, attack=attack, seed=seed, limit=LIMIT
                )
                for a, attack in ATTACKS.items()
            }
            for size, arch in run.chosen.items():
                found = {a: e.robustness(arch, "test") for a, e in evaluators.items()}
                rows.append(
                    {
                        "training": name,
                        "seed": seed,
                        "network": size,
                        "steps": run.steps,
                        "gmacs": round(run.macs / 1e9, 1),
                        "cpu_seconds": round(run.seconds, 1),
                        "natural": round(found["weak"].natural, 4),
                        **{f"pgd20_{e.epsilon:g}": round(found[a].robust, 4)
                           for a, e in ATTACKS.items()},
                    }
                )  # fmt: skip
            print(f"{name} {seed}: {run.seconds:.0f} s", file=sys.stderr)
    table = []
    for name in trained:
        for size in ("smallest", "mid", "largest"):
            of = [r for r in rows if (r["training"], r["network"]) == (name, size)]
            line: dict[str, object] = {
                "training": name,
                "seeds": f"{len(of)}",
                "steps": f"{of[0]['steps']}",
                "10⁹ MACs": f"{of[0]['gmacs']:.0f}",
                "CPU s": f"{np.mean([r['cpu_seconds'] for r in of]):.0f}",
                "network": size,
                "natural": spread([r["natural"] for r in of], scale=100),
            }
            for attack in ATTACKS.values():
                column = f"pgd20_{attack.epsilon:g}"
                line[f"PGD-20, ε {attack.epsilon:g}"] = spread([r[column] for r in of], scale=100)
            table.append(line)
    return table, rows, trained


def designs(
    data: DataSet, supernet: Supernet, draws: int, kept: Path
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Rank correlations of predictors, by how the networks they learn from are chosen."""
    space = supernet.space
    matrix = space.enumerate_matrix()
    archs = space.decode(matrix)
    if not kept.exists():
        evaluator = RobustEvaluator(supernet.network, data, attack=STRONG, limit=LIMIT)
        found = evaluator.robustnesses(archs)
        np.save(kept, np.array([(each.natural, each.robust) for each in found]))
    targets = np.load(kept)
    macs = space.cost(matrix)["macs"]
    index = {key: i for i, key in enumerate(space.keys(matrix))}
    scores: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for seed in range(draws):
        sets = {
            how: [index[k] for k in space.keys(design(space, LEARN, seed, how))] for how in DESIGNS
        }
        # The same held-out networks for both: those that neither learned from.
        out = np.setdiff1d(np.arange(len(matrix)), np.concatenate(list(sets.values())))
        order = np.argsort(macs[out])
        fifth = len(out) // 5
        ends = np.concatenate([order[:fifth], order[-fifth:]])
        for how, rows in sets.items():
            for kind in KINDS:
                model = Predictor(space, kind, seed=seed).fit(matrix[rows], targets[rows])
                guess = model.predict(matrix[out])
                error = np.abs(guess - targets[out])
                values = [spearmanr(guess[:, t], targets[out, t])[0] for t in range(2)]
                values += [error[:, t].mean() for t in range(2)]
                values += [error[ends, t].mean() for t in range(2)]
                scores.setdefault((how, kind), []).append(tuple(map(float, values)))
    table = []
    for (how, kind), values in sorted(scores.items(), key=lambda item: item[0][::-1]):
        columns = np.array(values).T
        table.append(
            {
                "predictor": kind,
                "design": how,
                "ρ natural": spread(columns[0], digits=3),
                "ρ robust": spread(columns[1], digits=3),
                "MAE natural": spread(columns[2], scale=100, digits=2),
                "MAE robust": spread(columns[3], scale=100, digits=2),
                "at the ends": spread(columns[5], scale=100, digits=2),
            }
        )
    rows = [
        {"arch": arch.text, "macs": int(m), "natural": round(n, 4), "robust": round(r, 4)}
        for arch, m, (n, r) in zip(archs, macs, targets.tolist(), strict=True)
    ]
    return table, rows


def checks(data: DataSet, runs: dict[str, Trained]) -> list[dict[str, object]]:
    """What must hold if the attack works, of the smallest and the largest."""
    table = []
    for name, run in runs.items():
        evaluator = RobustEvaluator(run.supernet.network, data, limit=LIMIT)
        images, labels = evaluator.images("test")[0]
        for size in ("smallest", "largest"):
            report = check_attack(
                evaluator.forward(run.chosen[size]),
                images,
                labels,
                epsilons=(0.05, 0.1, 0.2),
                substitute=evaluator.forward(run.chosen["mid"]),
            )
            for check in report.checks:
                accuracies = check.accuracies.items()
                table.append(
                    {
                        "training": name,
                        "network": size,
                        "check": check.name,
                        "held": "yes" if check.passed else "**no**",
                        "accuracies, %": ", ".join(f"{k} {v:.1%}"[:-1] for k, v in accuracies),
                    }
                )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description="adversarially trained supernets of digits")
    parser.add_argument("--quick", action="store_true", help="one seed and six epochs")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--runs", type=Path, help="folder where finished runs are kept and reused")
    given = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    data = digits()
    seeds, epochs = (SEEDS[:1], 6) if given.quick else (SEEDS, EPOCHS)
    with tempfile.TemporaryDirectory() as folder:
        runs = given.runs or Path(folder)
        runs.mkdir(parents=True, exist_ok=True)
        report(given.out, runs, data, seeds, epochs, began)


def report(
    out: Path, runs: Path, data: DataSet, seeds: tuple[int, ...], epochs: float, began: float
) -> None:
    """Train, measure, and write the tables."""
    table, rows, trained = compare(data, seeds, epochs, runs)
    write_csv(out / "robust.csv", rows)
    tables = [markdown_table(table)]
    write(out, tables, began)
    supernet = trained["robust"][0].supernet
    first = {name: of[0] for name, of in trained.items() if "equal" not in name}
    ranked, measured = designs(data, supernet, DRAWS, runs / "space.npy")
    write_csv(out / "robust_space.csv", measured)
    tables.append(markdown_table(ranked))
    tables.append(markdown_table(checks(data, first)))
    write(out, tables, began)
    front = robust_front(
        supernet,
        data,
        evaluations=LEARN,
        predictions=2000,
        finalists=12,
        attack=STRONG,
        limit=LIMIT,
    )
    found = [
        {
            "network": student.arch.text,
            "10³ MACs": f"{student.costs['macs'] / 1e3:.0f}",
            "natural, val": f"{student.measured.natural:.1%}"[:-1],
            "robust, val": f"{student.measured.robust:.1%}"[:-1],
            "predicted": "" if student.predicted is None
            else f"{student.predicted[0] * 100:.1f} / {student.predicted[1] * 100:.1f}",
            "natural, test": f"{student.test.natural:.1%}"[:-1],
            "robust, test": f"{student.test.robust:.1%}"[:-1],
        }
        for student in front.students
        if student.test is not None
    ]  # fmt: skip
    kind = front.predictor.fitted_kind
    new = sum(s.predicted is not None for s in front.evaluated)
    tables.append(
        f"{kind}; {front.predictions} predicted, {new} measured after the search\n\n"
        + markdown_table(found)
    )
    write(out, tables, began)


def write(out: Path, tables: list[str], began: float) -> None:
    last = f"{time.process_time() - began:.0f} s of CPU in this process. {machine()}"
    text = "\n\n".join(("<!-- tables of robust.py -->", *tables, last))
    (out / "robust_tables.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
