"""What slicing costs: the elastic forward pass against a static network of the same shape.

    python results/transformers/speed.py [--repeats 30]
    python results/transformers/speed.py --times 8 --networks smallest 'a random one' \\
        --spaces vit-from-teacher bert-from-teacher whisper-from-teacher

CPU seconds of one thread, the two passes of a repeat one after the other in turns; the ratio is
the median over repeats of elastic / static. Inputs: 8 images of 64 px (patches of 8), 8 texts of
64 tokens, 4 sounds of one second, or ``--times`` as many. Evaluation mode, no gradients; then
training mode, forward and backward.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _common import machine, markdown_table

from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.extremes import largest, smallest
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.space import SearchSpace

MODES = ("forward", "forward and backward")
NETWORKS = ("smallest", "largest", "a random one")

SPACES: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("autoformer-tiny", 8, {"resolution": 64, "patch_size": 8}),
    ("vit-from-teacher", 8, {"resolution": 64, "patch_size": 8}),
    ("autodistil-tiny", 8, {"resolution": 64}),
    ("bert-from-teacher", 8, {"resolution": 64}),
    ("lighthubert-small", 4, {}),
    ("whisper-from-teacher", 4, {}),
)


def ratio(elastic: Callable[[], Any], static: Callable[[], Any], repeats: int) -> np.ndarray:
    """Elastic over static of each repeat; who goes first alternates."""
    found = []
    for i in range(repeats + 3):
        spent = {}
        for name, work in (("e", elastic), ("s", static))[:: 1 if i % 2 else -1]:
            began = time.thread_time()
            work()
            spent[name] = time.thread_time() - began
        found.append((spent["e"] / spent["s"], spent["s"]))
    return np.array(found[3:])  # the first ones fault memory in


def once(run: Callable[[], torch.Tensor], network: nn.Module, mode: str) -> Callable[[], None]:
    """A pass of a network in evaluation mode, or there and back in training mode."""

    def forward() -> None:
        with torch.no_grad():
            run()

    def both() -> None:
        network.zero_grad(set_to_none=False)
        run().sum().backward()

    return forward if mode == MODES[0] else both


def compare(space: SearchSpace, arch: Architecture, batch: int, repeats: int) -> dict[str, str]:
    """A line of the table without its first two columns."""
    net = space.supernet(seed=0)
    plain = net.extract(arch)
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    x = space.example(batch, torch.Generator().manual_seed(0))
    row = {"MMACs": f"{space.cost([arch])['macs'][0] / 1e6:.0f}"}
    for mode in MODES:
        train = mode != MODES[0]
        net.train(train), plain.train(train)
        if train:
            net.sum_in_place()  # as the trainer has it
        elastic, static = (
            once(lambda: net(x, arch), net, mode),
            once(lambda: plain(x), plain, mode),
        )
        found = ratio(elastic, static, max(repeats // 3, 5) if train else repeats)
        low, middle, high = np.quantile(found[:, 0], [0.25, 0.5, 0.75])
        row[f"{mode}: elastic / static"] = f"{middle:.3f} ({low:.3f} … {high:.3f})"
        row[f"{mode}: static ms"] = f"{1e3 * np.median(found[:, 1]):.0f}"
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--times", type=int, default=1, help="as many inputs a batch")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--spaces", nargs="+", default=[name for name, *_ in SPACES])
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name, batch, options in SPACES:
        if name not in given.spaces:
            continue
        space = create_space(name, **options)
        archs = {"smallest": smallest(space), "largest": largest(space)}
        archs["a random one"] = space.sample(1, seed=1)[0]
        for what in given.networks:
            measured = compare(space, archs[what], given.times * batch, given.repeats)
            line = {"space": name, "network": what} | measured
            rows.append(line)
            print(line, file=sys.stderr, flush=True)
    print(markdown_table(rows), f"\n\n{machine()}")


if __name__ == "__main__":
    main()
