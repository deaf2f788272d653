"""Training-free scores of MiniLM-L6's students: on random weights, and on those they inherit.

    python results/transformers/inherited_scores.py truth
    python results/transformers/inherited_scores.py score
    python results/transformers/inherited_scores.py table

24 architectures of the teacher's space, drawn uniformly, the first 8 in each of three bins of the
teacher's multiply-accumulates. **Truth**: agreement on 1,500 test sentences after 100 steps of 32
of the recipe of ``minilm.py``, from inherited weights; the first 3, 3 and 2 of the bins with a
second seed. **Scores**: every proxy that is defined on text without classes, of 64 training
sentences, on random weights (3 seeds, of weights and sentences) and on inherited ones (3 batches).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
import minilm

import scholarch
from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.extremes import largest
from scholarch.supernet.pretrained import Supernet

FILE = Path(__file__).resolve().parent / "inherited_scores.jsonl"
BINS = ((0.18, 0.22), (0.43, 0.47), (0.68, 0.72))
EACH = 8
TWICE = 3
STEPS = 100


def drawn(net: Supernet) -> list[tuple[int, Architecture]]:
    """The number of its bin, and the architecture."""
    rows = net.space.sample_matrix(20_000, np.random.default_rng((0, 17)))
    share = net.space.cost(rows)["macs"] / teacher_macs(net)
    found = []
    for i, (low, high) in enumerate(BINS):
        inside = np.flatnonzero((share >= low) & (share <= high))[:EACH]
        found += [(i, arch) for arch in net.space.decode(rows[inside])]
    return found


def teacher_macs(net: Supernet) -> float:
    return float(net.space.cost([largest(net.space)])["macs"][0])


def lines_of(what: str) -> list[dict[str, Any]]:
    every = [json.loads(t) for t in FILE.read_text().splitlines()] if FILE.exists() else []
    return [line for line in every if line["what"] == what]


def keep(line: dict[str, Any]) -> None:
    with FILE.open("a") as stream:
        stream.write(json.dumps(line) + "\n")
    print(line, flush=True)


def parts() -> tuple[Any, Any, Supernet]:
    teacher = scholarch.load_teacher("minilm-l6")
    data = minilm.data_of(teacher)
    return teacher, data, scholarch.inherit_supernet(teacher=teacher, data=data)


def truth() -> None:
    """Agreement after a short distillation, from inherited weights."""
    _, data, net = parts()
    minilm.STEPS = STEPS
    archs = drawn(net)
    twice = [k for i in range(len(BINS)) for k in range(i * EACH, i * EACH + TWICE)][:8]
    plan = [(k, 0) for j in range(EACH) for k in range(j, len(archs), EACH)]
    done = {(line["arch"], line["seed"]) for line in lines_of("truth")}
    for k, seed in [*plan, *((k, 1) for k in twice)]:
        place, arch = archs[k]
        if (arch.text, seed) in done:
            continue
        network: Any = net.network.extract(arch)
        began = time.process_time()
        trainer = minilm.trained(net, arch, network.train(), data, seed)
        spent = time.process_time() - began
        keep(
            {
                "what": "truth", "arch": arch.text, "bin": place, "seed": seed,
                "test": trainer.accuracy("test"), "seconds": round(spent, 1),
            }
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("truth", "score", "table"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    {"truth": truth}[given.what]()


if __name__ == "__main__":
    main()
