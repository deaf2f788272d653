"""Every proxy on every kind of space: finite, and the same alone and in company."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from scholarch.proxies.registry import get_proxy, list_proxies
from scholarch.proxies.scoring import Scorer
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import list_spaces
from scholarch.searchspace.space import SearchSpace
from scholarch.testing.light import light_batch, light_space, light_taps

IMAGES, CLASSES = 8, 4

#: On every space: one for each way of looking at a network. All that is the space's own in what
#: a proxy sees is the network's class, so that the others see one space of each class.
FEW = {"macs", "expr", "meco", "jacov", "snip", "grad_norm", "az-trainability", "synflow", "zen"}
FEW |= {"naswot", "naswot-gelu", "diswot", "kd-cka"}

pytestmark = pytest.mark.parametrize("name", list_spaces())


def light(name: str) -> SearchSpace:
    return light_space(name, num_classes=CLASSES, resolution=32, width_mult=0.25)


@cache
def of_their_kind() -> set[str]:
    """Of the spaces of one class and one class of networks, that of the smallest network."""
    smallest: dict[tuple[type, type], tuple[int, str]] = {}
    for name in list_spaces():
        space = light(name)
        network = space.supernet()
        size = sum(tensor.numel() for tensor in network.parameters())
        kind = (type(space), type(network))
        smallest[kind] = min(smallest.get(kind, (size, name)), (size, name))
    return {name for _, name in smallest.values()}


@pytest.fixture
def space(name: str) -> SearchSpace:
    return light(name)


def test_every_proxy_is_finite_and_the_same_in_company(name: str, space: SearchSpace) -> None:
    lacks = {"bn", "relu", "attention"} - space.supernet().traits
    # The released semantic score compares channel by channel; widths here are anyone's.
    proxies = [
        proxy
        for proxy in list_proxies()
        if (proxy in FEW or name in of_their_kind())
        and not get_proxy(proxy).needs & lacks
        and get_proxy(proxy).images <= IMAGES
        and not proxy.startswith("diswot-released")
        and get_proxy(proxy).unfit(space.modality, False) is None
    ]
    batch, taps = light_batch(space, IMAGES), light_taps(space, IMAGES)
    scorer = Scorer(space, proxies, batch=batch, teacher=taps)
    # Shallow ones: what is done once a layer shows in few.
    archs = sorted(space.sample(8, seed=1), key=lambda arch: space.cost([arch])["depth"][0])[:2]
    together = scorer.table(archs)
    # There is none to compare where a convolution stands between pool and classifier; and a
    # Transformer on small images has fewer tokens than features.
    known = ("class activation maps", "more positions than channels")
    assert all(any(text in why for text in known) for why in together.failures.values())
    assert {"expr", "diswot", "kd-cka"} <= set(together)
    assert ("jacov" in together) == (space.modality == "image")
    # By a scorer of its own: this one may still hold what it has of the second.
    alone = Scorer(space, proxies, batch=batch, teacher=taps).table(archs[1:])
    assert all(np.array_equal(alone[p], together[p][1:], True) for p in proxies)
    for proxy in ("expr", "diswot", *({"snip", "grad_norm", "synflow"} & set(together))):
        assert len(np.unique(together[proxy])) == len({arch.key for arch in archs})


def test_a_lacking_trait_is_refused_by_name(space: SearchSpace) -> None:
    batch = light_batch(space, IMAGES)
    for trait, proxy in {"relu": "naswot", "bn": "signal-growth"}.items():
        if trait in space.supernet().traits:
            assert np.isfinite(Scorer(space, [proxy], batch=batch).table(space.sample(1))[proxy])
        else:
            with pytest.raises(InvalidInputError, match=f"{proxy}.*lack"):
                Scorer(space, [proxy], batch=batch)
