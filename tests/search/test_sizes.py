"""Size axes beside the score: places, Kendall's τ, and the words for orders that disagree."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import scholarch
from scholarch.search.report import render_report
from scholarch.search.report_data import ReportCandidate, ReportData
from scholarch.search.sizes import agreement, percentiles, size_note
from scholarch.search.summary import report_data


@dataclass(frozen=True)
class Made:
    score: float
    costs: Mapping[str, float] = field(default_factory=dict)


def opposed(count: int = 40) -> list[Made]:
    """Score and params rise together while MACs fall."""
    return [Made(float(i), {"params": i + 1.0, "macs": 100.0 - i}) for i in range(count)]


def drawn(count: int = 60, seed: int = 0) -> list[Made]:
    rng = np.random.default_rng(seed)
    columns = rng.integers(0, 30, (count, 4)).astype(float)
    return [Made(s, {"params": p, "macs": m, "depth": d}) for s, p, m, d in columns.tolist()]


def report(candidates: list[Made]) -> str:
    rows = [
        ReportCandidate(i, f"a{i}", f"{i:016x}", c.score, dict(c.costs), {}, i == 0, None)
        for i, c in enumerate(candidates)
    ]
    html = render_report(ReportData("made", "x", {}, rows, 0, [], {}, {}, "", [], {}))
    return html.replace("\N{NO-BREAK SPACE}", " ")


# ---------------------------------------------------------------------- agreement


def test_sizes_that_disagree_are_named() -> None:
    candidates = opposed()
    ranks = agreement(candidates)
    assert ranks is not None
    assert ranks.names == ["score", "params", "macs"]
    assert np.allclose(ranks.tau, [[1, 1, -1], [1, 1, -1], [-1, -1, 1]])
    assert ranks.ranks["score"][-1] == ranks.ranks["macs"][0] == 1
    assert len(ranks.warnings) == 2
    assert "100 of 100 pairs" in ranks.warnings[0]
    assert ranks.warnings[1].startswith("Parameters and MACs order these candidates differently")
    assert ranks.with_score == "params 1.00, MACs −1.00"
    few = agreement(candidates[:5])
    assert few is not None
    assert not few.enough
    assert few.warnings == []
    assert few.low == []
    assert agreement([]) is None


def test_tau_counts_pairs() -> None:
    """Against a plain loop over all pairs, ties left out as tau-b does."""
    candidates = drawn()
    ranks = agreement(candidates)
    assert ranks is not None
    for i, axis in enumerate(("params", "macs", "depth"), start=1):
        concordant, ties = 0, [0, 0]
        for a, b in combinations(candidates, 2):
            one, two = np.sign(a.score - b.score), np.sign(a.costs[axis] - b.costs[axis])
            concordant += one * two
            ties = [ties[0] + (one != 0), ties[1] + (two != 0)]
        assert ranks.tau[0][i] == pytest.approx(concordant / math.sqrt(ties[0] * ties[1]))


@pytest.mark.parametrize(("reversed_pairs", "warned"), [(11, False), (12, True)])
def test_the_threshold(reversed_pairs: int, warned: bool) -> None:
    """τ = 1 − 2 · reversed / 45 over 10 candidates: .511 and .467."""
    order = list(range(10))
    swaps = 0
    while swaps < reversed_pairs:  # each swap of neighbours reverses one pair
        i = next(i for i in range(9) if order[i] < order[i + 1])
        order[i], order[i + 1] = order[i + 1], order[i]
        swaps += 1
    made = [Made(float(i), {"params": float(i), "macs": float(order[i])}) for i in range(10)]
    ranks = agreement(made)
    assert ranks is not None
    assert ranks.tau[1][2] == pytest.approx(1 - 2 * reversed_pairs / 45)
    assert bool(ranks.warnings) is warned
    assert (size_note(made) is not None) is warned


def test_a_constant_size_is_no_disagreement() -> None:
    made = [Made(float(i), {"params": float(i), "depth": 7.0}) for i in range(20)]
    ranks = agreement(made)
    assert ranks is not None
    assert math.isnan(ranks.tau[0][2])
    assert ranks.warnings == []
    assert ranks.with_score == "params 1.00, depth –"
    assert size_note(made) is None


# ---------------------------------------------------------------------- places


def test_places_are_shares_of_the_others() -> None:
    made = [Made(0.0, {"params": p, "macs": 5.0}) for p in (30.0, 10.0, 20.0, 20.0, 40.0)]
    made[1] = Made(math.nan, made[1].costs)  # failed, yet it has a size
    found = percentiles(made)
    assert found["params"] == [75.0, 0.0, 37.5, 37.5, 100.0]
    assert found["macs"] == [50.0] * 5
    assert all(math.isnan(place) for place in found["depth"])
    assert all(math.isnan(percentiles(made[:1])[axis][0]) for axis in found)


# ---------------------------------------------------------------------- where it is shown


def test_the_report_shows_places_and_warns() -> None:
    html = report(opposed())
    assert "larger than 0 % by params, 100 % by MACs of all evaluated" in html
    assert '<small class="place">100 %</small>' in html
    assert "Parameters and MACs order these candidates differently" in html
    assert "deserve a second look" in html
    assert "τ of the score with each size: params 1.00, MACs −1.00." in html
    agreeing = report([Made(float(i), {"params": i + 1.0, "macs": i + 2.0}) for i in range(40)])
    assert "order these candidates differently" not in agreeing
    assert "deserve a second look" not in agreeing
    assert "τ of the score with each size: params 1.00, MACs 1.00." in agreeing


def test_the_note_is_about_sizes_alone() -> None:
    note = size_note(opposed())
    assert note is not None
    assert "parameters and MACs (τ = −1.00)" in note
    assert "score and" not in note
    lonely = [Made(float(-i), {"params": i + 1.0, "macs": i + 1.0}) for i in range(20)]
    assert size_note(lonely) is None
    failed = [Made(math.nan, c.costs) for c in opposed()]
    assert size_note(failed) is None


def test_a_search_notes_it(tmp_path: Path) -> None:
    """S0's sizes grow together; under a budget of MACs, widths are traded for depth."""
    batch = scholarch.load_batch("digits", size=2)
    agreeing = scholarch.find_student(
        space="resnet-cifar-s0", data=batch, proxies="params", evaluations=20, searcher="random"
    )
    assert not any("Sizes disagree" in note for note in agreeing.notes)
    traded = scholarch.find_student(
        space="resnet-cifar",
        data=batch,
        proxies="depth",
        evaluations=20,
        searcher="random",
        budget={"macs": 20e6},
        out=tmp_path / "run",
    )
    note = size_note(traded.candidates)
    assert note is not None
    assert traded.notes[-1] == note
    assert scholarch.SearchResult.load(tmp_path / "run").notes == traded.notes
    assert note in report_data(traded).notes
