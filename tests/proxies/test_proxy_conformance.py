"""Every registered proxy passes the shipped suite; and what scoring does with odd ones."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from scholarch.proxies import registry
from scholarch.proxies.batch import Batch
from scholarch.proxies.registry import get_proxy, list_proxies, register_proxy
from scholarch.proxies.scoring import Scorer
from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.convnets.resnet_cifar_net import CifarResNet, ElasticCifarResNet
from scholarch.searchspace.errors import InvalidInputError, UnknownNameError
from scholarch.testing.proxy_suite import (
    BATCH,
    ELASTIC,
    SPACE,
    SPACES,
    TAPS,
    TRAITS,
    TestEveryProxy,  # noqa: F401 (collected here)
    make_batch,
    make_taps,
    scorer,
)


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
    names = [
        name
        for name in list_proxies()
        if not name.startswith("diswot-released")
        and get_proxy(name).needs & TRAITS <= SPACES[SPACE]
        and get_proxy(name).images <= len(BATCH)
    ]
    table = Scorer(ELASTIC, names, batch=BATCH, teacher=TAPS, seed=0).table(ELASTIC.sample(4, 0))
    assert not table.failures
    assert isinstance(ELASTIC.build(ELASTIC.sample(1, 0)[0]), CifarResNet)


def test_images_that_are_not_square_are_refused() -> None:
    wide = dataclasses.replace(BATCH, images=BATCH.images[:, :, :12])
    with pytest.raises(InvalidInputError, match="12×16 pixels"):
        scorer("expr", batch=wide)


def test_too_few_images_are_refused_before_any_scoring() -> None:
    seven = make_batch(images=7)
    register_proxy("test-eight", source="a test", needs={"forward"}, images=8)(_exhausted)
    register_proxy("test-nine", source="a test", needs={"forward"}, images=9)(_exhausted)
    try:
        # The most demanding is named, so that one larger batch serves all; the rest is not.
        with pytest.raises(InvalidInputError) as refused:
            Scorer(SPACE, ["expr", "test-eight", "test-nine"], batch=seven)
        assert str(refused.value) == (
            "proxy 'test-nine' needs at least 9 images, the batch has 7; take 9 or more"
            " (--batch-size, of a benchmark --size), or leave it out"
        )
        with pytest.raises(InvalidInputError, match="'test-eight' needs at least 8 images"):
            Scorer(SPACE, ["test-eight"], batch=seven)
        Scorer(SPACE, ["test-eight"], batch=BATCH)  # as many as it needs
    finally:
        for name in ("test-eight", "test-nine"):
            del registry._PROXIES._items[name]
