"""What a calibrated search tells of itself, as plain data: ``calibration.json``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from ..outcome import Candidate
from ..result import SearchResult
from .calibrated import UNCERTAINTY, CalibratedRank
from .labels import Label

__all__ = ["changed", "label_rows", "rank_told"]

Floats = npt.NDArray[np.float64]


def label_rows(
    rank: CalibratedRank, picks: Sequence[Candidate], labels: Sequence[Label]
) -> list[dict[str, Any]]:
    """A row for each distilled student, the best of the prior first.

    Places are among all that the first search scored, 1 the best; ``posterior`` and ``sd`` are
    in standard deviations of a normal rank, as ``prior`` is.

    Args:
        rank: calibrated.
        picks: candidates that were distilled.
        labels: of each, in the same order.
    """
    pool = rank.pool
    before = np.array([candidate.score for candidate in pool])
    after, _ = rank.of(pool)
    means, spreads = rank.of(picks)
    priors = rank.prior_of(picks)
    rows = []
    for i, (candidate, label) in enumerate(zip(picks, labels, strict=True)):
        place = next(k for k, one in enumerate(pool) if one.arch.key == candidate.arch.key)
        rows.append(
            {
                "arch": candidate.arch.text,
                "key": candidate.arch.key,
                "macs": candidate.costs["macs"],
                "params": candidate.costs["params"],
                "prior_place": 1 + int((before > before[place]).sum()),
                "posterior_place": 1 + int((after > after[place]).sum()),
                "prior": _known(priors[i]),
                "posterior": _known(means[i]),
                "sd": _known(spreads[i]),
                "accuracy": _known(label.accuracy),
                "seconds": label.seconds,
                "seed": label.seed,
                "failure": label.failure,
            }
        )
    return sorted(rows, key=lambda row: row["prior_place"])


def rank_told(rank: CalibratedRank) -> dict[str, Any]:
    """How far the prior held, by the labels themselves.

    ``tau_prior`` is Kendall's τ of prior and labels; ``tau_left_out`` the same of what each label
    is predicted from all others; ``share`` is how much of the correction leave-one-out left.
    """
    return {
        "tau_prior": _tau(rank.prior_of_labels, rank.accuracies),
        "tau_left_out": _tau(rank.process.left_out, rank.accuracies),
        "share": rank.process.share,
        "pool": len(rank.pool),
    }


def changed(first: SearchResult, second: SearchResult, rank: CalibratedRank) -> dict[str, Any]:
    """What the calibration changed of the front and the pick."""
    old = {candidate.arch.key for candidate in first.front}
    seen = {candidate.arch.key for candidate in first.candidates}
    front = [candidate.arch.key for candidate in second.front]
    means, _ = rank.of(rank.pool)
    pick = second.pick
    return {
        "front": {
            "first": len(old),
            "second": len(front),
            "new": sum(key not in old for key in front),
            "unseen": sum(key not in seen for key in front),
        },
        "tau_ranks": _tau(np.array([candidate.score for candidate in rank.pool]), means),
        "pick": {
            "first": first.pick.arch.text if first.pick else None,
            "second": pick.arch.text if pick else None,
            "same": bool(first.pick and pick and first.pick.arch.key == pick.arch.key),
            "posterior": _known(pick.score) if pick else None,
            "sd": _known(pick.scores[UNCERTAINTY]) if pick else None,
            "distilled": any(pick and one.key == pick.arch.key for one in rank.labels),
        },
        "evaluated": {"first": len(first.candidates), "second": len(second.candidates)},
    }


def _tau(first: Floats, second: Floats) -> float | None:
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return _known(stats.kendalltau(first, second).statistic)


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
