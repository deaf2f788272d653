"""What every registered proxy has to do; a new proxy is tested here by being registered."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from scholarch.proxies import registry
from scholarch.proxies.batch import Batch
from scholarch.proxies.registry import NEEDS, get_proxy, list_proxies, register_proxy
from scholarch.proxies.scoring import Scorer
from scholarch.proxies.taps import Taps
from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.convnets.resnet_cifar_net import CifarResNet, ElasticCifarResNet
from scholarch.searchspace.errors import InvalidInputError, UnknownNameError
from scholarch.searchspace.space import create_space

SPACE = create_space("resnet-cifar-s0", num_classes=4, resolution=16)
ELASTIC = create_space("resnet-cifar", num_classes=4, resolution=16)


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


def scorer(*names: str, seed: int = 0, batch: Batch | None = BATCH) -> Scorer:
    return Scorer(SPACE, names, batch=batch, teacher=TAPS, seed=seed)


@pytest.mark.parametrize("name", list_proxies())
class TestEveryProxy:
    def test_declares_itself(self, name: str) -> None:
        proxy = get_proxy(name)
        assert proxy.needs <= set(NEEDS)
        assert proxy.direction in (1, -1)
        assert proxy.summary
        assert proxy.source

    def test_is_finite_and_differs_between_candidates(self, name: str) -> None:
        archs = [SPACE.parse(text) for text in ("111", "373", "777")]
        table = scorer(name).table(archs)
        assert table[name].dtype == np.float64
        assert np.isfinite(table[name]).all()
        assert not table.failures
        assert len(set(table[name].tolist())) == 3

    def test_depends_on_nothing_but_candidate_seed_and_batch(self, name: str) -> None:
        archs = [SPACE.parse(text) for text in ("111", "131", "133", "533", "777")]
        together = scorer(name).table(archs)[name]
        backwards = scorer(name).table(archs[::-1])[name][::-1]
        alone = np.concatenate([scorer(name).table([arch])[name] for arch in archs])
        assert np.array_equal(together, backwards)
        # Batched equals single to the bit for one proxy; with others to rounding, below.
        assert np.array_equal(together, alone)
        assert np.array_equal(together, scorer(name).table(archs)[name])

    def test_company_of_other_proxies_changes_nothing(self, name: str) -> None:
        archs = [SPACE.parse(text) for text in ("131", "535")]
        alone = scorer(name).table(archs)[name]
        everything = scorer(*list_proxies()).table(archs)[name]
        np.testing.assert_allclose(everything, alone, rtol=1e-6)

    def test_a_seed_is_another_draw(self, name: str) -> None:
        if get_proxy(name).source == "baseline":
            pytest.skip("sizes know no seed")
        archs = [SPACE.parse("333")]
        assert scorer(name).table(archs)[name] != scorer(name, seed=1).table(archs)[name]

    def test_leaves_the_network_as_it_was(self, name: str) -> None:
        if "forward" not in get_proxy(name).needs:
            pytest.skip("sizes need no network")
        used = scorer(name)
        network = used._network
        assert network is not None
        before = {key: value.clone() for key, value in network.state_dict().items()}
        first = used.table([SPACE.parse("333")])[name]
        assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
        assert np.array_equal(first, used.table([SPACE.parse("333")])[name])

    def test_refuses_what_it_lacks(self, name: str) -> None:
        needs = get_proxy(name).needs
        if "forward" in needs:
            with pytest.raises(InvalidInputError, match=name):
                scorer(name, batch=None)
        if "teacher" in needs:
            with pytest.raises(InvalidInputError, match="need a teacher"):
                Scorer(SPACE, [name], batch=BATCH)
        for trait in needs & {"bn", "relu"}:
            with pytest.raises(InvalidInputError, match="lack"):
                Scorer(_without(trait), [name], batch=BATCH, teacher=TAPS)


def _without(trait: str) -> object:
    class Plain(ElasticCifarResNet):
        traits = ElasticCifarResNet.traits - {trait}

    space = create_space("resnet-cifar-s0", num_classes=4, resolution=16)
    made = space.supernet

    def supernet(**options: object) -> ElasticCifarResNet:
        network = made(**options)
        network.__class__ = Plain
        return network

    space.supernet = supernet
    return space


def test_failures_are_recorded_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, compute in (
        ("test-nan", lambda probe: math.nan),
        ("test-overflow", lambda probe: math.exp(1e9)),
        ("test-crash", lambda probe: [][1]),
        ("test-memory", _exhausted),
    ):
        register_proxy(name, source="a test")(compute)
    try:
        archs = [SPACE.parse("111"), SPACE.parse("333")]
        names = ["params", "test-nan", "test-overflow", "test-crash", "test-memory"]
        table = scorer(*names).table(archs)
        assert np.isfinite(table["params"]).all()
        for name in names[1:]:
            assert np.isnan(table[name]).all()
        assert table.failures[0, "test-nan"] == "the value is nan"
        assert table.failures[1, "test-overflow"].startswith("OverflowError")
        assert table.failures[0, "test-crash"].startswith("IndexError")
        assert table.failures[0, "test-memory"].startswith("out of memory")
    finally:
        for name in ("test-nan", "test-overflow", "test-crash", "test-memory"):
            del registry._PROXIES._items[name]


def _exhausted(probe: object) -> float:
    raise MemoryError


def test_a_forward_that_fails_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    run_step = ElasticCifarResNet.run_step

    def failing(self: ElasticCifarResNet, step: object, x: object, trace: object) -> object:
        if getattr(step, "args", ())[:2] == (1, 2):
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 GB")
        return run_step(self, step, x, trace)

    monkeypatch.setattr(ElasticCifarResNet, "run_step", failing)
    table = scorer("expr").table([SPACE.parse(text) for text in ("111", "131", "113")])
    assert np.isnan(table["expr"]).tolist() == [False, True, False]
    assert table.failures[1, "expr"].startswith("out of memory")


def test_a_shared_key_is_scored_once() -> None:
    calls: list[Architecture] = []
    register_proxy("test-calls", source="a test")(lambda p: float(calls.append(p.arch) or 1))
    try:
        arch = SPACE.parse("111")
        assert scorer("test-calls").table([arch, arch])["test-calls"].tolist() == [1, 1]
        assert len(calls) == 1
    finally:
        del registry._PROXIES._items["test-calls"]


def test_direction_orients() -> None:
    register_proxy("test-low", source="a test", direction=-1)(lambda probe: 3.0)
    try:
        assert scorer("test-low").table([SPACE.parse("111")])["test-low"].tolist() == [-3.0]
    finally:
        del registry._PROXIES._items["test-low"]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"needs": {"magic"}}, "needs magic"), ({"direction": 0}, "direction 0")],
)
def test_wrong_registrations_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        register_proxy("test-wrong", source="a test", **options)
    with pytest.raises(InvalidInputError, match="already registered"):
        register_proxy("params", source="a test")(lambda probe: 1.0)


def test_unknown_names_and_misfits_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean naswot"):
        scorer("naswott")
    three = dataclasses.replace(BATCH, num_classes=5)
    with pytest.raises(InvalidInputError, match="5 classes"):
        scorer("expr", batch=three)
    grey = Batch(BATCH.images[:, :1], BATCH.labels, 4, (0.5,), (0.3,))
    with pytest.raises(InvalidInputError, match="1 channels"):
        scorer("expr", batch=grey)
    with pytest.raises(InvalidInputError, match="the teacher saw 6 images"):
        Scorer(SPACE, ["diswot"], batch=BATCH, teacher=make_taps(images=6))
    with pytest.raises(InvalidInputError, match="tells 9 classes apart, the students 4"):
        Scorer(SPACE, ["diswot"], batch=BATCH, teacher=make_taps(classes=9))
    Scorer(SPACE, ["diswot-relation"], batch=BATCH, teacher=make_taps(classes=9))


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_scores_do_not_depend_on_the_callers_threads(threads: None) -> None:
    arch = [SPACE.parse("373")]
    names = ["expr", "snip", "diswot"]
    one = scorer(*names).table(arch)
    torch.set_num_threads(2)
    two = scorer(*names).table(arch)
    assert torch.get_num_threads() == 2
    assert all(np.array_equal(one[name], two[name]) for name in names)


def test_elastic_widths_are_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where teacher and students differ in channels."""
    names = [n for n in list_proxies() if not n.startswith("diswot-released")]
    table = Scorer(ELASTIC, names, batch=BATCH, teacher=TAPS, seed=0).table(ELASTIC.sample(4, 0))
    assert not table.failures
    assert isinstance(ELASTIC.build(ELASTIC.sample(1, 0)[0]), CifarResNet)
