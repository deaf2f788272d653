"""Each proxy against its formula, worked out plainly on a standalone network."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from scholarch.proxies.batch import Batch
from scholarch.proxies.expr import spectrum_entropy
from scholarch.proxies.naswot import hamming_kernel
from scholarch.proxies.scoring import Scorer
from scholarch.searchspace.convnets.resnet_cifar_net import BasicBlock, CifarResNet
from scholarch.searchspace.factory import create_space

SPACE = create_space("resnet-cifar", num_classes=4, resolution=16)
TEXT = "12-16x2-32x1-48x3"


def _batch() -> Batch:
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(8, 3, 16, 16, generator=generator)
    return Batch(images, torch.arange(8) % 4, 4, (0.5, 0.5, 0.5), (0.3, 0.3, 0.3))


BATCH = _batch()


def score(name: str) -> float:
    table = Scorer(SPACE, [name], batch=BATCH, seed=5).table([SPACE.parse(TEXT)])
    return float(table[name][0])


@pytest.fixture
def network() -> CifarResNet:
    """The same weights, N(0, 1), as a plain network in training mode."""
    supernet = SPACE.supernet(seed=5, init="normal").train()
    return supernet.extract(SPACE.parse(TEXT))


def he_scaled(network: nn.Module) -> nn.Module:
    network = copy.deepcopy(network)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.mul_(math.sqrt(2.0 / module.weight[0].numel()))
            elif isinstance(module, nn.Linear):
                module.weight.mul_(math.sqrt(1.0 / module.weight[0].numel()))
    return network


def test_sizes() -> None:
    costs = SPACE.cost([SPACE.parse(TEXT)])
    assert score("params") == costs["params"][0]
    assert score("macs") == costs["macs"][0]
    assert score("depth") == 14.0


def test_expr(network: CifarResNet) -> None:
    outputs: list[Tensor] = []
    for module in network.modules():
        if isinstance(module, BasicBlock):
            module.register_forward_hook(lambda m, i, out: outputs.append(out.detach()))
    network(BATCH.normalised)
    total = 0.0
    for out in outputs:
        rows = out.permute(1, 0, 2, 3).flatten(1).double().numpy()
        values = np.clip(np.linalg.eigvalsh(np.cov(rows)), 1e-300, None)
        p = values / values.sum()
        total += float(-(p * np.log(p)).sum())
    assert len(outputs) == 6
    assert score("expr") == pytest.approx(total, rel=1e-4)


def test_entropy_of_known_spectra() -> None:
    generator = torch.Generator().manual_seed(0)
    white = torch.randn(64, 8, 20, 20, generator=generator)
    assert spectrum_entropy(white) == pytest.approx(math.log(8), abs=1e-3)
    line = torch.randn(64, 1, 20, 20, generator=generator).expand(-1, 8, -1, -1)
    assert spectrum_entropy(line) == pytest.approx(0.0, abs=1e-4)
    assert math.isnan(spectrum_entropy(torch.ones(4, 8, 2, 2)))


def test_naswot(network: CifarResNet, monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[Tensor] = []
    relu = functional.relu

    def watched(x: Tensor, inplace: bool = False) -> Tensor:
        codes.append((x > 0).flatten(1).double())
        return relu(x)

    monkeypatch.setattr(functional, "relu", watched)
    network(BATCH.normalised)
    monkeypatch.undo()
    kernel = sum(c @ c.T + (1 - c) @ (1 - c).T for c in codes)
    assert len(codes) == 13
    assert score("naswot") == pytest.approx(float(torch.linalg.slogdet(kernel)[1]), rel=1e-4)


def test_hamming_kernel_counts_agreement() -> None:
    relu = torch.tensor([[1.0, 0.0, 2.0, 0.0], [1.0, 1.0, 0.0, 0.0]]).view(2, 4, 1, 1)
    assert hamming_kernel([relu, relu]).tolist() == [[8.0, 4.0], [4.0, 8.0]]


@pytest.mark.parametrize("name", ["snip", "grad_norm"])
def test_gradients_are_those_of_he_initialisation(network: CifarResNet, name: str) -> None:
    plain = he_scaled(network)
    functional.cross_entropy(plain(BATCH.normalised), BATCH.labels).backward()
    weights = [m.weight for m in plain.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    if name == "snip":
        expected = sum(float((w * w.grad).abs().sum().detach()) for w in weights)
    else:
        expected = sum(float(w.grad.norm()) for w in weights)
    assert score(name) == pytest.approx(expected, rel=2e-3)  # batch norm's eps


def test_synflow(network: CifarResNet) -> None:
    plain = he_scaled(network).double()
    for parameter in plain.parameters():
        parameter.data.abs_()
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.forward = lambda x: x
    plain(torch.ones(1, 3, 16, 16, dtype=torch.float64)).sum().backward()
    weights = [m.weight for m in plain.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    expected = math.log(sum(float((w.detach() * w.grad).abs().sum()) for w in weights))
    assert score("synflow") == pytest.approx(expected, rel=1e-6)


def test_fisher(network: CifarResNet) -> None:
    outputs: list[Tensor] = []

    def keep(module: nn.Module, args: object, out: Tensor) -> None:
        out.retain_grad()
        outputs.append(out)

    plain = he_scaled(network)
    for module in plain.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(keep)
    functional.cross_entropy(plain(BATCH.normalised), BATCH.labels).backward()
    expected = 0.0
    for out in outputs:
        flow = (out.detach() * out.grad).sum(dim=(2, 3))
        expected += 0.5 * float((flow**2).mean(dim=0).sum())
    assert score("fisher") == pytest.approx(expected, rel=5e-3)


def test_jacov(network: CifarResNet) -> None:
    images = BATCH.normalised.requires_grad_()
    he_scaled(network)(images).sum().backward()
    correlation = np.corrcoef(images.grad.flatten(1).double().numpy())
    values = np.linalg.eigvalsh(correlation) + 1e-5
    expected = -float((np.log(values) + 1.0 / values).sum())
    assert score("jacov") == pytest.approx(expected, rel=5e-3)


def test_zen(network: CifarResNet) -> None:
    generator = torch.Generator().manual_seed(5)
    shape = BATCH.images.shape
    x = torch.empty(shape).normal_(generator=generator)
    moved = x + 1e-2 * torch.empty(shape).normal_(generator=generator)
    terms: list[float] = []

    def variance(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        terms.append(0.5 * math.log(float(args[0].var(dim=(0, 2, 3), unbiased=False).mean())))

    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    final: list[Tensor] = []
    network.layer3.register_forward_hook(lambda m, i, out: final.append(out))
    with torch.no_grad():
        hooks = [norm.register_forward_pre_hook(variance) for norm in norms]
        network(x)
        for hook in hooks:
            hook.remove()
        network(moved)
    distance = (final[0] - final[1]).abs().sum(dim=(1, 2, 3)).mean()
    assert score("zen") == pytest.approx(math.log(float(distance)) + sum(terms), rel=1e-4)


def test_weights_alone(network: CifarResNet) -> None:
    weights = [
        m.weight for m in he_scaled(network).modules() if isinstance(m, nn.Conv2d | nn.Linear)
    ]
    assert score("layers") == len(weights) == 17
    assert score("l2_norm") == pytest.approx(sum(float(w.detach().norm()) for w in weights))
