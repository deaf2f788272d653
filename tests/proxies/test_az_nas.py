"""AZ-NAS's parts against numpy on plain networks, and where they are undefined."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from scholarch.proxies.az_nas import (
    Signs,
    az_progressivity,
    az_trainability,
    gradient_stretch,
    measure_stretch,
)
from scholarch.proxies.block import BlockProbe
from scholarch.proxies.ensemble import ENSEMBLES
from scholarch.proxies.expr import spectrum_entropy
from scholarch.proxies.group import BlockGroup
from scholarch.proxies.ledger import Ledger
from scholarch.proxies.moments import to_depth
from scholarch.proxies.probe import Probe
from scholarch.proxies.scoring import Scorer
from scholarch.scoring import score as api_score
from scholarch.searchspace.convnets.resnet_cifar_net import BasicBlock, CifarResNet
from scholarch.searchspace.elastic import Step
from scholarch.searchspace.errors import InvalidInputError
from scholarch.testing.proxy_suite import BATCH, SPACE, scorer

PARTS = ("az-expressivity", "az-progressivity", "az-trainability", "az-complexity")
SEED = 5


def score(name: str, text: str, seed: int = SEED) -> float:
    return float(scorer(name, seed=seed).table([SPACE.parse(text)])[name][0])


def blocks_of(text: str) -> list[tuple[BasicBlock, Tensor, Tensor]]:
    """A plain network's blocks, each with what it was given and what it gave."""
    network = SPACE.supernet(seed=SEED, init="normal").train().extract(SPACE.parse(text))
    assert isinstance(network, CifarResNet)
    seen: list[tuple[BasicBlock, Tensor, Tensor]] = []
    for module in network.modules():
        if isinstance(module, BasicBlock):
            module.register_forward_hook(
                lambda m, given, out: seen.append((m, given[0].detach(), out.detach()))
            )
    network(BATCH.normalised)
    return list(seen)


@pytest.mark.parametrize("text", ["131", "333"])
def test_entropies(text: str) -> None:
    entropies = []
    for _, _, out in blocks_of(text):
        values = np.linalg.eigvalsh(np.cov(out.permute(1, 0, 2, 3).flatten(1).double().numpy()))
        p = np.clip(values, 1e-300, None) / values.sum()
        entropies.append(float(-(p * np.log(p)).sum()))
    assert score("az-expressivity", text) == pytest.approx(sum(entropies), rel=1e-4)
    assert score("az-expressivity", text) == score("expr", text)
    assert score("az-progressivity", text) == pytest.approx(min(np.diff(entropies)), rel=1e-3)


@pytest.mark.parametrize("text", ["131", "333"])
def test_trainability(text: str) -> None:
    scores = []
    for block, x, out in blocks_of(text):
        x.requires_grad_()
        generator = torch.Generator().manual_seed(SEED)
        sign = torch.empty(out.shape).bernoulli_(0.5, generator=generator) * 2 - 1
        block(x).backward(sign)
        stride = x.shape[2] // out.shape[2]
        grad = functional.pixel_unshuffle(x.grad, stride)
        product = np.einsum("bihw,bohw->io", grad.double().numpy(), sign.double().numpy())
        sigma = np.linalg.norm(product / (len(x) * out.shape[2] * out.shape[3]), 2)
        scores.append(2 - sigma - 1 / (sigma + 1e-6))
    assert score("az-trainability", text) == pytest.approx(np.mean(scores), rel=1e-3)


def test_complexity_is_flops() -> None:
    arch = SPACE.parse("131")
    assert score("az-complexity", "131") == 2 * SPACE.cost([arch])["macs"][0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("131", (16.3779, 0.0113091, -0.1753287, 1.09696e07)),
        ("333", (29.23629, -0.007377831, -0.3091157, 2.040678e07)),
    ],
)
def test_golden_values(text: str, expected: tuple[float, ...]) -> None:
    values = [score(name, text, seed=0) for name in PARTS]
    assert values == pytest.approx(expected, rel=1e-4)


def test_the_ensemble_is_its_parts() -> None:
    ensemble = ENSEMBLES["az-nas"]
    assert ensemble.parts == PARTS
    archs = [SPACE.parse(text) for text in ("111", "777")]
    table = api_score(SPACE, archs, batch=BATCH, proxies=["az-nas"], seed=0)
    assert np.isfinite(table["az-nas"]).all()
    assert len(set(table["az-nas"].tolist())) == 2


# ---------------------------------------------------------------------- odd blocks


class Steps:
    """A network whose steps are given functions."""

    def __init__(self, *functions: Callable[[Tensor], Tensor]) -> None:
        self.functions = functions

    def probe(self, x: Tensor) -> Probe:
        blocks, images, ledger = [], x, Ledger()
        for i, function in enumerate(self.functions):
            given = x.detach().requires_grad_()
            x = function(given)
            block = BlockProbe(Step("stem" if i == 0 else "block", (i,)), x)
            group = BlockGroup([block], self, len(images), given, x, ledger)  # type: ignore[arg-type]
            measure_stretch(group, seed=0)
            blocks.append(block)
        ledger.settle()
        return Probe(SPACE.parse("111"), {}, BATCH, tuple(blocks), self, images=images)  # type: ignore[arg-type]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_identity_blocks_are_left_out() -> None:
    x = noise(64, 4, 16, 16)
    double = Steps(lambda x: x * 1.0, lambda x: 2.0 * x)
    among = Steps(lambda x: x * 1.0, lambda x: x.clone(), lambda x: 2.0 * x, lambda x: x + 0.0)
    assert az_trainability(double.probe(x)) == az_trainability(among.probe(x))
    # σ = 2 up to the correlation of the signs of different channels
    assert az_trainability(double.probe(x)) == pytest.approx(-0.5, abs=0.05)
    with pytest.raises(InvalidInputError, match="every block is the identity"):
        az_trainability(Steps(lambda x: x, lambda x: x.clone()).probe(x))


def test_a_rotation_of_channels_keeps_gradients() -> None:
    rotation = torch.linalg.qr(noise(4, 4))[0]
    turned = Steps(lambda x: x, lambda x: torch.einsum("oi,bihw->bohw", rotation, x))
    assert -1e-3 < az_trainability(turned.probe(noise(64, 4, 16, 16))) < 0.0


def test_a_block_that_hears_nothing_is_worst() -> None:
    dead = Steps(lambda x: x, lambda x: x.mul(0.0))
    assert az_trainability(dead.probe(noise(8, 4, 8, 8))) == pytest.approx(2.0 - 1e6)


def test_a_single_block_progresses_from_its_input() -> None:
    x = noise(8, 4, 8, 8)
    scale = torch.tensor([1.0, 1.0, 0.1, 0.01]).view(1, 4, 1, 1)
    probe = Steps(lambda x: x, lambda x: x * scale).probe(x)
    growth = spectrum_entropy(x * scale) - spectrum_entropy(x)
    assert az_progressivity(probe) == pytest.approx(growth)
    assert growth < -0.1
    probe.blocks = probe.blocks[1:]
    with pytest.raises(InvalidInputError, match="two outputs"):
        az_progressivity(probe)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_constant_features_are_no_rank(position: int) -> None:
    functions = [lambda x: x + 1.0, lambda x: x + 2.0, lambda x: x + 3.0]
    functions[position] = lambda x: x.mul(0.0)
    probe = Steps(lambda x: x, *functions).probe(noise(8, 4, 8, 8))
    assert np.isnan(az_progressivity(probe))


def test_patches_become_channels() -> None:
    x = noise(2, 3, 7, 8)
    rows = to_depth(x, 4, 4)
    assert rows.shape == (2 * 4 * 4, 3 * 2 * 2)
    assert float(rows.square().sum()) == pytest.approx(float(x.square().sum()))
    first = x[0, :, :2, :2].flatten()
    assert sorted(rows[0].tolist()) == sorted(first.tolist())
    assert (to_depth(x, 7, 8) == x.permute(0, 2, 3, 1).reshape(-1, 3)).all()
    # tokens: 17 become 5 patches of 4, of which the last is filled up
    assert to_depth(noise(2, 3, 1, 17), 1, 5).shape == (10, 12)


@pytest.mark.parametrize("channels", [(3, 9), (9, 3)])
def test_stretch_of_any_widths(channels: tuple[int, int]) -> None:
    a, b = noise(2, channels[0], 6, 6), noise(2, channels[1], 3, 3, seed=1)
    product = to_depth(a, 3, 3).T @ to_depth(b, 3, 3) / 18
    expected = float(torch.linalg.matrix_norm(product, 2))
    assert gradient_stretch(a, b) == pytest.approx(expected, rel=1e-5)


def test_trainability_needs_no_graph_of_the_forward() -> None:
    """Alone and beside a proxy with a backward of its own: the same to the bit."""
    archs = [SPACE.parse("131"), SPACE.parse("133")]
    alone = Scorer(SPACE, ["az-trainability"], batch=BATCH).table(archs)
    beside = Scorer(SPACE, ["az-trainability", "snip"], batch=BATCH).table(archs)
    assert np.array_equal(alone["az-trainability"], beside["az-trainability"])


def test_signs_are_kept_within_bytes() -> None:
    signs = Signs(most=250)
    small, large = torch.Size([1, 1, 10, 10]), torch.Size([1, 3, 10, 10])
    first = signs(small, 0)
    assert set(first.unique().tolist()) == {-1, 1}
    assert signs(small, 0) is first
    second = signs(small, 1)
    assert not torch.equal(first, second)
    assert signs(small, 0) is first  # so that the second is the oldest
    signs(small, 2)
    assert signs.held == 200
    assert signs(small, 0) is first
    assert signs(small, 1) is not second
    assert torch.equal(signs(small, 1), second)
    assert signs(large, 0) is not signs(large, 0)  # more than is kept
    assert signs.held == 0
