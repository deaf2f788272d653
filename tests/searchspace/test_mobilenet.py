"""The MobileNet family against once-for-all's published numbers, tables and notation."""

from __future__ import annotations

import csv
import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from scholarch.proxies.batch import Batch
from scholarch.proxies.scoring import Scorer
from scholarch.searchspace.convnets.mobilenet_space import MobileNetSpace
from scholarch.searchspace.elastic import Trace
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space

MAX = '{"ks": 7, "e": 6, "d": 4}'
KS = "75557757573753735353"
E = "64466343363336346436"


def make(name: str, **options: float) -> MobileNetSpace:
    space = create_space(name, **options)
    assert isinstance(space, MobileNetSpace)
    return space


# ---------------------------------------------------------------------- golden numbers


@pytest.mark.parametrize(
    ("name", "text", "options", "params", "macs"),
    [
        ("mobilenetv3", MAX, {}, 7_664_760, 566_170_656),
        ("mobilenetv3", '{"ks": 7, "e": 3, "d": 2}', {}, 3_493_352, 151_290_192),
        ("mobilenetv3", '{"ks": 3, "e": 3, "d": 2}', {}, 3_410_792, 121_278_672),
        ("mobilenetv3", '{"ks": 5, "e": 4, "d": 3}', {}, 4_551_792, 250_746_944),
        ("mobilenetv3", MAX, {"width_mult": 1.2}, 10_701_632, 843_101_040),
        # DepS quotes its small network for CIFAR-100.
        ("mobilenetv3-cifar", MAX, {"num_classes": 100}, 6_511_860, 179_821_824),
        (
            "mobilenetv3-cifar",
            '{"ks": 7, "e": 3, "d": 2}',
            {"num_classes": 100},
            2_340_452,
            45_208_704,
        ),
    ],
)
def test_golden_costs(
    name: str, text: str, options: dict[str, float], params: int, macs: int
) -> None:
    """Published: 566.2, 151.3, 121.3, 250.7, 843.1, 179.8 and 45.2 M.

    Gates, the convolution behind the pool and the classifier are counted.
    """
    space = make(name, **{"num_classes": 1000, **options})
    costs = space.cost([space.parse(text)])
    assert (costs["params"][0], costs["macs"][0]) == (params, macs)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("mobilenetv3", 7371**5),
        ("mobilenetv3-cifar", 7371**5),
        ("proxylessnas", 7371**5 * 9),
        ("compofa", 243),
        ("compofa-elastic", 117**5),
    ],
)
def test_sizes(name: str, size: int) -> None:
    assert make(name).size == size


def test_resolutions() -> None:
    assert {name: make(name).resolution for name in ("mobilenetv3", "mobilenetv3-cifar")} == {
        "mobilenetv3": 224,
        "mobilenetv3-cifar": 32,
    }
    assert make("mobilenetv3", resolution=160).resolution == 160


def test_blocks_are_those_of_a_published_latency_table(data_dir: Path) -> None:
    """Every block at width 1.2 has its row in the Note10's table; sums of two are published."""
    table = json.loads((data_dir / "ofa_note10_lut.json").read_text())["table"]["224"]
    space = make("mobilenetv3", width_mult=1.2, num_classes=1000)
    config = space.config

    def total(kernel: int, expand: int, depth: int) -> float:
        side = 112
        ms = table[f"Conv-input:224x224x3-output:112x112x{config.stem}"][0]
        blocks = [config.first_block] + [
            config.block(i, j, kernel, expand * config.in_channels(i, j))
            for i in range(len(config.stages))
            for j in range(depth)
        ]
        for b in blocks:
            out = -(-side // b.stride)
            ms += table[
                f"expanded_conv-input:{side}x{side}x{b.in_channels}-output:{out}x{out}"
                f"x{b.out_channels}-expand:{b.mid}-kernel:{b.kernel}-stride:{b.stride}"
                f"-idskip:{b.skips:d}-se:{b.gated:d}-hs:{b.activation == 'hswish':d}"
            ][0]
            side = out
        last = config.stages[-1].width
        ms += table[f"Conv_1-input:7x7x{last}-output:7x7x{config.head}"][0]
        ms += table[f"AvgPool2D-input:7x7x{config.head}-output:1x1x{config.head}"][0]
        ms += table[f"Conv_2-input:1x1x{config.head}-output:1x1x{config.mix}"][0]
        return ms + table[f"Logits-input:1x1x{config.mix}-output:1000"][0]

    assert total(7, 6, 4) == pytest.approx(92.4, abs=0.05)
    assert total(5, 4, 3) == pytest.approx(37.8, abs=0.05)
    assert total(3, 3, 2) == pytest.approx(17.8, abs=0.05)


def test_a_published_table_is_read(data_dir: Path) -> None:
    space = make("mobilenetv3", num_classes=1000)
    with gzip.open(data_dir / "ofa_mbv3_latency_open_half.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    archs = [space.parse("{ks},{e},{d},{r}".format(**row)) for row in rows]
    assert json.loads(str(archs[0]))["ks"] == [int(digit) for digit in rows[0]["ks"]]
    sides = np.array([int(row["r"]) for row in rows])
    macs = np.empty(len(rows))
    for side in np.unique(sides):
        at = np.flatnonzero(sides == side)
        macs[at] = space.cost([archs[i] for i in at], resolution=int(side))["macs"]
    latency = [float(row["titan_xp_64"]) for row in rows]
    ranks = np.argsort(np.argsort([macs, latency], axis=1), axis=1)
    assert np.corrcoef(ranks)[0, 1] > 0.85


# ---------------------------------------------------------------------- notation and rows


@pytest.mark.parametrize(
    "text",
    [
        f"ks={KS},e={E},d=22223",
        f"ks={KS}, e={E}, d=22223, r=204",
        f"{KS},{E},22223",
        f"{KS},{E},22223,204",
        str({"wid": None, "ks": [*map(int, KS)], "e": [*map(int, E)], "d": [2, 2, 2, 2, 3]}),
        json.dumps({"ks": [*map(int, KS)], "e": E, "d": "22223", "r": [224], "wid": [1.0]}),
    ],
)
def test_notations_of_the_field(text: str) -> None:
    space = make("mobilenetv3")
    arch = space.parse(text)
    written = json.loads(str(arch))
    assert written == {"ks": [*map(int, KS)], "e": [*map(int, E)], "d": [2, 2, 2, 2, 3]}
    assert space.parse(str(arch)) == arch


def test_proxylessnas_has_a_sixth_stage_of_one_block() -> None:
    space = make("proxylessnas")
    largest = space.parse(MAX)
    assert json.loads(str(largest))["d"] == [4, 4, 4, 4, 4, 1]
    assert space.parse(str(largest)) == largest
    with pytest.raises(InvalidInputError, match="d of stage 6 = 0 is not one of 1"):
        space.parse('{"ks": 7, "e": 6, "d": [4, 4, 4, 4, 4, 0]}')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"ks={KS},e={E}", "needs its depths"),
        (f"e={E},d=22222", "needs ks"),
        (f"ks={KS},e={E},d=22225", "d of stage 5 = 5 is not one of 2, 3, 4"),
        (f"ks=9{KS[1:]},e={E},d=22222", "ks of stage 1, block 1 = 9 is not one of 3, 5, 7"),
        (f"ks={KS}3,e={E},d=22222", "holds 21 numbers; this space needs 20"),
        ('{"ks": 3, "e": 3, "d": 2, "x": 1}', "unknown entry 'x'"),
        ('{"ks": 3, "e": 3, "d": 2, "wid": 0.5}', "width_mult = 1"),
        ('{"ks": 3, "e": 3, "d": 2.0}', "no list of whole numbers"),
        ('{"ks": 3, "e": 3, "d": [true, 2, 2, 2, 2]}', "no list of whole numbers"),
        ('{"ks": ' + "[" * 3000, "no once-for-all architecture"),
        ("{" + " " * 10_000 + "}", "no once-for-all architecture"),
        ("[3, 3]", "no once-for-all architecture"),
    ],
)
def test_notation_that_is_wrong_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        make("mobilenetv3").parse(text)


def test_absent_blocks_have_no_say() -> None:
    space = make("mobilenetv3")
    one = space.parse(f"ks={KS},e={E},d=22222")
    # Kernel and ratio of blocks 3 and 4 of the first stage; an impossible value will do.
    other = space.parse(f"ks={KS[:2]}30{KS[4:]},e={E[:2]}33{E[4:]},d=22222")
    assert one != other
    assert one.key == other.key
    assert one.key != space.parse(f"ks={KS},e={E},d=32222").key
    costs = space.cost([one, other])
    assert all(column[0] == column[1] for column in costs.values())
    network = space.supernet()
    assert network.steps(one) == network.steps(other)
    matrix = space.sample_matrix(500, seed=0)
    costs, canonical = space.cost(matrix), space.cost(space.canonical(matrix))
    assert all(np.array_equal(costs[name], canonical[name]) for name in costs)


@pytest.mark.parametrize("name", ["mobilenetv3", "proxylessnas", "compofa", "compofa-elastic"])
def test_a_mutant_is_another_network(name: str) -> None:
    space = make(name)
    parents = space.sample_matrix(2000, seed=0)
    children = space.mutate(parents, np.random.default_rng(1))
    assert (space.canonical(parents) != space.canonical(children)).any(axis=1).all()
    again = space.mutate(parents, np.random.default_rng(1))
    assert np.array_equal(children, again)


def test_compofa_couples_depth_and_expansion() -> None:
    fixed, elastic, whole = make("compofa"), make("compofa-elastic"), make("mobilenetv3")
    arch = fixed.parse('{"d": [2, 3, 4, 2, 3]}')
    written = json.loads(str(arch))
    assert written["e"] == [3] * 4 + [4] * 4 + [6] * 4 + [3] * 4 + [4] * 4
    assert written["ks"] == [3] * 4 + [5] * 4 + [3] * 8 + [5] * 4
    # The same text is the same network in the spaces around it.
    for space in (elastic, whole):
        same = space.parse(str(arch))
        assert space.cost([same])["macs"] == fixed.cost([arch])["macs"]
    with pytest.raises(InvalidInputError, match="e of stage 1, block 1 = 6 is not one of 3"):
        elastic.parse('{"ks": 3, "e": 6, "d": 2}')
    with pytest.raises(InvalidInputError, match="ks of stage 1, block 1 = 7 is not one of 3"):
        fixed.parse('{"ks": 7, "d": 2}')
    assert set(fixed.keys(fixed.enumerate_matrix())) == {
        arch.key for arch in fixed.decode(fixed.enumerate_matrix())
    }
    assert len(set(fixed.keys(fixed.enumerate_matrix()))) == 243


# ---------------------------------------------------------------------- networks


def test_layers_of_the_largest_network() -> None:
    space = make("mobilenetv3", width_mult=0.5)
    network = space.build(space.parse(MAX))
    depthwise = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert len(depthwise) == 21
    assert {m.kernel_size[0] for m in depthwise[1:]} == {7}
    gates = [m for m in network.modules() if isinstance(m, nn.Hardsigmoid)]
    assert len(gates) == 12
    kinds = [type(m) for m in network.modules()]
    assert nn.Hardswish in kinds
    assert nn.ReLU6 not in kinds
    relu6 = make("proxylessnas", width_mult=0.5)
    kinds = [
        type(m) for m in relu6.build(relu6.parse('{"ks":3,"e":3,"d":[2,2,2,2,2,1]}')).modules()
    ]
    assert nn.ReLU6 in kinds
    assert not {nn.Hardswish, nn.Hardsigmoid, nn.ReLU} & {*kinds}


def test_kernel_matrices_learn_but_not_from_the_largest_network() -> None:
    space = make("mobilenetv3-cifar", width_mult=0.25)
    supernet = space.supernet().train()
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    matrices = {n: p for n, p in supernet.named_parameters() if ".to_" in n}
    assert len(matrices) == 2 * 20
    assert {tuple(p.shape) for p in matrices.values()} == {(25, 25), (9, 9)}
    supernet(x, space.parse(MAX)).sum().backward()
    assert all(p.grad is None for p in matrices.values())
    supernet(x, space.parse('{"ks": 5, "e": 6, "d": 4}')).sum().backward()
    assert all((p.grad is None) == n.endswith("to_3") for n, p in matrices.items())
    supernet(x, space.parse('{"ks": 3, "e": 6, "d": 4}')).sum().backward()
    assert all(p.grad is not None for p in matrices.values())


@pytest.mark.parametrize("images", [1, 5, 7])
@pytest.mark.parametrize("side", [32, 45])
def test_extraction_with_learned_matrices_is_bit_exact(images: int, side: int) -> None:
    space = make("mobilenetv3", width_mult=0.5)
    supernet = space.supernet(seed=3).eval()
    generator = torch.Generator().manual_seed(images)
    with torch.no_grad():
        for tensor in [*supernet.parameters(), *supernet.buffers()]:
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.rand(tensor.shape, generator=generator))
        x = torch.randn(images, 3, side, side, generator=generator)
        for kernel in (3, 5, 7):
            arch = space.parse(f'{{"ks": {kernel}, "e": 4, "d": 3}}')
            assert torch.equal(supernet(x, arch), supernet.extract(arch)(x))


def test_the_network_holds_no_architecture() -> None:
    space = make("mobilenetv3-cifar", width_mult=0.25)
    supernet = space.supernet().eval()
    small, large = space.parse('{"ks": 3, "e": 3, "d": 2}'), space.parse(MAX)
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = supernet(x, small)
        supernet(x, large)
        assert torch.equal(before, supernet(x, small))
        # Any resolution goes through as it is.
        assert supernet(x[:, :, :17, :17], small).shape == (2, 10)


def test_width_and_other_channels() -> None:
    space = make("mobilenetv3", width_mult=0.35, in_channels=1, num_classes=3)
    config = space.config
    widths = [config.stem, config.first, config.head, config.mix]
    widths += [stage.width for stage in config.stages]
    assert all(width % 8 == 0 for width in widths)
    arch = space.sample(1, seed=0)[0]
    network = space.build(arch).eval()
    assert space.cost([arch])["params"][0] == sum(p.numel() for p in network.parameters())
    assert network(torch.zeros(2, 1, 32, 32)).shape == (2, 3)
    assert space.supernet().extract(arch).eval()(torch.zeros(1, 1, 32, 32)).shape == (1, 3)


# ---------------------------------------------------------------------- scoring


def test_gates_and_the_head_are_scored_at_he_scale() -> None:
    """Scores' gradients are those of a network whose every weight is He-initialised."""
    space = make("mobilenetv3-cifar", width_mult=0.25, num_classes=4)
    generator = torch.Generator().manual_seed(3)
    batch = Batch(
        torch.rand(8, 3, 32, 32, generator=generator),
        torch.arange(8) % 4,
        4,
        (0.5, 0.5, 0.5),
        (0.3, 0.3, 0.3),
    )
    arch = space.parse('{"ks": 5, "e": 4, "d": 2}')
    score = Scorer(space, ["snip"], batch=batch, seed=5).table([arch])["snip"][0]
    plain = space.supernet(seed=5, init="normal").train().extract(arch)
    weights = [m.weight for m in plain.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        for w in weights:
            w.mul_(math.sqrt((2.0 if w.dim() == 4 else 1.0) / w[0].numel()))
    nn.functional.cross_entropy(plain(batch.normalised), batch.labels).backward()
    expected = sum(float((w * w.grad).detach().abs().sum()) for w in weights)
    assert score == pytest.approx(expected, rel=5e-3)  # batch norm's eps


def test_a_gate_under_normal_weights_is_half_open_in_a_score() -> None:
    space = make("mobilenetv3-cifar")
    supernet = space.supernet(init="normal").train()
    gate = supernet.stages[4][0].gate
    x = torch.rand(4, 480, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        scored = gate(x, 120, Trace(he=True)) / x
        raw = gate(x, 120, Trace()) / x
    assert ((scored > 0.01) & (scored < 0.99)).float().mean() > 0.9
    assert ((raw > 0.01) & (raw < 0.99)).float().mean() < 0.1


def test_relu_codes_are_scored_where_they_see_the_whole_network() -> None:
    assert "relu" in make("proxylessnas").supernet().traits
    for name in ("mobilenetv3", "mobilenetv3-cifar", "compofa", "compofa-elastic"):
        assert make(name, width_mult=0.25).supernet().traits == {"bn"}
