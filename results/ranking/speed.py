"""Candidates a second of the default ensemble, against a loop of fresh modules.

    python results/ranking/speed.py --data FOLDER [--device cuda] [--precision bfloat16] [--quick]

NAS-Bench-201, distinct classes only, 64 CIFAR-10 images at 32×32, one thread, the reference
sample included on both sides. The plain way builds a module for every candidate and proxy and
runs one pass for each, as every public loop does, in torch's default memory layout and, in a
second column, channels last; with ``--device`` it runs there, too. Both ways are interleaved
block by block; the table has medians of ratios, and what the fresh modules' scores have to do
with ours.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from _common import IMAGES, machine, markdown_table, parse_options, real_batch, write_csv
from scipy import stats

from scholarch.proxies.decorrelation import least_eigenvalue
from scholarch.proxies.devices import find_device
from scholarch.proxies.ensemble import DEFAULT, ENSEMBLES
from scholarch.proxies.expr import spectrum_entropy
from scholarch.proxies.scoring import GROUP, Scorer
from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.cells.nasbench201_cell import Cell
from scholarch.searchspace.cells.nasbench201_net import CellNetwork, Reduction
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.space import SearchSpace

PARTS = ENSEMBLES[DEFAULT].parts
Outputs = list[tuple[Tensor, Tensor]]

#: What the table means; kept here, so that making it again keeps it.
NOTES = """## Why not ten times

A tenth of the plain way would be about 160 ms. By a profile of every call (six cells, a shared \
machine) a candidate spends 84 ms in 3×3 convolutions forward and back to each block's input, 15 \
in those of 1×1, 26 in Gram matrices and 10 in their eigenvalues: 135 ms of arithmetic that these \
scores are made of, at the rate at which oneDNN does it on one core (100 to 240 GFLOP/s). Batch \
norm forward and back takes 34, sums, ReLUs and pools about 35, and these wait for memory.

Kept: 3×3 average pools as depthwise convolutions (0.3 ms for 1.9 alone, half the time in place), \
Gram matrices as the gradient of a convolution's weight (half the time of a product of matrices \
so narrow alone, a third less in place), correlations behind batch norm, where nothing is left \
to centre, eigenvalues in batches, patches of strided blocks without a copy by element. Together, \
old and new in turn, five times, a tenth of the time (4 to 14 %); every part within 2e-6 of its \
spread over cells of what it was.

Not kept on a CPU:

- Candidates in groups: 2.6 times slower (one run, groups of 4), since a group's maps leave the \
cache. It is what a GPU does, and tested against one by one on every space.
- Convolutions in bfloat16: alone in a third to a half of the time, but conversions take most of \
it back: 6 % in all (60 cells, one run). Every part's ranks agree with float32 at ρ ≥ .999; \
`--precision bfloat16` asks for it.
- Batch norm by the Gram matrices' moments: a score would depend in its sixth digit on which \
other proxies are asked for.
- torch's functions replaced by a `TorchFunctionMode`: its calls cost about what it gained.
- Memory not given back to the system (glibc's thresholds): 5 % in one run, and not ours to set."""


def fresh(space: SearchSpace, arch: Architecture, last: bool) -> CellNetwork:
    network = space.build(arch, seed=0).train()
    return network.to(memory_format=torch.channels_last) if last else network


def watch(network: nn.Module, kinds: tuple[type[nn.Module], ...]) -> Outputs:
    seen: Outputs = []
    for module in network.modules():
        if isinstance(module, kinds):
            module.register_forward_hook(lambda _, given, out: seen.append((given[0], out)))
    return seen


def plain_expr(network: CellNetwork, x: Tensor) -> float:
    seen = watch(network, (Cell, Reduction))
    with torch.no_grad():
        network(x)
    return sum(spectrum_entropy(out) for _, out in seen)


def plain_growth(network: CellNetwork, x: Tensor) -> float:
    seen = watch(network, (Cell, Reduction))
    with torch.no_grad():
        network(x)
    return float(np.mean([float(out.var().log()) for _, out in seen]))


def plain_decorrelation(network: CellNetwork, x: Tensor) -> float:
    seen = watch(network, (nn.Conv2d,))
    with torch.no_grad():
        network(x)
    return sum(out.shape[1] * least_eigenvalue(out) for _, out in seen)


def plain_stability(network: CellNetwork, x: Tensor) -> float:
    seen = watch(network, (Cell, Reduction))
    network.requires_grad_(False)
    network(x.clone().requires_grad_())
    scores = []
    for given, out in seen:
        if out is given:
            continue
        signs = torch.empty_like(out).bernoulli_(0.5).mul_(2.0).sub_(1.0)
        (back,) = torch.autograd.grad(out, given, signs, retain_graph=True)
        rows = signs.permute(0, 2, 3, 1).reshape(-1, signs.shape[1])
        side = back.shape[-1] // out.shape[-1]
        patches = nn.functional.pixel_unshuffle(back, side) if side > 1 else back
        product = patches.permute(0, 2, 3, 1).reshape(len(rows), -1).T @ rows / len(rows)
        stretch = float(torch.linalg.matrix_norm(product, 2))
        scores.append(min(0.0, 2.5 - stretch - 1.0 / (stretch + 1e-6)))
    return float(np.mean(scores))


def plain_synflow(network: CellNetwork, x: Tensor) -> float:
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            parent = network.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], nn.Identity())
    network.double()
    weights = [p for p in network.parameters() if p.dim() > 1]
    with torch.no_grad():
        for weight in weights:
            weight.abs_()
    flow = network(torch.ones(1, *x.shape[1:], dtype=torch.float64, device=x.device)).sum()
    grads = torch.autograd.grad(flow, weights, allow_unused=True)
    pairs = zip(weights, grads, strict=True)
    return float(np.log(sum(float((w * g).abs().sum()) for w, g in pairs if g is not None)))


PLAIN: dict[str, Callable[[CellNetwork, Tensor], float]] = {
    "expr": plain_expr,
    "decorrelation": plain_decorrelation,
    "gradient-stability": plain_stability,
    "synflow": plain_synflow,
    "signal-growth": plain_growth,
}


def plain_way(
    space: SearchSpace, archs: list[Architecture], x: Tensor, *, last: bool
) -> dict[str, list[float]]:
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    found: dict[str, list[float]] = {name: [] for name in PLAIN}
    for arch in archs:
        space.cost([arch])
        for name, proxy in PLAIN.items():
            found[name].append(proxy(fresh(space, arch, last).to(x.device), x))
    return found


def distinct(space: SearchSpace, count: int) -> list[Architecture]:
    """Live classes at random, one architecture each."""
    rows = space.canonical(space.sample_matrix(4 * count, seed=0))
    archs = {arch.key: arch for arch in space.decode(rows) if "~" in arch.text}
    names = ("nor_conv",)
    live = [arch for arch in archs.values() if any(name in arch.text for name in names)]
    return live[:count]


def on(device: torch.device) -> Callable[[], float]:
    """A clock: CPU seconds of this process, or, of a GPU, seconds until it has done its work."""
    if device.type == "cpu":
        return time.process_time

    def now() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return now


def main() -> None:
    chosen, rest = arguments().parse_known_args()
    sys.argv[1:] = rest
    options = parse_options(__file__, __doc__.split("\n")[0], [IMAGES])
    torch.set_num_threads(1)
    device = find_device(chosen.device)
    space = create_space("nasbench201", num_classes=10)
    batch = real_batch(options.data, 64, 0)
    x = batch.normalised.contiguous().to(device)
    # A GPU is given groups; a plain loop is as slow on fewer, and long enough.
    group, few, blocks = (4, 4, 2) if options.quick else (8, 8, 6)
    if device.type != "cpu":
        group = 2 * GROUP
    archs = distinct(space, group * blocks)
    scorer = Scorer(
        space, PARTS, batch=batch, seed=0, device=chosen.device, precision=chosen.precision
    )
    scorer.table(archs[:group] if device.type != "cpu" else archs[:1])
    plain_way(space, archs[:1], x, last=False)
    now = on(device)
    seconds: dict[str, list[float]] = {"ours": [], "plain": [], "plain, channels last": []}
    ours: dict[str, list[float]] = {name: [] for name in PLAIN}
    theirs: dict[str, list[float]] = {name: [] for name in PLAIN}
    for i in range(blocks):
        part = archs[i * group : (i + 1) * group]
        began = now()
        table = scorer.table(part)
        seconds["ours"].append((now() - began) / len(part))
        for name, last in (("plain", False), ("plain, channels last", True)):
            began = now()
            found = plain_way(space, part[:few], x, last=last)
            seconds[name].append((now() - began) / few)
        for name in PLAIN:
            ours[name] += table[name][:few].tolist()
            theirs[name] += found[name]
        print(f"block {i + 1} of {blocks}", flush=True)
    base = np.array(seconds["ours"])
    rows = []
    for name, taken in seconds.items():
        ratios = np.array(taken) / base
        rows.append(
            {
                "way": name,
                "ms a candidate": f"{float(f'{1e3 * np.median(taken):.3g}'):g}",
                "times ours": f"{np.median(ratios):.1f}",
                "range over blocks": f"{ratios.min():.1f} … {ratios.max():.1f}",
            }
        )
    agree = []
    for name in PLAIN:
        rho = stats.spearmanr(ours[name], theirs[name])[0]
        agree.append({"proxy": name, "ρ, shared weights against fresh": f"{rho:.3f}"})
    name = "_".join(["speed", *([device.type] if device.type != "cpu" else [])])
    name += f"_{chosen.precision}" if chosen.precision != "float32" else ""
    write_csv(options.out / f"{name}.csv", rows)
    where, unit = machine(), "CPU seconds of one thread"
    if device.type != "cpu":
        where, unit = f"{torch.cuda.get_device_name(device)}, {where}", "seconds on the wall"
    words = "" if device.type == "cpu" else f" --device {chosen.device}"
    words += "" if chosen.precision == "float32" else f" --precision {chosen.precision}"
    text = "\n\n".join(
        [
            "# Speed of the default ensemble on NAS-Bench-201",
            f"{len(archs)} distinct cells, 64 images, 32×32, {chosen.precision}, {unit}; ratios are"
            " taken block by block. The reference sample of 64 is scored like any candidate by"
            " either way and costs both the same share.",
            markdown_table(rows),
            markdown_table(agree),
            "Fresh modules have other weights and, between stages, a shortcut at He scale where"
            " ours is brought to variance 1, so their scores are another draw of nearly the same.",
            f"Make it again: `python results/ranking/speed.py --data FOLDER{words}`. {where}.",
            *([NOTES] if name == "speed" else []),
        ]
    )
    (options.out / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    print(text)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--device", default="cpu", help="where ours and the plain way run")
    parser.add_argument("--precision", default="float32", help="of ours: float32 or bfloat16")
    return parser


if __name__ == "__main__":
    main()
