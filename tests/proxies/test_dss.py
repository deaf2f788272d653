"""DSS against its formula by singular values, layer by layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from scholarch.proxies.dss import nuclear_norm
from scholarch.proxies.scoring import Scorer
from scholarch.searchspace.errors import InvalidInputError
from scholarch.testing.proxy_suite import BATCH, SPACE, TRANSFORMER, scorer

ARCHS = TRANSFORMER.sample(3, seed=1)


def parts(index: int, seed: int) -> tuple[dict[str, float], dict[str, float]]:
    """Saliency of attention's layers and of the others, by name."""
    network = TRANSFORMER.supernet(seed=seed, init="normal").extract(ARCHS[index])
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Embedding):
            module.weight.data = (module.weight.data * 0.02).abs()
    network(torch.ones(1, 3, 16, 16)).sum().backward()
    attention, rest = {}, {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear):
            w, g = module.weight.detach().double(), module.weight.grad.double()
            if name.endswith(("qkv", "proj")):
                sums = [np.linalg.svd(m.numpy(), compute_uv=False).sum() for m in (w, g)]
                attention[name] = float(sums[0] * sums[1])
            else:
                rest[name] = float((w * g).abs().sum())
    return attention, rest


@pytest.mark.parametrize("index", range(3))
def test_dss(index: int) -> None:
    attention, rest = parts(index, seed=3)
    depth = len(attention) // 2
    assert depth in (12, 13, 14)
    assert len(rest) == 2 * depth + 1
    assert {name.rpartition(".")[2] for name in rest} == {"fc1", "fc2", "head"}
    # No layer is without a share, as in the released code all are.
    assert min(attention.values()) > 0.0
    assert min(rest.values()) > 0.0
    expected = sum(attention.values()) + sum(rest.values())
    value = scorer("dss", seed=3).table([ARCHS[index]])["dss"][0]
    assert value == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("shape", [(3, 7), (7, 3), (5, 5)])
def test_nuclear_norm(shape: tuple[int, int]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    expected = float(torch.linalg.svdvals(weight.double()).sum())
    assert float(nuclear_norm(weight)) == pytest.approx(expected)
    outer = torch.outer(torch.ones(4), torch.tensor([3.0, 4.0]))
    assert float(nuclear_norm(outer)) == pytest.approx(10.0, rel=1e-6)  # √4 · 5


def test_images_are_of_no_matter() -> None:
    dark = BATCH.images.mul(0.1)
    darker = Scorer(TRANSFORMER, ["dss"], batch=type(BATCH)(dark, BATCH.labels, 4, *_norm()))
    plain = scorer("dss")
    assert np.array_equal(darker.table(ARCHS)["dss"], plain.table(ARCHS)["dss"])


def _norm() -> tuple[tuple[float, ...], tuple[float, ...]]:
    return BATCH.mean, BATCH.std


def test_convnets_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="'dss' need attention layers.*lack"):
        Scorer(SPACE, ["dss"], batch=BATCH)


def test_golden_values() -> None:
    values = scorer("dss").table(ARCHS)["dss"].tolist()
    assert values == pytest.approx([76.33252, 24.20668, 75.28506], rel=1e-4)
