"""What a supernet's architectures would score, predicted from those that were evaluated.

An evaluation needs recalibrated batch norms and a pass over held-out images, a search thousands
of evaluations. Once-for-all (Cai et al., ICLR 2020, §3.4) trains a network of three layers on
16,000 accuracies, ProARD one of six on 2,000 pairs of accuracy and robustness. Which regressor is
best depends on the space and on how many rows there are, so it is chosen by cross-validation.

Nothing is stored: a predictor is made again from its rows, to the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from ..searchspace.errors import InvalidInputError
from ..searchspace.space import Matrix, SearchSpace
from .encoding import Encoder
from .regressors import KINDS

__all__ = ["MIN_ROWS", "CrossValidation", "Predictor", "cross_validate"]

Floats = npt.NDArray[np.float64]

MIN_ROWS = 20
FOLDS = 5

MAX_GP_ROWS = 3000
"""Beyond, a Gaussian process is not tried: its time grows as the cube."""


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """How well rows are predicted by a model that has not seen them.

    Attributes:
        kind: of predictor.
        spearman: rank correlation, of each target.
        mae: mean absolute error, of each target in its unit.
    """

    kind: str
    spearman: tuple[float, ...]
    mae: tuple[float, ...]


class Predictor:
    """Targets of architectures, such as accuracy and robustness, from their genes and costs.

    Args:
        space: whose architectures they are.
        kind: one of :data:`~.regressors.KINDS`, or ``"auto"``: the one of the highest rank
            correlation, mean over targets, in 5-fold cross-validation on the rows given to
            :meth:`fit`.
        seed: of folds, weights and trees.

    Attributes:
        scores: of each kind tried by ``"auto"``, best first. The best is a little lucky: test
            rows that :meth:`fit` never saw tell how good it is.

    Raises:
        UnknownNameError: if there is no such kind.
    """

    def __init__(self, space: SearchSpace, kind: str = "auto", *, seed: int = 0) -> None:
        if kind != "auto":
            KINDS[kind]  # raises
        self.space = space
        self.kind = kind
        self.seed = seed
        self.scores: tuple[CrossValidation, ...] = ()
        self._encoder = Encoder(space)
        self._models: _Models | None = None

    def fit(self, matrix: Matrix, targets: Floats) -> Predictor:
        """Learn from evaluated architectures; whatever was learnt before is forgotten.

        Args:
            matrix: ``[N, genes]``; :func:`~.encoding.design` chooses them well.
            targets: ``[N, T]``, or ``[N]``; in any unit.

        Raises:
            InvalidInputError: if there are fewer than 20 different networks, the shapes do not
                match, a target is not finite or the same everywhere.
        """
        codes, targets, keys = _data(self._encoder, matrix, targets)
        self.scores = ()
        chosen = self.kind
        if chosen == "auto":
            tried = [kind for kind in KINDS if kind != "gp" or len(codes) <= MAX_GP_ROWS]
            scores = [_cross_validate(kind, codes, targets, keys, self.seed) for kind in tried]
            ranked = sorted(scores, key=lambda score: -float(np.mean(score.spearman)))
            self.scores = tuple(ranked)
            chosen = ranked[0].kind
        self._models = _Models(chosen, codes, targets, self.seed)
        return self

    @property
    def fitted_kind(self) -> str:
        """What is used, where ``"auto"`` was asked for.

        Raises:
            InvalidInputError: before :meth:`fit`.
        """
        return self._fitted().kind

    def predict(self, matrix: Matrix) -> Floats:
        """The targets of N architectures, ``[N, T]``.

        Raises:
            InvalidInputError: before :meth:`fit`, or if a row is outside the space.
        """
        return self._fitted().predict(self._encoder(matrix))[0]

    def uncertainty(self, matrix: Matrix) -> Floats:
        """Standard deviation of each prediction in its target's unit, ``[N, T]``.

        Of ``ridge`` and ``gp`` the predictive one, noise included; of ``mlp`` and ``forest`` the
        disagreement of members, which is no error bar. Compare rows, not kinds.

        Raises:
            InvalidInputError: see :meth:`predict`.
        """
        return self._fitted().predict(self._encoder(matrix))[1]

    def _fitted(self) -> _Models:
        if self._models is None:
            raise InvalidInputError("the predictor has not been fitted; call fit first")
        return self._models


class _Models:
    """A regressor a target, on standardised targets."""

    def __init__(self, kind: str, codes: Floats, targets: Floats, seed: int) -> None:
        self.kind = kind
        # Columns that never vary here say nothing, and what they would say elsewhere is unknown.
        self._kept = codes.std(axis=0) > 0
        self._centre = codes.mean(axis=0)
        self._mean, self._spread = targets.mean(axis=0), targets.std(axis=0)
        # The rows of a fold may be all alike.
        self._spread = np.where(self._spread > 0, self._spread, 1.0)
        scaled = (targets - self._mean) / self._spread
        self._models = [KINDS[kind](seed) for _ in range(targets.shape[1])]
        for model, column in zip(self._models, scaled.T, strict=True):
            model.fit(self._columns(codes), column)

    def _columns(self, codes: Floats) -> Floats:
        return np.asarray((codes - self._centre)[:, self._kept])

    def predict(self, codes: Floats) -> tuple[Floats, Floats]:
        pairs = [model.predict(self._columns(codes)) for model in self._models]
        mean, std = (np.stack(part, axis=1) for part in zip(*pairs, strict=True))
        return mean * self._spread + self._mean, std * self._spread


def cross_validate(
    space: SearchSpace, matrix: Matrix, targets: Floats, kind: str, *, seed: int = 0
) -> CrossValidation:
    """How well a kind of predictor does in 5-fold cross-validation.

    Rows of one network are always in one fold.

    Args:
        space: of the rows.
        matrix: ``[N, genes]``.
        targets: ``[N, T]``, or ``[N]``.
        kind: one of :data:`~.regressors.KINDS`.
        seed: of the folds and the models.

    Raises:
        InvalidInputError: see :meth:`Predictor.fit`.
        UnknownNameError: if there is no such kind.
    """
    KINDS[kind]  # raises
    return _cross_validate(kind, *_data(Encoder(space), matrix, targets), seed)


def _cross_validate(
    kind: str, codes: Floats, targets: Floats, keys: npt.NDArray[np.int64], seed: int
) -> CrossValidation:
    networks = int(keys.max()) + 1
    fold_of = np.random.default_rng(seed).permutation(networks) % FOLDS
    folds = fold_of[keys]
    predicted = np.empty_like(targets)
    for fold in range(FOLDS):
        held_out = folds == fold
        models = _Models(kind, codes[~held_out], targets[~held_out], seed)
        predicted[held_out] = models.predict(codes[held_out])[0]
    pairs = list(zip(predicted.T, targets.T, strict=True))
    return CrossValidation(
        kind,
        tuple(_spearman(found, true) for found, true in pairs),
        tuple(float(np.abs(found - true).mean()) for found, true in pairs),
    )


def _spearman(first: Floats, second: Floats) -> float:
    """Rank correlation; 0 where one of them is all alike."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])


def _data(
    encoder: Encoder, matrix: Matrix, targets: Floats
) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """Codes ``[N, F]``, targets ``[N, T]`` and a number for each row's network, checked."""
    codes = encoder(matrix)
    targets = np.asarray(targets, dtype=np.float64)
    targets = targets[:, None] if targets.ndim == 1 else targets
    if targets.ndim != 2 or len(targets) != len(codes) or not targets.shape[1]:
        raise InvalidInputError(
            f"targets of shape {list(targets.shape)} for {len(codes)} architectures; need"
            f" [{len(codes)}, T] with T at least 1"
        )
    _, keys = np.unique(codes, axis=0, return_inverse=True)
    networks = len(np.unique(keys))
    if networks < MIN_ROWS:
        raise InvalidInputError(
            f"{networks} different networks are too few to learn from; evaluate at least {MIN_ROWS}"
        )
    wrong = ~np.isfinite(targets).all(axis=1)
    if wrong.any():
        raise InvalidInputError(
            f"{int(wrong.sum())} of {len(targets)} rows have targets that are not finite, the first"
            f" is row {int(wrong.argmax())}; leave failed evaluations out"
        )
    constant = np.ptp(targets, axis=0) == 0
    if constant.any():
        at = int(constant.argmax())
        raise InvalidInputError(
            f"target {at} is {targets[0, at]:g} in every row, so there is nothing to learn of it;"
            " leave it out"
        )
    return codes, targets, keys.reshape(-1)
