"""Distinct heads against singular values of the attention maps of standalone networks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scholarch.proxies.batch import Batch
from scholarch.proxies.distinct_heads import MOST_INPUTS, effective_heads
from scholarch.proxies.scoring import Scorer
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space
from scholarch.testing.proxy_suite import BATCH, SPACE, TRANSFORMER, make_batch, scorer

ARCHS = TRANSFORMER.sample(3, seed=1)


def random_maps(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3.0 * torch.randn(*shape, generator=generator)).softmax(dim=-1)


def by_singular_values(maps: Tensor) -> float:
    rows = (maps - 1.0 / maps.shape[-1]).transpose(0, 1).flatten(1).double().numpy()
    p = np.linalg.svd(rows, compute_uv=False) ** 2
    p = p[p > 1e-12] / p.sum()
    return math.exp(-float((p * np.log(p)).sum()))


def test_effective_heads_by_singular_values() -> None:
    maps = random_maps(2, 4, 6, 6)
    assert effective_heads(maps) == pytest.approx(by_singular_values(maps), rel=1e-4)
    assert 3.0 < effective_heads(maps) <= 4.0


def test_copies_count_once_and_uniform_heads_tell_nothing() -> None:
    one = random_maps(2, 1, 6, 6)
    two = random_maps(2, 2, 6, 6)
    assert effective_heads(one) == pytest.approx(1.0)
    assert effective_heads(one.expand(2, 5, 6, 6)) == pytest.approx(1.0, abs=1e-4)
    doubled = effective_heads(torch.cat([two, two], dim=1))
    assert doubled == pytest.approx(effective_heads(two), rel=1e-4)
    assert effective_heads(torch.full((2, 3, 4, 4), 0.25)) == 1.0
    # One that attends uniformly adds nothing to another.
    uniform = torch.full_like(one, 1.0 / 6.0)
    assert effective_heads(torch.cat([one, uniform], dim=1)) == pytest.approx(1.0, abs=1e-4)


def test_padding_is_of_no_matter() -> None:
    maps = random_maps(1, 3, 4, 4)
    padded = random_maps(1, 3, 7, 7, seed=1)  # queries that are padding attend anyhow
    padded[:, :, :4] = 0.0
    padded[:, :, :4, :4] = maps
    mask = torch.arange(7)[None] < 4
    assert effective_heads(padded, mask) == pytest.approx(effective_heads(maps), rel=1e-5)
    assert effective_heads(padded) != pytest.approx(effective_heads(maps), rel=1e-2)


def expected(index: int, seed: int, images: Tensor) -> float:
    """From the queries and keys of the extracted network at He scale."""
    network = TRANSFORMER.supernet(seed=seed, init="normal").extract(ARCHS[index])
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.weight.data *= math.sqrt(2.0 / module.weight[0].numel())
        if isinstance(module, nn.Embedding):
            module.weight.data *= 0.02
    found = []
    for block in network.blocks:

        def read(_module: object, _args: object, out: Tensor, heads: int = block.heads) -> None:
            q, k, _ = out.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
            maps = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(dim=-1)
            found.append(by_singular_values(maps))

        block.qkv.register_forward_hook(read)
    with torch.no_grad():
        network(images)
    assert len(found) in (12, 13, 14)
    return sum(found)


@pytest.mark.parametrize("index", range(3))
def test_distinct_heads(index: int) -> None:
    value = scorer("distinct-heads", seed=3).table([ARCHS[index]])["distinct-heads"][0]
    assert value == pytest.approx(expected(index, 3, BATCH.normalised[:MOST_INPUTS]), rel=1e-3)


def test_the_first_inputs_are_enough() -> None:
    """More inputs than are looked at change nothing."""
    many = make_batch(images=MOST_INPUTS + 4)
    few = type(many)(many.images[:MOST_INPUTS], many.labels[:MOST_INPUTS], 4, many.mean, many.std)
    columns = [
        Scorer(TRANSFORMER, ["distinct-heads"], batch=batch).table(ARCHS)["distinct-heads"]
        for batch in (many, few)
    ]
    np.testing.assert_allclose(columns[0], columns[1], rtol=1e-5)


def test_convnets_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="'distinct-heads' need attention layers.*lack"):
        Scorer(SPACE, ["distinct-heads"], batch=BATCH)


def test_padded_texts_attend_as_they_do_alone() -> None:
    space = create_space("autodistil-tiny", num_classes=4, width_mult=0.25, resolution=16)
    texts = space.example(8, torch.Generator().manual_seed(0), 12)
    padded = torch.cat([texts, torch.zeros(8, 2, 1, 4)], dim=3)
    archs = space.sample(2, seed=0)
    short, long = (
        Scorer(space, ["distinct-heads"], batch=text_batch(x)).table(archs)["distinct-heads"]
        for x in (texts, padded)
    )
    np.testing.assert_allclose(short, long, rtol=1e-4)
    assert (short > 1.0).all()


def text_batch(texts: Tensor) -> Batch:
    labels = torch.arange(len(texts)) % 4
    return Batch(texts, labels, 4, (0.0, 0.0), (1.0, 1.0))
