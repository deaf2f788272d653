"""A step of ``delayed`` against training four static networks of the same sizes.

    OMP_NUM_THREADS=1 python results/supernet/step_time.py

Both sides pass the same four architectures (the largest, the smallest and two drawn ones) over
batches of the same size, forward and backward, and step an SGD with Nesterov momentum: the
trainer one over its shared weights, each static network its own. The trainer's side also loads
images, draws architectures and distils. Variants take turns in one process, and the times are
the thread's own processor time, so that what else runs on the machine counts for less.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _common import machine, markdown_table

from scholarch.data import load_data
from scholarch.datasets.dataset import DataSet
from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.factory import create_space
from scholarch.supernet.loader import normalise
from scholarch.supernet.settings import TrainSettings
from scholarch.supernet.trainer import Trainer

HERE = Path(__file__).resolve().parent
SPACE = "mobilenetv3-cifar"
#: (width, pixels, batch, rounds)
SIZES = ((0.25, 16, 64, 8), (1.0, 32, 16, 3))
HEAD = """# What weight sharing costs a step

    OMP_NUM_THREADS=1 python results/supernet/step_time.py

`{}`, 10 classes, float32. {}.

A step of `delayed` after its warm-up (the largest network, the smallest and two drawn ones, each
forward and backward, with loading, drawing and distillation) against one training step of four
static networks of the same architectures, each with an SGD of its own. Aim: at most 1.10. Thread
processor time of interleaved rounds, on a machine that others used: the best of the rounds, and
the quartiles of the ratio within a round. At width 1 there are three rounds: differences of 5 %
are noise there. The four optimizers are part of the static side (about 10 ms at width 0.25 and
30 ms at width 1); the trainer has one.

"""
LAYOUTS = {"channels last": torch.channels_last, "NCHW": torch.contiguous_format}


def noise(side: int) -> DataSet:
    """Images whose content does not matter."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (512, side, side, 3), dtype=np.uint8)
    return load_data((images, np.arange(512) % 10), val_fraction=0.1)


def trainer(width: float, side: int, batch: int, layout: torch.memory_format) -> Trainer:
    """At the first step of four passes, with the two drawn architectures fixed."""
    space = create_space(SPACE, num_classes=10, width_mult=width, resolution=side)
    settings = TrainSettings(schedule="delayed", epochs=200, batch_size=batch, augment="none")
    made = Trainer(space, noise(side), settings)
    while len(made.plan.at(made.next_step).phase.passes) < 2:
        made.next_step += 1
    drawn = space.encode(made.drawer.decode(made.drawer.rows(2, np.random.default_rng(0))))
    made.drawer.rows = lambda n, *_: drawn[:n]  # type: ignore[method-assign, assignment]

    def normalised(images: Tensor) -> Tensor:
        inputs = normalise(images, made.data.mean, made.data.std)
        return inputs.contiguous(memory_format=layout)

    made.normalised = normalised  # type: ignore[method-assign]
    return made


def by_autograd(made: Trainer) -> Trainer:
    """Slices cut by autograd, as before their gradients were summed in place."""
    for module in made.network.modules():
        for name in ("leaves", "bias_leaves"):
            if hasattr(module, name):
                setattr(module, name, None)
    return made


def static(
    archs: list[Architecture], made: Trainer, batch: int, layout: torch.memory_format
) -> Callable[[], None]:
    """One step of each network alone."""
    nets = [made.space.build(arch).train() for arch in archs]
    for net in nets:
        net.to(memory_format=layout)  # type: ignore[call-overload]
    sgds = [torch.optim.SGD(n.parameters(), lr=0.01, momentum=0.9, nesterov=True) for n in nets]
    images, labels = made.loader.batch(0)
    inputs = made.normalised(images[:batch])

    def step() -> None:
        for net, sgd in zip(nets, sgds, strict=True):
            sgd.zero_grad()
            functional.cross_entropy(net(inputs), labels).backward()
            sgd.step()

    return step


def measure(width: float, side: int, batch: int, rounds: int) -> list[dict[str, object]]:
    """Milliseconds of every variant, best and median of interleaved rounds."""
    variants: dict[tuple[str, str], Callable[[], object]] = {}
    for name, layout in LAYOUTS.items():
        made = trainer(width, side, batch, layout)
        drawn = made.drawer.decode(made.drawer.rows(2, np.random.default_rng(0)))
        archs = [made.drawer.largest, made.drawer.smallest, *drawn]
        variants[name, "four static networks"] = static(archs, made, batch, layout)
        variants[name, "a step of `delayed`"] = made.step
        variants[name, "the same, slices by autograd"] = by_autograd(
            trainer(width, side, batch, layout)
        ).step
    times: dict[tuple[str, str], list[float]] = {key: [] for key in variants}
    for turn in range(rounds + 1):
        for key, step in variants.items():
            start = time.thread_time()
            step()
            if turn:  # the first warms up
                times[key].append(1e3 * (time.thread_time() - start))
    rows: list[dict[str, object]] = []
    for (name, what), ms in times.items():
        base = times[name, "four static networks"]
        # Neighbours in time share what else the machine does.
        ratios = np.array(ms) / np.array(base)
        rows.append(
            {
                "width, pixels, batch": f"{width:g}, {side}, {batch}",
                "layout": name,
                "what": what,
                "best ms": f"{min(ms):.0f}",
                "median ms": f"{np.median(ms):.0f}",
                "best to best": f"{min(ms) / min(base):.3f}",
                "ratio of a round, quartiles": " – ".join(
                    f"{q:.3f}" for q in np.quantile(ratios, (0.25, 0.5, 0.75))
                ),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, help="in place of 8 and 3")
    parser.add_argument("--out", type=Path, default=HERE / "step_time.md")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for size in SIZES:
        rows += measure(*size[:3], given.rounds or size[3])
        print(markdown_table(rows), flush=True)
    given.out.write_text(f"{HEAD.format(SPACE, machine())}{markdown_table(rows)}\n", "utf-8")


if __name__ == "__main__":
    main()
