"""Every proxy on every registered space: finite, and the same alone and in company."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scholarch.proxies.batch import Batch
from scholarch.proxies.registry import get_proxy, list_proxies
from scholarch.proxies.scoring import Scorer
from scholarch.proxies.taps import Taps
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space, list_spaces
from scholarch.searchspace.space import SearchSpace

IMAGES, CLASSES = 8, 4

pytestmark = pytest.mark.parametrize("name", list_spaces())


def make_batch() -> Batch:
    images = torch.rand(IMAGES, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(IMAGES) % CLASSES
    return Batch(images, labels, CLASSES, (0.5, 0.5, 0.5), (0.3, 0.3, 0.3))


def make_taps() -> Taps:
    generator = torch.Generator().manual_seed(9)
    final = torch.rand(IMAGES, 16, 4, 4, generator=generator)
    classifier = torch.randn(CLASSES, 16, generator=generator)
    pooled = final.mean(dim=(2, 3))
    return Taps((final,), final, pooled, pooled @ classifier.T, classifier)


BATCH, TAPS = make_batch(), make_taps()


@pytest.fixture
def space(name: str) -> SearchSpace:
    return create_space(name, num_classes=CLASSES, resolution=32, width_mult=0.25)


def test_every_proxy_is_finite_and_the_same_in_company(space: SearchSpace) -> None:
    lacks = {"bn", "relu", "attention"} - space.supernet().traits
    # The released semantic score compares channel by channel; widths here are anyone's.
    proxies = [
        proxy
        for proxy in list_proxies()
        if not get_proxy(proxy).needs & lacks
        and get_proxy(proxy).images <= IMAGES
        and not proxy.startswith("diswot-released")
    ]
    scorer = Scorer(space, proxies, batch=BATCH, teacher=TAPS)
    archs = space.sample(3, seed=1)
    together = scorer.table(archs)
    # There is none to compare where a convolution stands between pool and classifier; and a
    # Transformer on small images has fewer tokens than features.
    known = ("class activation maps", "more positions than channels")
    assert all(any(text in why for text in known) for why in together.failures.values())
    assert {"expr", "diswot", "jacov"} <= set(together)
    for i, arch in enumerate(archs):
        alone = scorer.table([arch])
        assert all(np.array_equal(alone[p], together[p][i : i + 1], True) for p in proxies)
    for proxy in ("expr", "diswot", *({"snip", "grad_norm", "synflow"} & set(together))):
        assert len(np.unique(together[proxy])) == len({arch.key for arch in archs})


def test_a_lacking_trait_is_refused_by_name(space: SearchSpace) -> None:
    for trait, proxy in {"relu": "naswot", "bn": "synflow"}.items():
        if trait in space.supernet().traits:
            assert np.isfinite(Scorer(space, [proxy], batch=BATCH).table(space.sample(1))[proxy])
        else:
            with pytest.raises(InvalidInputError, match=f"{proxy}.*lack"):
                Scorer(space, [proxy], batch=BATCH)
