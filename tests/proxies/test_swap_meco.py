"""SWAP and MeCo against plain counts and numpy, and what a batch too small does to them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from scholarch.proxies.meco import least_correlation_eigenvalue
from scholarch.proxies.scoring import Scorer
from scholarch.proxies.swap import IMAGES, distinct, unit_patterns
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space
from scholarch.testing.proxy_suite import BATCH, SPACE, make_batch, scorer

SEED = 5


def score(name: str, text: str, images: int | None = None, seed: int = SEED) -> float:
    arch = SPACE.parse(text)
    if images is None:
        return float(scorer(name, seed=seed).table([arch])[name][0])
    batch = make_batch(images=images)
    return float(Scorer(SPACE, [name], batch=batch, seed=seed).table([arch])[name][0])


def network(text: str) -> nn.Module:
    return SPACE.supernet(seed=SEED, init="normal").train().extract(SPACE.parse(text))


# ---------------------------------------------------------------------- SWAP


@pytest.mark.parametrize(("text", "images"), [("131", 32), ("333", 70)])
def test_swap(text: str, images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    patterns: set[bytes] = set()
    relu = functional.relu

    def watched(x: Tensor, inplace: bool = False) -> Tensor:
        for unit in (x > 0).flatten(1).T.numpy():
            patterns.add(unit.tobytes())
        return relu(x)

    monkeypatch.setattr(functional, "relu", watched)
    with torch.no_grad():
        network(text)(make_batch(images=images).normalised)
    monkeypatch.undo()
    # Sums in another layout round differently; few units are that close to 0.
    assert score("swap", text, images) == pytest.approx(len(patterns), rel=1e-4)


def test_patterns_by_hand() -> None:
    relu = torch.tensor([[1.0, 0.0, 2.0, 0.0], [1.0, 1.0, 3.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    words = unit_patterns(relu.view(3, 4, 1, 1))
    assert words.tolist() == [[0b011], [0b010], [0b011], [0b000]]
    assert distinct(words).tolist() == [[0b000], [0b010], [0b011]]


@pytest.mark.parametrize("images", [63, 64, 65, 130])
def test_any_number_of_images_counts_exactly(images: int) -> None:
    generator = torch.Generator().manual_seed(images)
    relu = torch.randint(0, 2, (images, 40, 1, 1), generator=generator).float()
    relu = relu.repeat(1, 3, 1, 1)
    relu[-1, 0] = 1.0 - relu[-1, 0]  # differs in the last image alone
    expected = len(np.unique(relu.flatten(1).T.numpy(), axis=0))
    assert len(distinct(unit_patterns(relu))) == expected == 41


def test_neither_the_order_of_images_nor_of_channels_counts() -> None:
    relu = torch.rand(40, 30, 2, 2, generator=torch.Generator().manual_seed(0)) - 0.9
    count = len(distinct(unit_patterns(relu)))
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    assert len(distinct(unit_patterns(relu[order]))) == count
    assert len(distinct(unit_patterns(relu.flip(1)))) == count


def test_few_images_are_refused_before_any_scoring() -> None:
    for name in ("swap", "swap-regularised"):
        with pytest.raises(InvalidInputError, match=f"{name}' needs at least 32 images.* has 31"):
            Scorer(SPACE, [name], batch=make_batch(images=IMAGES - 1))
    # Why: the cap is reached by the smallest network.
    few = torch.rand(4, 16, 16, 16, generator=torch.Generator().manual_seed(0)) - 0.5
    assert len(distinct(unit_patterns(few))) == 2**4


def test_regularised_swap_is_bounded_by_swap() -> None:
    total = sum(p.numel() for p in SPACE.supernet().parameters())
    shares = []
    for text in ("111", "777"):
        factor = score("swap-regularised", text) / score("swap", text)
        params = float(SPACE.cost([SPACE.parse(text)])["params"][0])
        assert factor == pytest.approx(math.exp(-(((params - total) / total) ** 2)))
        shares.append(factor)
    assert math.exp(-1.0) < shares[0] < shares[1] <= 1.0


# ---------------------------------------------------------------------- MeCo


@pytest.mark.parametrize("text", ["131", "333"])
def test_meco(text: str) -> None:
    outputs: list[Tensor] = []
    plain = network(text)
    for module in plain.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda m, given, out: outputs.append(out.detach()))
    plain(BATCH.normalised)
    total = 0.0
    for out in outputs:
        first = out[0].flatten(1).double().numpy()
        if first.shape[1] > first.shape[0]:
            total += float(np.linalg.eigvalsh(np.corrcoef(first))[0])
    assert score("meco", text) == pytest.approx(total, rel=1e-3)
    assert total > 0.1


def test_least_eigenvalues_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    white = torch.randn(4, 100, 100, generator=generator)
    assert least_correlation_eigenvalue(white) == pytest.approx(1.0, abs=0.05)
    # scale and shift of a channel are of no matter
    moved = white * torch.tensor([1.0, 1e-3, 1e3, -1.0]).view(4, 1, 1) + 7.0
    assert least_correlation_eigenvalue(moved) == pytest.approx(
        least_correlation_eigenvalue(white), rel=1e-3
    )
    twice = torch.cat([white, 2.0 * white[:1]])
    assert least_correlation_eigenvalue(twice) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("value", [0.0, 0.1, 3e4])
def test_constant_channels_are_no_nan(value: float) -> None:
    features = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(0))
    features[2] = value
    assert least_correlation_eigenvalue(features) == 0.0


def test_fewer_positions_than_channels_say_nothing() -> None:
    features = torch.randn(16, 4, 4, generator=torch.Generator().manual_seed(0))
    assert least_correlation_eigenvalue(features) is None
    assert float(np.linalg.eigvalsh(np.corrcoef(features.flatten(1)))[0]) < 1e-6
    assert least_correlation_eigenvalue(features[:15]) is not None
    small = create_space("vitbench-autoformer", num_classes=4, resolution=16)
    table = Scorer(small, ["meco"], batch=BATCH).table(small.sample(1))
    assert math.isnan(table["meco"][0])
    assert "no layer has more positions than channels" in table.failures[0, "meco"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("131", (26387, 13328.28, 1.180385)), ("333", (46080, 32590.5, 2.691825))],
)
def test_golden_values(text: str, expected: tuple[float, ...]) -> None:
    values = [score(name, text, seed=0) for name in ("swap", "swap-regularised", "meco")]
    assert values == pytest.approx(expected, rel=1e-4)
