"""A Gaussian process over ranks, whose prior mean is the training-free rank.

Rank-gauss accuracy = prior + a Gaussian process over what is known of a candidate untrained,
covariance w(¾ RBF + ¼ linear) + ¼ p pᵀ + 1 and noise, p the prior: p pᵀ lets labels say that the
prior counts for more or less, the constant takes up a shift. Far from all labels the RBF goes back
to the prior, where a linear part goes on and on. Rasmussen & Williams, Gaussian
Processes for Machine Learning (2006), eq. 2.25, 2.26 (mean, variance), 5.8 (evidence), 5.12
(leave-one-out mean).

Few labels fit many hyperparameters equally well, so that the models of a small grid are averaged
by their evidence instead of the best one taken (results/calibration has what was tried). No
correction at all, w = 0, is one of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

__all__ = ["RankProcess", "agreement", "matched"]

Floats = npt.NDArray[np.float64]

#: Weights of the correction, length scales of its RBF (columns have a mean square of 1), and
#: variances of the noise, in units of the rank-gauss prior.
WEIGHTS = (0.0, 0.03, 0.1, 0.3, 1.0)
LENGTHS = (0.5, 1.0, 2.0)
NOISES = (0.1, 0.3, 0.6)

#: Share of the RBF in the correction; the rest is linear.
RBF = 0.75

#: Of the prior's own slope.
SLOPE = 0.25

#: Shares of the correction among which leave-one-out chooses.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def matched(accuracies: Floats, prior: Floats) -> Floats:
    """Accuracies on the prior's scale, ``[N]``: the k-th best gets the k-th largest prior.

    Labels that rank as the prior does then leave nothing to correct, whatever their spacing.
    Equals share the middle of their places.
    """
    if not len(prior):
        return np.zeros(0)
    places = rankdata(accuracies) - 1.0
    return np.asarray(np.interp(places, np.arange(len(prior)), np.sort(prior)))


def agreement(first: Floats, second: Floats) -> int:
    """Pairs that two columns ``[N]`` put in the same order, less those in opposite order."""
    i, j = np.triu_indices(len(first), 1)
    return int(np.sum(np.sign(first[i] - first[j]) * np.sign(second[i] - second[j])))


@dataclass(frozen=True)
class _Model:
    """One point of the grid, conditioned on the labels.

    Attributes:
        weight: w.
        length: of the RBF.
        coefficients: (K + noise)⁻¹ (y − prior), ``[N]``.
        inverse: (K + noise)⁻¹, ``[N, N]``.
        belief: its share of the evidence.
    """

    weight: float
    length: float
    coefficients: Floats
    inverse: Floats
    belief: float


class RankProcess:
    """Ranks of candidates, given those of a few labelled ones.

    Where leave-one-out ranks the labels worse with the whole correction than with a share of
    it, that share is taken; where none helps, the prior is left as it is.

    Args:
        prior: of the N labelled candidates, rank-gauss, ``[N]``; N may be 0.
        columns: what is known of them, ``[N, F]``, with a mean square of about 1 a row.
        accuracies: ``[N]``, in any unit; only their order counts.

    Attributes:
        share: of the correction that is used, in [0, 1].
        left_out: what each label was predicted from all others, ``[N]``.
    """

    def __init__(self, prior: Floats, columns: Floats, accuracies: Floats) -> None:
        self._prior = np.asarray(prior, dtype=np.float64)
        self._columns = np.asarray(columns, dtype=np.float64)
        target = matched(accuracies, self._prior)
        self._models = self._conditioned(target - self._prior)
        left_out = sum(
            (
                model.belief * (target - model.coefficients / np.diag(model.inverse))
                for model in self._models
            ),
            start=np.zeros(len(target)),
        )
        found = [
            agreement(self._prior + share * (left_out - self._prior), accuracies)
            for share in SHARES
        ]
        best = max(range(len(SHARES)), key=lambda i: (found[i], SHARES[i]))
        self.share = SHARES[best]
        self.left_out: Floats = self._prior + self.share * (left_out - self._prior)

    def predict(self, prior: Floats, columns: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the rank-gauss accuracy of M candidates.

        Args:
            prior: ``[M]``; NaN stays NaN.
            columns: ``[M, F]``.

        Returns:
            Two columns ``[M]``. Without labels the first is the prior, exactly; the second
            leaves out a label's own noise.
        """
        means = np.zeros((len(self._models), len(prior)))
        variances = np.zeros_like(means)
        squares = np.mean(columns**2, axis=1) if columns.shape[1] else np.zeros(len(prior))
        for i, model in enumerate(self._models):
            cross = _covariance(prior, columns, self._prior, self._columns, model)
            own = model.weight * (RBF + (1.0 - RBF) * squares) + SLOPE * prior**2 + 1.0
            means[i] = cross @ model.coefficients
            variances[i] = own - np.einsum("ij,jk,ik->i", cross, model.inverse, cross)
        beliefs = np.array([model.belief for model in self._models])
        change = beliefs @ means
        variance = beliefs @ (np.maximum(variances, 0.0) + (means - change) ** 2)
        return prior + self.share * change, np.sqrt(variance)

    def _conditioned(self, residual: Floats) -> list[_Model]:
        """Every model of the grid with its share of the evidence, flat over the grid."""
        found: list[tuple[_Model, float]] = []
        for weight in WEIGHTS:
            lengths = LENGTHS if weight else LENGTHS[:1]  # without a correction it has no length
            for length in lengths:
                # Every weight counts alike beforehand, whatever the number of its lengths.
                before = -np.log(len(lengths))
                bare = _Model(weight, length, residual, np.eye(len(residual)), 0.0)
                covariance = _covariance(
                    self._prior, self._columns, self._prior, self._columns, bare
                )
                for noise in NOISES:
                    whole = covariance + noise * np.eye(len(residual))
                    inverse: Floats = np.asarray(np.linalg.inv(whole), dtype=np.float64)
                    coefficients = inverse @ residual
                    evidence = -0.5 * (residual @ coefficients + np.linalg.slogdet(whole)[1])
                    found.append(
                        (_Model(weight, length, coefficients, inverse, 0.0), evidence + before)
                    )
        logs = np.array([evidence for _, evidence in found])
        beliefs = np.exp(logs - logs.max())
        beliefs /= beliefs.sum()
        return [
            _Model(m.weight, m.length, m.coefficients, m.inverse, float(belief))
            for (m, _), belief in zip(found, beliefs, strict=True)
        ]


def _covariance(
    first_prior: Floats, first: Floats, second_prior: Floats, second: Floats, model: _Model
) -> Floats:
    """Covariance of M and N candidates, ``[M, N]``, without noise."""
    features = max(first.shape[1], 1)
    linear = first @ second.T / features
    squares = [np.mean(x**2, axis=1) if x.shape[1] else np.zeros(len(x)) for x in (first, second)]
    distance = np.maximum(squares[0][:, None] + squares[1][None] - 2.0 * linear, 0.0)
    rbf = np.exp(-distance / (2.0 * model.length**2))
    shape = RBF * rbf + (1.0 - RBF) * linear
    return np.asarray(model.weight * shape + SLOPE * np.outer(first_prior, second_prior) + 1.0)
