"""What every registered proxy has to do."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
import torch

from scholarch.proxies.batch import Batch
from scholarch.proxies.registry import NEEDS, get_proxy, list_proxies
from scholarch.proxies.scoring import Scorer
from scholarch.proxies.taps import Taps
from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.convnets.resnet_cifar import CifarResNetSpace
from scholarch.searchspace.convnets.resnet_cifar_net import ElasticCifarResNet
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.space import SearchSpace
from scholarch.testing import registered

SPACE = create_space("resnet-cifar-s0", num_classes=4, resolution=16)
ELASTIC = create_space("resnet-cifar", num_classes=4, resolution=16)
TRANSFORMER = create_space(
    "vitbench-autoformer", num_classes=4, resolution=16, width_mult=0.125, patch_size=4
)
TRAITS = frozenset({"bn", "relu", "attention"})


def make_batch(seed: int = 0, images: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        torch.rand(images, 3, 16, 16, generator=generator),
        torch.arange(images) % 4,
        4,
        (0.5, 0.5, 0.5),
        (0.3, 0.3, 0.3),
    )


def make_taps(images: int = 8, classes: int = 4, channels: int = 64) -> Taps:
    generator = torch.Generator().manual_seed(9)
    final = torch.rand(images, channels, 4, 4, generator=generator)
    classifier = torch.randn(classes, channels, generator=generator)
    pooled = final.mean(dim=(2, 3))
    return Taps((final,), final, pooled, pooled @ classifier.T, classifier)


BATCH, TAPS = make_batch(), make_taps()


#: Where proxies are tested: the first whose networks have what a proxy needs.
SPACES = {space: space.supernet().traits for space in (SPACE, TRANSFORMER)}


def space_of(name: str) -> SearchSpace:
    needs = get_proxy(name).needs & TRAITS
    return next((space for space, traits in SPACES.items() if needs <= traits), SPACE)


def archs_of(space: SearchSpace) -> list[Architecture]:
    if space is SPACE:
        return [space.parse(text) for text in ("111", "333", "777", "131", "133", "533", "373")]
    return space.sample(7, seed=1)


@cache
def data_for(images: int) -> tuple[Batch, Taps]:
    """The common batch and teacher, with more images where a proxy needs more."""
    if images <= len(BATCH):
        return BATCH, TAPS
    return make_batch(images=images), make_taps(images=images)


def scorer(*names: str, seed: int = 0, batch: Batch | None = BATCH) -> Scorer:
    """Of the first name's space; the others have to be at home there."""
    enough, taps = data_for(max(get_proxy(name).images for name in names))
    batch = enough if batch is BATCH else batch
    return Scorer(space_of(names[0]), names, batch=batch, teacher=taps, seed=seed)


@cache
def in_company(space: SearchSpace, images: int) -> dict[str, npt.NDArray[np.float64]]:
    """Columns of all proxies that are tested in one space on one batch, computed together."""
    names = [
        name
        for name in list_proxies()
        if SPACES[space] >= get_proxy(name).needs & TRAITS and get_proxy(name).images <= images
    ]
    batch, taps = data_for(images)
    archs = archs_of(space)[2:4]
    return dict(Scorer(space, names, batch=batch, teacher=taps).table(archs))


@pytest.mark.parametrize("name", registered("proxy"))
class TestEveryProxy:
    def test_declares_itself(self, name: str) -> None:
        proxy = get_proxy(name)
        assert proxy.needs <= set(NEEDS)
        assert proxy.direction in (1, -1)
        assert proxy.images >= 2
        assert proxy.summary
        assert proxy.source

    def test_is_finite_and_differs_between_candidates(self, name: str) -> None:
        archs = archs_of(space_of(name))[:3]
        table = scorer(name).table(archs)
        assert table[name].dtype == np.float64
        assert not table.failures
        assert np.isfinite(table[name]).all()
        assert len(set(table[name].tolist())) == 3

    def test_depends_on_nothing_but_candidate_seed_and_batch(self, name: str) -> None:
        # Small ones, the last two with a common beginning, as neighbours share their work.
        first, _, _, *others = archs_of(space_of(name))
        archs = [first, *others[:2]]
        together = scorer(name).table(archs)[name]
        backwards = scorer(name).table(archs[::-1])[name][::-1]
        # Each by a scorer of its own: what is drawn anew, or kept, would show here as well.
        alone = np.concatenate([scorer(name).table([arch])[name] for arch in archs])
        assert np.array_equal(together, backwards)
        # Batched equals single to the bit for one proxy; with others to rounding, below.
        assert np.array_equal(together, alone)

    def test_company_of_other_proxies_changes_nothing(self, name: str) -> None:
        space = space_of(name)
        alone = scorer(name).table(archs_of(space)[2:4])[name]
        everything = in_company(space, max(get_proxy(name).images, len(BATCH)))[name]
        np.testing.assert_allclose(everything, alone, rtol=1e-6)

    def test_a_seed_is_another_draw(self, name: str) -> None:
        proxy = get_proxy(name)
        if proxy.source == "baseline" or "forward" not in proxy.needs:
            pytest.skip("sizes know no seed")
        archs = archs_of(space_of(name))[1:2]
        assert scorer(name).table(archs)[name] != scorer(name, seed=1).table(archs)[name]

    def test_leaves_the_network_as_it_was(self, name: str) -> None:
        if "forward" not in get_proxy(name).needs:
            pytest.skip("sizes need no network")
        used = scorer(name)
        network = used.network
        assert network is not None
        archs = archs_of(space_of(name))[1:2]
        before = {key: value.clone() for key, value in network.state_dict().items()}
        first = used.table(archs)[name]
        assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
        assert np.array_equal(first, used.table(archs)[name])

    def test_refuses_what_it_lacks(self, name: str) -> None:
        needs = get_proxy(name).needs
        if "forward" in needs:
            with pytest.raises(InvalidInputError, match=name):
                scorer(name, batch=None)
        if "teacher" in needs:
            with pytest.raises(InvalidInputError, match="need a teacher"):
                Scorer(space_of(name), [name], batch=BATCH)
        if (images := get_proxy(name).images) > 2:
            few = make_batch(images=images - 1)
            with pytest.raises(InvalidInputError, match=f"at least {images} images"):
                Scorer(space_of(name), [name], batch=few, teacher=make_taps(images=images - 1))
        for trait in needs & TRAITS:
            with pytest.raises(InvalidInputError, match="lack"):
                Scorer(_without(trait), [name], batch=BATCH, teacher=TAPS)


def _without(trait: str) -> SearchSpace:
    if trait not in SPACES[SPACE]:
        return SPACE

    class Plain(ElasticCifarResNet):
        traits = ElasticCifarResNet.traits - {trait}

    class Lacking(CifarResNetSpace):
        def supernet(self, *, seed: int = 0, init: str = "he") -> ElasticCifarResNet:
            network = super().supernet(seed=seed, init=init)
            network.__class__ = Plain
            return network

    space = create_space("resnet-cifar-s0", num_classes=4, resolution=16)
    space.__class__ = Lacking
    return space
