"""The released code's own setting: 100 classes, and a random teacher of N(0, 1) weights.

The data folder has no CIFAR-100 images, so these are CIFAR-10's with random labels of 100
classes; the scores use labels only to tell which logit to lower.
"""

from __future__ import annotations

import csv
import dataclasses

import numpy as np
import torch
from _common import Column, Options, markdown_table, real_batch, s0_space, s0_students
from rows import spread_of
from scipy import stats

from scholarch.proxies.batch import Batch
from scholarch.proxies.controls import constant, permuted_channels, shuffled_images
from scholarch.proxies.scoring import Scorer
from scholarch.proxies.taps import Taps
from scholarch.teacher import load_teacher

PROXIES = ("diswot-released", "diswot-released-semantic", "diswot-relation")
CLASSES = 100
TEACHER = "resnet56-cifar100"
OTHERS = ("as it is", "permuted channels", "shuffled images", "constant")


def random_labels(batch: Batch, seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (len(batch),), generator=generator)
    return dataclasses.replace(batch, labels=labels, num_classes=CLASSES)


def teachers(batch: Batch, seed: int) -> dict[str, Taps]:
    """A random teacher's taps, and what the controls leave of them."""
    teacher = load_teacher(TEACHER, untrained=True, seed=seed, mean=batch.mean, std=batch.std)
    # Batch norm undoes the scale of convolutions; the classifier's is N(0, 1/features) here.
    classifier = teacher.module.get_submodule("fc")
    with torch.no_grad():
        classifier.weight.mul_(classifier.weight.shape[1] ** 0.5)
    taps = teacher.observe(batch)
    found = (taps, permuted_channels(taps, seed), shuffled_images(taps, seed), constant(taps))
    return dict(zip(OTHERS, found, strict=True))


def write_released(options: Options, distilled: Column, seeds: range, size: int) -> None:
    """Write ``released.csv`` and ``released.md``."""
    space = s0_space(CLASSES)
    archs = s0_students(space)
    columns: dict[tuple[str, str], list[Column]] = {}
    for seed in seeds:
        batch = random_labels(real_batch(options.data, size, seed), seed)
        for name, taps in teachers(batch, seed).items():
            table = Scorer(space, PROXIES, batch=batch, teacher=taps, seed=seed).table(archs)
            for proxy in PROXIES:
                columns.setdefault((proxy, name), []).append(table[proxy])

    def tau(column: Column) -> float:
        return float(stats.kendalltau(column, distilled).statistic)

    rows, shown = [], []
    for proxy in PROXIES:
        cells: dict[str, str] = {"score": f"`{proxy}`"}
        for name in OTHERS:
            found = columns[proxy, name]
            each = np.array([tau(column) for column in found])
            averaged = tau(np.mean(found, axis=0))
            rows.append([proxy, name, f"{each.mean():.4f}", f"{spread_of(each):.4f}", averaged])
            cells[name] = f"{each.mean():.3f} ± {spread_of(each):.3f} / {averaged:.3f}"
        shown.append(cells)
    with (options.out / "released.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["score", "teacher", "tau", "tau_sd", "tau_of_mean_score"])
        writer.writerows([*row[:-1], f"{row[-1]:.4f}"] for row in rows)
    text = f"""# The released code's own setting

100 classes and a random ResNet-56 with N(0, 1) weights, as the released code has it; {size} real
CIFAR-10 images with random labels of 100 classes, for want of CIFAR-100's. Kendall's τ with
distilled accuracy: mean ± standard deviation over {len(seeds)} seeds / of the score averaged over
them. Columns: the random teacher as it is, and what three controls leave of it.

{markdown_table(shown)}

Made by `{options.command}`, together with the rest.
"""
    (options.out / "released.md").write_text(text, encoding="utf-8")
    print(text)
