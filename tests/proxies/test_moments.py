"""Moments, pools and eigenvalues by short cuts, against the long way in numpy and torch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from scholarch.proxies.block import BlockProbe
from scholarch.proxies.ledger import Ledger, Reading
from scholarch.proxies.moments import _products, cross, moments
from scholarch.proxies.passes import SharedPass
from scholarch.searchspace.elastic import Step, Trace


def noise(*shape: int, seed: int = 0) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return x.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else x


def rows(x: Tensor) -> np.ndarray:
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]).double().numpy()


@pytest.mark.parametrize("images", [2, 6])
def test_moments_are_each_candidates_own(images: int) -> None:
    x = noise(6, 5, 4, 4) * 3.0 + 2.0
    found = moments(x, images)
    for i, part in enumerate(x.split(images)):
        centred = rows(part) - rows(part).mean(axis=0)
        np.testing.assert_allclose(found.mean[i], rows(part).mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(found.gram[i], centred.T @ centred, rtol=1e-5, atol=1e-3)
    assert found.positions == images * 16


@pytest.mark.parametrize(("side", "other"), [(8, 8), (8, 4), (7, 4), (9, 3)])
def test_cross_products_of_patches(side: int, other: int) -> None:
    """Columns C·s·t: what a GPU computes, and what a CPU does."""
    a, b = noise(6, 3, side, side), noise(6, 4, other, other, seed=1)
    patch = -(-side // other)
    padded = functional.pad(a, (0, patch * other - side) * 2)
    for found in (cross(a, b, 2), _products(a, b, 2)):
        for i in range(3):
            x, y = padded[2 * i : 2 * i + 2], b[2 * i : 2 * i + 2]
            expected = rows(functional.pixel_unshuffle(x, patch)).T @ rows(y)
            np.testing.assert_allclose(found[i], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", [1, 2, 5, 8])
def test_scoring_pools_as_torch_does(side: int) -> None:
    x = noise(3, 4, side, side).requires_grad_()
    y = x.detach().clone().requires_grad_()
    fast, plain = Trace(he=True).average_pool(x), Trace().average_pool(y)
    torch.testing.assert_close(fast, plain, rtol=1e-6, atol=1e-6)
    weights = noise(3, 4, side, side, seed=2)
    (fast * weights).sum().backward()
    (plain * weights).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-6, atol=1e-6)


def test_batch_norm_keeps_to_a_candidates_images() -> None:
    x = noise(6, 5, 4, 4).mul_(torch.arange(1.0, 7.0).view(-1, 1, 1, 1)).requires_grad_()
    y = x.detach().clone().requires_grad_()
    one, zero = torch.full((5,), 1.5), torch.full((5,), -0.5)
    shared = SharedPass(2)
    with shared.running():
        found = shared.batch_norm(x, one, zero, 1e-5)
    parts = [functional.batch_norm(p, None, None, one, zero, True) for p in y.split(2)]
    torch.testing.assert_close(found, torch.cat(parts))
    weights = noise(6, 5, 4, 4, seed=2)
    (found * weights).sum().backward()
    (torch.cat(parts) * weights).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-5)


def test_gram_matrices_of_maps_with_and_without_batch_norm() -> None:
    x, one, zero = noise(4, 3, 4, 4) + 1.0, torch.ones(3), torch.zeros(3)
    shared = SharedPass(4)
    with shared.running() as grams:
        shared.on_map(x, None, True)
        shared.batch_norm(x, one, zero, 1e-5)
        later = x * 2.0
        shared.on_map(later, None, False)
        later.zero_()  # taken at once, as nothing was promised to follow
    centred = rows(x) - rows(x).mean(axis=0)
    correlation = np.corrcoef(centred.T)
    for gram, owners, normed in grams:
        scale = gram[0].diagonal().sqrt()
        np.testing.assert_allclose(gram[0] / scale / scale[:, None], correlation, atol=1e-5)
        assert owners is None
        assert float(gram[0, 0, 0]) == pytest.approx(len(centred), rel=1e-3) or not normed
    assert [normed for *_, normed in grams] == [True, False]


# ---------------------------------------------------------------------- ledger


def blocks(count: int) -> list[BlockProbe]:
    return [BlockProbe(Step("block", (i,)), torch.zeros(1)) for i in range(count)]


def largest(matrices: Tensor) -> tuple[Tensor, Reading]:
    return matrices.double(), lambda values: values[:, -1]


def test_entries_of_a_name_add_up_and_sizes_mix() -> None:
    ledger, (first, second) = Ledger(), blocks(2)
    ledger.spectrum(
        [first, second], "top", torch.eye(3) * torch.tensor([2.0, 5.0])[:, None, None], largest
    )
    ledger.spectrum([first], "top", 7.0 * torch.eye(2)[None], largest)
    ledger.number([second], "log", torch.tensor([math.e]), formula=torch.log)
    ledger.settle()
    assert first.numbers == {"top": pytest.approx(9.0)}
    assert second.numbers == {"top": pytest.approx(5.0), "log": pytest.approx(1.0)}
    ledger.settle()
    assert first.numbers == {"top": pytest.approx(9.0)}


def test_a_matrix_that_is_not_finite_fails_alone() -> None:
    ledger, (first, second) = Ledger(), blocks(2)
    matrices = torch.eye(3).repeat(2, 1, 1)
    matrices[0, 1, 2] = math.nan
    ledger.spectrum([first, second], "top", matrices, largest)
    ledger.settle()
    assert math.isnan(first.numbers["top"])
    assert second.numbers["top"] == pytest.approx(1.0)
