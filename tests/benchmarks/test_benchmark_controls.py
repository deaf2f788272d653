"""The verdict on a score is the controls', and lesser teachers are what they are said to be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import scholarch
from scholarch.benchmarks.controls import CONTROLS, control_row, random_teacher, teachers_of
from scholarch.benchmarks.intervals import resamples
from scholarch.benchmarks.measure import TRAINED
from scholarch.benchmarks.metrics import Column
from scholarch.benchmarks.summary import averaged

N = 40
TRUTH = np.arange(float(N))
DRAWS = resamples([str(i) for i in range(N)], 200, seed=0)


def noisy(noise: float, seed: int) -> Column:
    return TRUTH + np.random.default_rng(seed).normal(0.0, noise, N)


def verdict(trained: list[Column], **lesser: list[Column]) -> tuple[bool, tuple[str, ...]]:
    columns = {TRAINED: trained} | {name: [-c for c in trained] for name in CONTROLS} | lesser
    means = {teacher: averaged(found) for teacher, found in columns.items()}
    row = control_row("score", columns, means, TRUTH, DRAWS)
    assert row.verdict.startswith("teacher-aware" if row.aware else "teacher-free: holds under")
    return row.aware, row.holds


GOOD = [noisy(3.0, seed) for seed in range(3)]


def test_a_score_that_drops_under_every_control_is_aware() -> None:
    assert verdict(GOOD) == (True, ())


@pytest.mark.parametrize("control", CONTROLS)
def test_one_control_that_ranks_as_well_is_enough(control: str) -> None:
    as_good = [noisy(3.0, seed) for seed in range(10, 13)]
    assert verdict(GOOD, **{control: as_good}) == (False, (control,))


def test_a_gap_within_the_seeds_spread_is_none() -> None:
    """A control that is as good with one seed and useless with others."""
    swinging = [TRUTH, -TRUTH, TRUTH]
    rows = {TRAINED: GOOD, "shuffled": swinging}
    row = control_row("score", rows, {k: averaged(v) for k, v in rows.items()}, TRUTH, DRAWS)
    assert row.spread["shuffled"] > 1.0
    assert row.holds == ("shuffled",)


def test_a_gap_within_the_interval_is_none() -> None:
    """One seed has no spread; the candidates have."""
    better, worse = noisy(20.0, 1), noisy(25.0, 2)
    row = control_row(
        "score",
        {TRAINED: [better], "labels": [worse]},
        {TRAINED: better, "labels": worse},
        TRUTH,
        DRAWS,
    )
    assert row.seeds[TRAINED] > row.seeds["labels"]
    low, high = row.margin["labels"]
    assert low < 0.0 < high
    assert row.holds == ("labels",)


def test_a_control_that_tells_nothing_counts_as_dropped() -> None:
    nothing = [np.full(N, np.nan)] * 3
    assert verdict(GOOD, constant=nothing) == (True, ())
    level = [np.ones(N)] * 3
    assert verdict(GOOD, constant=level) == (True, ())
    assert not verdict(nothing)[0]


class TestTeachers:
    def test_without_controls_the_trained_one_alone(self) -> None:
        teacher = scholarch.load_teacher("resnet14-digits")
        batch = scholarch.load_batch("digits", size=6)
        assert list(teachers_of(teacher, batch, 0, controls=False)) == [TRAINED]

    def test_each_is_another(self) -> None:
        teacher = scholarch.load_teacher("resnet14-digits")
        batch = scholarch.load_batch("digits", size=6)
        guides = teachers_of(teacher, batch, 0, controls=True)
        assert list(guides) == [TRAINED, *CONTROLS]
        assert len({guide.fingerprint for guide in guides.values()}) == 5
        taps = {name: guide.taps() for name, guide in guides.items()}
        shapes = {name: found.final_map.shape for name, found in taps.items()}
        assert len(set(shapes.values())) == 1
        assert taps["labels"].logits is not None
        assert torch.equal(taps["labels"].logits.argmax(dim=1), batch.labels)
        assert (taps["constant"].pooled == taps["constant"].pooled[:1]).all()
        trained, shuffled = taps[TRAINED].pooled, taps["shuffled"].pooled
        assert torch.equal(trained.sort(dim=0)[0], shuffled.sort(dim=0)[0])
        assert not torch.equal(trained, shuffled)

    def test_a_random_teacher_is_the_network_untrained(self) -> None:
        teacher = scholarch.load_teacher("resnet14-digits")
        before = teacher.fingerprint
        a, b = random_teacher(teacher, 0), random_teacher(teacher, 1)
        assert teacher.fingerprint == before
        assert not a.trained
        assert a.accuracy is None
        assert a.fingerprint == random_teacher(teacher, 0).fingerprint != b.fingerprint
        for name, weight in a.module.named_parameters():
            if weight.dim() > 1 and weight.numel() > 500:
                expected = (2.0 / weight[0].numel()) ** 0.5
                assert float(weight.std()) == pytest.approx(expected, rel=0.15), name
            elif weight.dim() == 1:
                assert (weight == (0.0 if name.endswith("bias") else 1.0)).all(), name
        batch = scholarch.load_batch("digits", size=6)
        found = a.observe(batch)
        assert found.pooled.isfinite().all()
        assert not torch.equal(found.pooled, teacher.observe(batch).pooled)
