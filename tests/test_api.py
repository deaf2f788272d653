"""The Python front door keeps the contract that tools outside rely on."""

from __future__ import annotations

import inspect
import itertools
import math
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import scholarch
from scholarch.proxies import registry
from scholarch.proxies.batch import Batch
from scholarch.proxies.ensemble import DEFAULT, ensemble_for
from scholarch.proxies.probe import Probe
from scholarch.proxies.ranks import log_rank_sum
from scholarch.proxies.registry import Proxy
from scholarch.search.find import REFERENCE_SIZE
from scholarch.searchspace.convnets.resnet_cifar_net import CifarResNet

S0 = "resnet-cifar-s0"


@pytest.fixture(scope="module")
def batch() -> Batch:
    return scholarch.load_batch("digits", size=8, seed=0)


@pytest.fixture
def fragile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy ``test-fragile`` that fails where the first stage has one block."""

    def compute(probe: Probe) -> float:
        return math.nan if probe.arch.choices[0] == 0 else probe.costs["params"]

    proxy = Proxy("test-fragile", compute, "of a test", "a test", frozenset())
    monkeypatch.setitem(registry._PROXIES._items, "test-fragile", proxy)


@pytest.mark.usefixtures("few_references")
def test_the_contract(tmp_path: Path) -> None:
    """The snippet of the README and of the design, on a smaller space."""
    space = scholarch.create_space(S0, num_classes=10)
    assert space.size == 64
    assert type(space.size) is int
    assert S0 in scholarch.list_spaces("resnet-*")
    archs = space.sample(5, seed=0)
    assert archs == space.sample(5, seed=0)
    matrix = space.sample_matrix(5, seed=0)
    assert (matrix.shape, matrix.dtype) == ((5, 3), np.int64)
    arch = space.parse("335")
    assert str(arch) == "335"
    assert hash(arch) == hash(space.parse("335"))

    teacher = scholarch.load_teacher("resnet14-digits")
    batch = scholarch.load_batch("digits", size=8, seed=0)
    images, labels = batch
    assert (images.shape, images.dtype) == ((8, 3, 32, 32), torch.float32)
    assert (labels.shape, labels.dtype) == ((8,), torch.int64)
    table = scholarch.score(
        space, [arch], teacher=teacher, batch=batch, proxies=["diswot", "naswot"], seed=0
    )
    assert list(table) == ["diswot", "naswot"]
    assert all(
        (table[name].shape, table[name].dtype) == ((1,), np.dtype("float64")) for name in table
    )
    assert table.failures == {}

    net = space.supernet()
    with torch.no_grad():
        assert net(images, arch).shape == (8, 10)
        assert net.extract(arch)(images).shape == (8, 10)

    result = scholarch.find_student(
        teacher=teacher,
        space=S0,
        data="digits",
        budget={"macs": 70e6, "params": 600_000},
        searcher="nsga2",
        evaluations=12,
        seed=0,
        batch_size=8,
        out=tmp_path / "run",
    )
    assert result.best.arch in [student.arch for student in result.pareto]
    assert result.best.costs["macs"] <= 70e6
    with torch.no_grad():
        assert result.best.module()(images).shape == (8, 10)
    assert result.report().startswith("<!")
    assert scholarch.SearchResult.load(tmp_path / "run").pareto_csv() == result.pareto_csv()
    result.save(tmp_path / "copy")
    result.best.save_pretrained(tmp_path / "student")


def test_score_without_proxies_is_the_ensemble(batch: Batch) -> None:
    space = scholarch.create_space(S0)
    archs = space.decode(space.enumerate_matrix())
    table = scholarch.score(space, archs[:6], batch=batch)
    assert list(table) == ["ensemble"]
    # S0 is its own reference sample: 64 of 64.
    assert space.size == REFERENCE_SIZE
    ensemble = ensemble_for(DEFAULT, space.family)
    parts = scholarch.score(space, archs, batch=batch, proxies=ensemble.parts)
    expected = log_rank_sum(dict(parts), dict(parts), ensemble.weight_of)
    np.testing.assert_array_equal(table["ensemble"], expected[:6])
    floor = scholarch.score(space, archs[:6], batch=batch, proxies=["macs-expr"])["macs-expr"]
    pair = scholarch.score(space, archs, batch=batch, proxies=["macs", "expr"])
    np.testing.assert_array_equal(floor, log_rank_sum(dict(pair), dict(pair))[:6])
    assert (table["ensemble"] <= 0).all()


@pytest.mark.usefixtures("few_references")
def test_score_does_not_depend_on_its_neighbours(batch: Batch) -> None:
    space = scholarch.create_space("resnet-cifar", width_mult=0.25)
    archs = space.sample(2, seed=3)
    together = scholarch.score(space, archs, batch=batch)
    for i, arch in enumerate(archs):
        alone = scholarch.score(space, [arch], batch=batch)
        assert alone["ensemble"][0] == together["ensemble"][i]


@pytest.mark.usefixtures("few_references")
def test_score_gives_what_a_search_gives(batch: Batch) -> None:
    result = scholarch.find_student(space=S0, data=batch, evaluations=9, seed=4)
    table = scholarch.score(result.space, [c.arch for c in result.candidates], batch=batch, seed=4)
    np.testing.assert_array_equal(table["ensemble"], [c.score for c in result.candidates])


@pytest.mark.usefixtures("few_references")
def test_score_of_nothing(batch: Batch) -> None:
    space = scholarch.create_space(S0)
    for proxies in (None, ["macs"], ["naswot"]):
        table = scholarch.score(space, [], batch=batch, proxies=proxies)
        assert [column.shape for column in table.values()] == [(0,)]


@pytest.mark.usefixtures("few_references")
def test_proxies_as_one_name_or_twice(batch: Batch) -> None:
    space = scholarch.create_space(S0)
    archs = space.sample(3)
    assert list(scholarch.score(space, archs, proxies="macs")) == ["macs"]
    assert list(scholarch.score(space, archs, proxies=["macs", "params", "macs"])) == [
        "macs",
        "params",
    ]
    both = scholarch.score(space, archs, batch=batch, proxies=["naswot", "ensemble"])
    assert list(both) == ["naswot", "ensemble"]
    result = scholarch.find_student(space=S0, data=batch, proxies="params", evaluations=3)
    assert result.settings.score["parts"] == ["params"]
    assert "--proxy params" in result.info["command"]


@pytest.mark.usefixtures("fragile")
def test_failures_are_nan_with_a_reason(batch: Batch) -> None:
    space = scholarch.create_space(S0)
    archs = [space.parse(text) for text in ("111", "311", "177")]
    table = scholarch.score(space, archs, batch=batch, proxies=["test-fragile", "macs"])
    assert np.isnan(table["test-fragile"]).tolist() == [True, False, True]
    assert np.isfinite(table["macs"]).all()
    reason = "the value is nan"
    assert table.failures == {(0, "test-fragile"): reason, (2, "test-fragile"): reason}


@pytest.mark.usefixtures("fragile")
def test_an_ensemble_fails_with_its_part(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    from scholarch.proxies.ensemble import ENSEMBLES, Ensemble

    frail = Ensemble("test-frail", ("macs", "test-fragile"), 1, "of a test")
    monkeypatch.setitem(ENSEMBLES._items, "test-frail", frail)
    space = scholarch.create_space(S0)
    archs = [space.parse("111"), space.parse("311")]
    table = scholarch.score(space, archs, proxies=["test-frail"])
    assert np.isnan(table["test-frail"]).tolist() == [True, False]
    assert table.failures == {(0, "test-frail"): "test-fragile: the value is nan"}


def test_a_part_that_always_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    from scholarch.proxies.ensemble import ENSEMBLES, Ensemble

    proxy = Proxy("test-nan", lambda probe: math.nan, "of a test", "a test", frozenset())
    monkeypatch.setitem(registry._PROXIES._items, "test-nan", proxy)
    frail = Ensemble("test-frail", ("macs", "test-nan"), 1, "of a test")
    monkeypatch.setitem(ENSEMBLES._items, "test-frail", frail)
    space = scholarch.create_space(S0)
    with pytest.raises(scholarch.ScholarchError, match=r"test-nan failed on all 64 .*value is nan"):
        scholarch.score(space, space.sample(2), proxies=["test-frail"])


def test_a_batch_as_a_pair_of_tensors(batch: Batch) -> None:
    space = scholarch.create_space(S0)
    archs = space.sample(2)
    images, labels = batch
    table = scholarch.score(space, archs, batch=(images, labels), proxies=["naswot", "grad_norm"])
    assert np.isfinite(table["naswot"]).all()
    with pytest.raises(scholarch.InvalidInputError, match="batch images"):
        scholarch.score(space, archs, batch=(images * 255, labels), proxies=["naswot"])
    with pytest.raises(scholarch.InvalidInputError, match="labels span"):
        scholarch.score(space, archs, batch=(images, labels + 10), proxies=["naswot"])


@pytest.mark.usefixtures("few_references")
@pytest.mark.parametrize("kind", ["module", "name", "teacher"])
def test_teachers_of_every_kind(kind: str, batch: Batch) -> None:
    module: Any = CifarResNet((1, 1, 1), seed=3)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    teachers = {
        "module": module,
        "name": "resnet14-digits",
        "teacher": scholarch.load_teacher(module),
    }
    space = scholarch.create_space(S0)
    table = scholarch.score(
        space, space.sample(2), batch=batch, teacher=teachers[kind], proxies=["diswot"]
    )
    assert np.isfinite(table["diswot"]).all()
    result = scholarch.find_student(
        space=S0, data=batch, teacher=teachers[kind], proxies=["diswot"], evaluations=2
    )
    assert result.settings.teacher is not None
    assert {"diswot-semantic", "diswot-relation"} <= result.best.scores.keys()
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert module.training


def test_needs_that_are_not_met(batch: Batch) -> None:
    space = scholarch.create_space(S0)
    archs = space.sample(2)
    refused = pytest.raises(scholarch.InvalidInputError, match="need a batch of inputs")
    with refused:
        scholarch.score(space, archs, proxies=["naswot"])
    with pytest.raises(scholarch.InvalidInputError, match="need a teacher"):
        scholarch.score(space, archs, batch=batch, proxies=["diswot"])
    with pytest.raises(scholarch.InvalidInputError, match="no cost 'latency:cpu' to bound"):
        scholarch.find_student(space=S0, data=batch, budget={"latency:cpu": 3.0})
    with pytest.raises(scholarch.InvalidInputError, match="belongs to space"):
        scholarch.score(scholarch.create_space("resnet-cifar"), archs, proxies=["macs"])
    mean, std = (0.5,) * 3, (0.3,) * 3
    noise = Batch(batch.images, batch.labels, 10, mean, std, "noise")
    with pytest.raises(scholarch.InvalidInputError, match="no teacher for 'noise'"):
        scholarch.find_student(space=S0, data=noise, evaluations=3)
    with pytest.raises(scholarch.InvalidInputError, match="has no feature map|no parameters"):
        scholarch.find_student(space=S0, data=batch, teacher=nn.Flatten(), evaluations=3)


def test_data_as_tensors(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(60, 3, 16, 16, generator=generator)
    result = scholarch.find_student(
        space=S0,
        data=(images, torch.arange(60) % 3),
        proxies=["naswot"],
        evaluations=3,
        batch_size=8,
    )
    assert result.space.num_classes == 3
    assert result.space.resolution == 16
    assert result.settings.teacher is None


def test_the_command_of_a_search_from_python(batch: Batch) -> None:
    result = scholarch.find_student(
        space=S0, data=batch, budget={"macs": "70M"}, proxies=["params"], evaluations=3, seed=5
    )
    words = shlex.split(result.info["command"])
    for pair in (
        ("--space", S0),
        ("--data", "digits"),
        ("--max-macs", "70000000"),
        ("--proxy", "params"),
        ("--evaluations", "3"),
        ("--seed", "5"),
        ("--batch-size", "8"),
    ):
        assert pair in itertools.pairwise(words)


def test_every_public_name_can_be_had_and_is_documented() -> None:
    for name in scholarch.__all__:
        value = getattr(scholarch, name)
        assert name == "__version__" or inspect.getdoc(value), name


def test_costs_at_another_resolution_are_said() -> None:
    result = scholarch.find_student(
        space=scholarch.create_space("resnet-cifar-s0", resolution=64),
        data="digits",
        proxies=["macs"],
        evaluations=2,
        batch_size=4,
    )
    assert any("quoted at 64×64 pixels" in note for note in result.notes)


def test_a_space_derived_from_the_teacher() -> None:
    result = scholarch.find_student(
        data="digits", proxies=["params"], evaluations=3, batch_size=4, budget={"params": 1e5}
    )
    assert result.space.name == "derived"
    assert result.best.costs["params"] <= 1e5
    tail = scholarch.create_space(**result.space.spec())
    assert tail.size == result.space.size
    generator = torch.Generator().manual_seed(0)
    data = (torch.rand(80, 3, 32, 32, generator=generator), torch.arange(80) % 2)
    with pytest.raises(scholarch.InvalidInputError, match="without a space one is derived"):
        scholarch.find_student(data=data, proxies=["params"], evaluations=3, batch_size=4)
