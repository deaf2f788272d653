"""Candidates run together, in bfloat16 or on a GPU score as they do one by one on a CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from scholarch.proxies.batch import Batch
from scholarch.proxies.ensemble import DEFAULT, ENSEMBLES, TEACHER_SIMILARITIES, ensemble_for
from scholarch.proxies.registry import get_proxy, list_proxies
from scholarch.proxies.score_table import ScoreTable
from scholarch.proxies.scoring import TOLERANCE, Scorer
from scholarch.proxies.taps import Taps
from scholarch.proxies.walk import Walk
from scholarch.searchspace.elastic import ElasticNetwork
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space, list_spaces
from scholarch.searchspace.space import SearchSpace
from scholarch.testing.light import light_batch, light_space, light_taps

IMAGES, CLASSES = 8, 4
CELLS = create_space("nasbench201", num_classes=CLASSES, resolution=16, width_mult=0.5)


def make_batch(images: int = IMAGES, side: int = 32) -> Batch:
    pixels = torch.rand(images, 3, side, side, generator=torch.Generator().manual_seed(0))
    return Batch(pixels, torch.arange(images) % CLASSES, CLASSES, (0.5,) * 3, (0.3,) * 3)


def make_taps(images: int) -> Taps:
    generator = torch.Generator().manual_seed(9)
    final = torch.rand(images, 16, 4, 4, generator=generator)
    classifier = torch.randn(CLASSES, 16, generator=generator)
    pooled = final.mean(dim=(2, 3))
    return Taps((final,), final, pooled, pooled @ classifier.T, classifier)


BATCH = make_batch()


def parts_of(space: SearchSpace) -> list[str]:
    """What a search computes by default: the ensemble's parts, and what is shown beside them."""
    return [*ensemble_for(DEFAULT, space.family).parts, *TEACHER_SIMILARITIES]


def assert_alike(table: ScoreTable, expected: ScoreTable) -> None:
    """Equal within the stated tolerance, relative to scores or to how they spread."""
    assert table.failures == expected.failures == {}
    for name, column in expected.items():
        if name == "gradient-stability":  # a few gradients pass through a ReLU at 0 or do not
            np.testing.assert_allclose(table[name], column, atol=1e-4 * max(1.0, np.ptp(column)))
        else:
            np.testing.assert_allclose(table[name], column, rtol=TOLERANCE, atol=2 * TOLERANCE)


@pytest.mark.parametrize("name", list_spaces())
def test_together_is_as_one_by_one(name: str) -> None:
    space = light_space(name, num_classes=CLASSES, resolution=32, width_mult=0.25)
    archs = space.sample(3, seed=1)
    images = space.modality == "image"
    batch = BATCH if images else light_batch(space, IMAGES)
    taps = make_taps(IMAGES) if images else light_taps(space, IMAGES)
    given = {"batch": batch, "teacher": taps, "seed": 3}
    alone = Scorer(space, parts_of(space), **given)
    together = Scorer(space, parts_of(space), **given, group=2)
    assert_alike(together.table(archs), alone.table(archs))


def test_equal_groups_give_equal_bytes() -> None:
    archs = CELLS.sample(6, seed=2)
    scorer = Scorer(CELLS, parts_of(CELLS)[:-2], batch=make_batch(side=16), group=4)
    first, second = scorer.table(archs), scorer.table(archs)
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_groups_run_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    run_group = type(CELLS.supernet()).run_group

    def counted(self: ElasticNetwork, steps: object, x: torch.Tensor, trace: object) -> object:
        calls.append(len(x))
        return run_group(self, steps, x, trace)  # type: ignore[arg-type]

    monkeypatch.setattr(type(CELLS.supernet()), "run_group", counted)
    archs = CELLS.sample(6, seed=2)
    assert len({arch.key for arch in archs}) == 6
    batch = make_batch(side=16)
    Scorer(CELLS, ["expr"], batch=batch, group=6).table(archs)
    steps = len(CELLS.supernet().steps(archs[0]))
    # One call a step, of all six; the stem is shared.
    assert calls == [IMAGES, *[6 * IMAGES] * (steps - 1)]


def test_what_takes_a_candidate_whole_is_scored_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Walk, "together", None)  # not to be called
    batch = make_batch(side=16)
    for name in ("snip", "naswot", "meco"):
        table = Scorer(CELLS, ["expr", name], batch=batch, group=4).table(CELLS.sample(3, seed=2))
        assert not table.failures


def test_one_that_fails_leaves_the_others_their_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    archs = CELLS.sample(4, seed=2)
    names = ["expr", "decorrelation", "gradient-stability", "synflow"]
    batch = make_batch(side=16)
    expected = Scorer(CELLS, names, batch=batch).table(archs)
    scorer = Scorer(CELLS, names, batch=batch, group=4)
    assert scorer._walk is not None
    network = scorer._walk.network
    bad = network.steps(CELLS.decode(CELLS.canonical(CELLS.encode(archs[1:2])))[0])[3]
    run_group = network.run_group

    def out_of_memory(steps: list[object], x: torch.Tensor, trace: object) -> object:
        if bad in steps:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return run_group(steps, x, trace)  # type: ignore[arg-type]

    monkeypatch.setattr(network, "run_group", out_of_memory)
    table = scorer.table(archs)
    assert {row for row, _ in table.failures} == {1}
    assert all("out of memory" in reason for reason in table.failures.values())
    for name in names:
        left, right = np.delete(table[name], 1), np.delete(expected[name], 1)
        np.testing.assert_allclose(left, right, rtol=TOLERANCE, atol=1e-4)


# ---------------------------------------------------------------------- precision


def test_ranks_hold_in_bfloat16() -> None:
    """ρ ≥ .99 over 60 classes of cells, for every proxy that says so."""
    names = [name for name in list_proxies() if get_proxy(name).bfloat16]
    assert set(names) >= {
        part for part in ENSEMBLES[DEFAULT].parts if "forward" in get_proxy(part).needs
    }
    archs = list({arch.key: arch for arch in CELLS.sample(75, seed=4)}.values())[:60]
    assert len(archs) == 60
    given = {"batch": make_batch(16, 16), "teacher": make_taps(16)}
    full = Scorer(CELLS, names, **given).table(archs)
    half = Scorer(CELLS, names, **given, precision="bfloat16").table(archs)
    for name in names:
        rho = stats.spearmanr(full[name], half[name], nan_policy="omit")[0]
        assert np.array_equal(np.isnan(full[name]), np.isnan(half[name]))
        assert rho >= 0.99, name
    assert not np.array_equal(full["expr"], half["expr"])


def test_what_has_not_been_shown_to_hold_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="jacov ranks otherwise in bfloat16.*float32"):
        Scorer(CELLS, ["expr", "jacov"], batch=BATCH, precision="bfloat16")
    with pytest.raises(InvalidInputError, match="'float16'; known: float32, bfloat16"):
        Scorer(CELLS, ["expr"], batch=BATCH, precision="float16")
    Scorer(CELLS, ["macs"], precision="bfloat16")


# ---------------------------------------------------------------------- devices


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "CPU", ""])
def test_unknown_devices_are_named(name: str) -> None:
    with pytest.raises(InvalidInputError, match=f"unknown device '{name}'; known: cpu, cuda"):
        Scorer(CELLS, ["expr"], batch=BATCH, device=name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_is_said() -> None:
    with pytest.raises(InvalidInputError, match="device 'cuda:1': no GPU here .*; take cpu"):
        Scorer(CELLS, ["expr"], batch=BATCH, device="cuda:1")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", list_spaces())
def test_a_gpu_scores_as_a_cpu(name: str) -> None:
    space = light_space(name, num_classes=CLASSES, resolution=32, width_mult=0.25)
    archs = space.sample(5, seed=1)
    images = space.modality == "image"
    batch = BATCH if images else light_batch(space, IMAGES)
    taps = make_taps(IMAGES) if images else light_taps(space, IMAGES)
    given = {"batch": batch, "teacher": taps, "seed": 3}
    expected = Scorer(space, parts_of(space), **given).table(archs)
    scorer = Scorer(space, parts_of(space), **given, device="cuda")
    table = scorer.table(archs)
    for part, column in expected.items():
        np.testing.assert_allclose(table[part], column, rtol=1e-3, atol=1e-3 * np.ptp(column))
    again = scorer.table(archs)
    assert all(np.array_equal(table[part], again[part], equal_nan=True) for part in table)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_every_proxy_takes_a_gpu() -> None:
    names = [n for n in list_proxies() if not get_proxy(n).needs & {"attention"}]
    names = [n for n in names if get_proxy(n).images <= 16 and not n.startswith("diswot-released")]
    given = {"batch": make_batch(16, 16), "teacher": make_taps(16)}
    assert not Scorer(CELLS, names, **given, device="cuda").table(CELLS.sample(2, seed=2)).failures
