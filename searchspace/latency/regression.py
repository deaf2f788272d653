"""Additive models fitted to a few measurements: which groups of columns matter, and how much.

A Bayesian linear regression with one prior variance a group (automatic relevance determination,
MacKay 1992; Bishop, PRML 2006, §3.5 and §7.2.1), Student's t as noise and weights of at
least zero, since nothing makes a network faster by being added. Several sets of groups are
fitted and averaged by their evidence (Hoeting et al., Statistical Science 1999).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize, nnls
from scipy.special import softmax

from .features import Group

__all__ = ["Average", "average", "fit_groups"]

Floats = npt.NDArray[np.float64]

NOISE = 0.05
"""Expected noise, of a latency of 1."""

LOG_SPREAD = (1.5, 1.0)
"""Standard deviation of the logarithm of a weight's size and of the noise, a priori."""

FREEDOM = 4.0
"""Degrees of freedom of Student's t; networks that were timed badly count for less."""

ROUNDS = 3
HETEROSCEDASTIC = 0.5
"""The noise grows as this power of the latency: between that of a count and that of a ratio."""

_BOUNDS = (np.log(1e-3), np.log(30.0))
_NOISE_BOUNDS = (np.log(3e-3), np.log(3.0))


@dataclass(frozen=True, slots=True, eq=False)
class Average:
    """Models averaged.

    Attributes:
        weights: of all F columns, in the unit of the latencies.
        chances: of each model, summing to 1.
    """

    weights: Floats
    chances: Floats


@dataclass(frozen=True, slots=True, eq=False)
class _Moments:
    """A weighted sample's second moments: all that the evidence asks for.

    Attributes:
        gram: XᵀWX, ``[F, F]``.
        cross: XᵀWt, ``[F]``.
        square: tᵀWt.
        log_weights: Σ log W.
        n: rows.
    """

    gram: Floats
    cross: Floats
    square: float
    log_weights: float
    n: int

    def posterior(self, sizes: Floats, noise: float) -> tuple[Floats, Floats, Floats]:
        """Whitened: Cholesky factor L of I + ΛGΛ/σ², ΛXᵀWt/σ², and the weights' mean."""
        inner = np.eye(len(sizes)) + self.gram * np.outer(sizes, sizes) / noise**2
        factor = cholesky(inner, lower=True)
        target = sizes * self.cross / noise**2
        return factor, target, cho_solve((factor, True), target)

    def loss(self, logs: Floats, groups: npt.NDArray[np.int64]) -> tuple[float, Floats]:
        """Minus the log evidence (PRML, eq. 3.86, negated), and its gradient.

        Args:
            logs: logarithms of each group's size, then of the noise.
            groups: of each column, ``[F]``.
        """
        sizes, noise = np.exp(logs[:-1])[groups], float(np.exp(logs[-1]))
        factor, target, white = self.posterior(sizes, noise)
        loss = (
            self.n * logs[-1]
            - 0.5 * self.log_weights
            + np.log(np.diag(factor)).sum()
            + 0.5 * (self.square / noise**2 - target @ white)
        )
        inverse = solve_triangular(factor, np.eye(len(sizes)), lower=True)
        variance = (inverse**2).sum(axis=0)  # of the whitened weights
        mean = sizes * white
        residual = self.square - 2.0 * self.cross @ mean + mean @ self.gram @ mean
        by_group = np.bincount(groups, 1.0 - variance - white**2, minlength=len(logs) - 1)
        by_noise = self.n - (1.0 - variance).sum() - residual / noise**2
        return float(loss), np.append(by_group, by_noise)


def fit_groups(columns: Floats, latencies: Floats, groups: Sequence[Group]) -> tuple[Floats, float]:
    """Weights of all columns, zero outside ``groups``, and minus the model's log evidence.

    Args:
        columns: ``[n, F]``, at least zero.
        latencies: ``[n]``, positive, about 1.
        groups: that the model has.
    """
    used = np.concatenate([np.arange(group.columns.start, group.columns.stop) for group in groups])
    lengths = [group.columns.stop - group.columns.start for group in groups]
    group_of = np.repeat(np.arange(len(groups)), lengths)
    x = columns[:, used]
    base = latencies ** (2.0 * HETEROSCEDASTIC)
    expected = np.log([*(group.size for group in groups), NOISE])
    deviation = np.array([LOG_SPREAD[0]] * len(groups) + [LOG_SPREAD[1]])
    logs, trust = expected, np.ones(len(x))
    for _ in range(ROUNDS):
        moments = _moments(x, latencies, trust / base)

        def loss(at: Floats, moments: _Moments = moments) -> tuple[float, Floats]:
            value, slope = moments.loss(at, group_of)
            off = (at - expected) / deviation
            return value + 0.5 * float(off @ off), slope + off / deviation

        bounds = [_BOUNDS] * len(groups) + [_NOISE_BOUNDS]
        found = minimize(
            loss, logs, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 40}
        )
        logs = found.x
        sizes, noise = np.exp(logs[:-1])[group_of], float(np.exp(logs[-1]))
        factor, target, white = moments.posterior(sizes, noise)
        # What each row's noise is like a posteriori; Student's t as a mixture over its scale
        # (PRML, §2.3.7), the scale's expectation taken in turn with the weights'.
        spread = solve_triangular(factor, (x * sizes).T, lower=True)
        residual = (latencies - x @ (sizes * white)) ** 2 + (spread**2).sum(axis=0)
        penalty = 0.5 * FREEDOM * float((trust - 1.0 - np.log(trust)).sum())
        evidence = float(found.fun) + penalty
        trust = (FREEDOM + 1.0) / (FREEDOM + residual / (base * noise**2))
    # The mode under weights of at least zero, in whitened coordinates: |Lᵀu - L⁻¹b|² + const.
    positive, _ = nnls(factor.T, solve_triangular(factor, target, lower=True), maxiter=10_000)
    weights = np.zeros(columns.shape[1])
    weights[used] = sizes * positive
    return weights, evidence


def average(columns: Floats, latencies: Floats, models: Sequence[Sequence[Group]]) -> Average:
    """Fit several models and average them by their evidence.

    Args:
        columns: ``[n, F]``, at least zero.
        latencies: ``[n]``, positive.
        models: groups of each.
    """
    unit = float(np.median(latencies))
    fits = [fit_groups(columns, latencies / unit, groups) for groups in models]
    chances = softmax([-loss for _, loss in fits])
    weights = sum(chance * found for chance, (found, _) in zip(chances, fits, strict=True))
    return Average(unit * np.asarray(weights), chances)


def _moments(x: Floats, t: Floats, weights: Floats) -> _Moments:
    weighted = x * weights[:, None]
    return _Moments(
        weighted.T @ x,
        weighted.T @ t,
        float(weights @ t**2),
        float(np.log(weights).sum()),
        len(x),
    )
