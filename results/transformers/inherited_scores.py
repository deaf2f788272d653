"""Training-free scores of MiniLM-L6's students: on random weights, and on those they inherit.

    python results/transformers/inherited_scores.py truth
    python results/transformers/inherited_scores.py score
    python results/transformers/inherited_scores.py table

24 architectures of the teacher's space, drawn uniformly, the first 8 in each of three bins of the
teacher's multiply-accumulates. **Truth**: agreement on 1,500 test sentences after 100 steps of 32
of the recipe of ``minilm.py``, from inherited weights; the first 3, 3 and 2 of the bins with a
second seed. **Scores**: every proxy that is defined on text without classes, of 64 training
sentences, on random weights (3 seeds, of weights and sentences) and on inherited ones (3 batches);
those that compare with the teacher once with what it says of another sentence.
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
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import minilm
from _common import machine, markdown_table

import scholarch
from scholarch.proxies.controls import shuffled_images
from scholarch.proxies.registry import get_proxy
from scholarch.proxies.scoring import Scorer
from scholarch.proxies.token_reader import tokens_for
from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.extremes import largest
from scholarch.supernet.evaluate import Evaluator
from scholarch.supernet.pretrained import Supernet

FILE = Path(__file__).resolve().parent / "inherited_scores.jsonl"
BINS = ((0.18, 0.22), (0.43, 0.47), (0.68, 0.72))
EACH = 8
TWICE = 3
STEPS = 100
SENTENCES, REPEATS = 64, 3

#: Proxies that look at weights or activations, as far as they are defined on text without classes.
#: Left out are other names of these (az-expressivity), counts of layers, and those that take a
#: backward pass for each of 384 outputs or each sentence (vkdnw, te-nas-ntk).
MEASURED = (
    "token-relations", "sample-relations", "diswot-relation", "diswot-paper-relation", "kd-at",
    "kd-nst", "kd-ickd", "kd-sp", "kd-cc", "kd-pkt", "kd-cka", "kd-rkd-distance", "kd-rkd-angle",
    "kd-rkd", "expr", "az-progressivity", "az-trainability", "gradient-stability",
    "decorrelation", "distinct-heads", "naswot-gelu", "dss", "l2_norm",
)  # fmt: skip
SIZES = ("params", "macs", "depth", "long-capacity")


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


def truth(backwards: bool) -> None:
    """Agreement after a short distillation, from inherited weights."""
    _, data, net = parts()
    minilm.STEPS = STEPS
    archs = drawn(net)
    twice = [k for i in range(len(BINS)) for k in range(i * EACH, i * EACH + TWICE)][:8]
    plan = [(k, 0) for j in range(EACH) for k in range(j, len(archs), EACH)]
    plan, again = plan[:: -1 if backwards else 1], [(k, 1) for k in twice]
    for k, seed in [*plan, *again[:: -1 if backwards else 1]]:
        place, arch = archs[k]
        if any((line["arch"], line["seed"]) == (arch.text, seed) for line in lines_of("truth")):
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


def score() -> None:
    """Every proxy on both kinds of weights, agreement of inherited ones, and what each costs."""
    teacher, data, net = parts()
    archs = [arch for _, arch in drawn(net)]
    reads = tokens_for(MEASURED, teacher.module)
    done = lines_of("score")
    for repeat in range(REPEATS):
        batch = data.batch(SENTENCES, repeat)
        taps = teacher.observe(batch, reads)
        for weights, network in (("inherited", net.network), ("random", None)):
            if any((x["weights"], x["repeat"]) == (weights, repeat) for x in done):
                continue
            began = time.process_time()
            table = Scorer(
                net.space, [*MEASURED, *SIZES], batch=batch, teacher=taps, seed=repeat,
                network=network,
            ).table(archs)  # fmt: skip
            keep(
                {
                    "what": "score", "weights": weights, "repeat": repeat,
                    "archs": [arch.text for arch in archs],
                    "scores": {name: [float(f"{x:.9g}") for x in table[name]] for name in table},
                    "failures": len(table.failures),
                    "seconds": round(time.process_time() - began, 1),
                }
            )  # fmt: skip
    if not lines_of("control"):
        compared = [name for name in MEASURED if "teacher" in get_proxy(name).needs]
        batch = data.batch(SENTENCES, 0)
        taps = shuffled_images(teacher.observe(batch, reads))
        given = {"batch": batch, "teacher": taps, "network": net.network}
        table = Scorer(net.space, compared, **given).table(archs)
        texts, columns = [arch.text for arch in archs], {n: list(table[n]) for n in compared}
        keep({"what": "control", "archs": texts, "scores": columns})
    if not lines_of("agreement"):
        judge, began = Evaluator(net.network, data), time.process_time()
        found = judge.accuracies(archs, "val")
        spent = round((time.process_time() - began) / len(archs), 3)
        texts = [arch.text for arch in archs]
        keep({"what": "agreement", "archs": texts, "values": found, "seconds": spent})
    if not lines_of("cost"):
        batch, chosen = data.batch(SENTENCES, 0), archs[EACH // 2 :: EACH]
        taps, costs = teacher.observe(batch, reads), {}
        for name in MEASURED:
            scorer = Scorer(net.space, [name], batch=batch, teacher=taps, network=net.network)
            began = time.process_time()
            scorer.table(chosen)
            costs[name] = round((time.process_time() - began) / len(chosen), 3)
        keep({"what": "cost", "seconds": costs})


def table() -> None:
    """Kendall's τ with the truth, plain and inside the bins."""
    lines = [line for line in lines_of("truth") if line["seed"] == 0]
    truth = {line["arch"]: line["test"] for line in lines}
    place = {line["arch"]: line["bin"] for line in lines}
    agreement = lines_of("agreement")[0]
    archs = [text for text in agreement["archs"] if text in truth]
    wanted = np.array([truth[text] for text in archs])
    bins = np.array([place[text] for text in archs])
    draws = [np.random.default_rng((i, 5)).integers(0, len(archs), len(archs)) for i in range(500)]
    scores: dict[tuple[str, str], list[Any]] = {}
    for line in lines_of("score"):
        chosen = [line["archs"].index(text) for text in archs]
        for name, column in line["scores"].items():
            scores.setdefault((name, line["weights"]), []).append(np.array(column)[chosen])
    seconds = lines_of("cost")[0]["seconds"]
    column = np.array([agreement["values"][agreement["archs"].index(text)] for text in archs])
    size = scores["params", "inherited"][:1]
    control = lines_of("control")[0]
    chosen = [control["archs"].index(text) for text in archs]
    shuffled = {name: np.array(x)[chosen] for name, x in control["scores"].items()}

    def row(name: str, given: list[Any], random: list[Any], spent: float) -> dict[str, str]:
        return {
            "score": name,
            "inherited": told(given, wanted),
            "inside": inside(given, wanted, bins),
            "τ − that of params": paired(given, size, wanted, draws),
            "shuffled": told([shuffled[name]], wanted) if name in shuffled else "",
            "random": told(random, wanted) if random else "",
            "inside, random": inside(random, wanted, bins) if random else "",
            "CPU s": f"{spent:.2f}",
        }

    rows = [row("agreement", [column], [], agreement["seconds"])]
    rows += [row(name, scores[name, "inherited"][:1], [], 0.0) for name in SIZES]
    order = sorted(
        MEASURED, key=lambda name: -np.mean([tau(x, wanted) for x in scores[name, "inherited"]])
    )
    rows += [
        row(name, scores[name, "inherited"], scores[name, "random"], seconds[name])
        for name in order
    ]
    print(markdown_table(rows))
    again = {line["arch"]: line["test"] for line in lines_of("truth") if line["seed"] == 1}
    both = [text for text in archs if text in again]
    first, second = (np.array([of[text] for text in both]) for of in (truth, again))
    gap = np.abs(first - second)
    print(
        f"\nTruth: {len(archs)} students; a second seed of {len(both)} agrees with"
        f" τ {tau(first, second):.2f}, mean difference {gap.mean():.4f} (largest {gap.max():.4f})."
    )
    for i in range(len(BINS)):
        own = wanted[bins == i]
        print(f"Bin {i}: {own.min():.3f} to {own.max():.3f}, deviation {own.std(ddof=1):.4f}")
    chance = [_chance(bins, wanted, seed) for seed in range(2000)]
    plain, within = np.quantile(np.abs(chance), 0.95, axis=0)
    print(f"95 % of random orders have |τ| up to {plain:.2f}, inside bins up to {within:.2f}")
    spent = sum(line["seconds"] for line in lines_of("truth"))
    print(f"CPU s of the truth: {spent:.0f}. {machine()}")


def tau(a: Any, b: Any) -> float:
    """Kendall's τ_b; 0 of a constant."""
    found = float(stats.kendalltau(a, b).statistic)
    return 0.0 if np.isnan(found) else found


def told(columns: list[Any], truth: Any) -> str:
    """τ, its mean and deviation over repeats."""
    return _spread([tau(x, truth) for x in columns])


def inside(columns: list[Any], truth: Any, bins: Any) -> str:
    """The same, the mean over bins."""
    return _spread([_inside(x, truth, bins) for x in columns])


def _inside(column: Any, truth: Any, bins: Any) -> float:
    return float(np.mean([tau(column[bins == i], truth[bins == i]) for i in np.unique(bins)]))


def _spread(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"


def paired(columns: list[Any], others: list[Any], truth: Any, draws: list[Any]) -> str:
    """Difference of τ over students drawn again, with replacement: its middle 95 %."""
    gains = [
        np.mean([tau(x[i], truth[i]) for x in columns])
        - np.mean([tau(x[i], truth[i]) for x in others])
        for i in draws
    ]
    low, high = np.quantile(gains, (0.025, 0.975))
    return f"{low:+.2f} … {high:+.2f}"


def _chance(bins: Any, truth: Any, seed: int) -> tuple[float, float]:
    column = np.random.default_rng((seed, 6)).normal(size=len(truth))
    return tau(column, truth), _inside(column, truth, bins)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("truth", "score", "table"))
    parser.add_argument("--backwards", action="store_true", help="beside a first process")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "truth":
        truth(given.backwards)
    elif given.what == "score":
        score()
    else:
        table()


if __name__ == "__main__":
    main()
