"""Kinds of predictors: scikit-learn's regressors, each with a standard deviation."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel
from sklearn.linear_model import BayesianRidge
from sklearn.neural_network import MLPRegressor

from ..searchspace.registry import Registry

__all__ = ["KINDS", "Regressor"]

Floats = npt.NDArray[np.float64]

HIDDEN = (200, 200, 200)
"""Half once-for-all's 400: a third of the time, and ranks within 0.02 on NAS-Bench-201."""

MEMBERS = 3
"""Of an ensemble of networks."""


class Regressor(Protocol):
    """One target of mean 0 and standard deviation 1, from F columns of mean 0."""

    def fit(self, x: Floats, y: Floats) -> None:
        """Learn from ``[N, F]`` and ``[N]``."""

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation, ``[N]`` each."""


KINDS: Registry[Callable[[int], Regressor]] = Registry("predictor")
"""Name → factory, given a seed."""


class _Direct:
    """A scikit-learn regressor that tells its own standard deviation."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def fit(self, x: Floats, y: Floats) -> None:
        with warnings.catch_warnings():
            # A hyperparameter at its bound or an optimiser out of steps: told by the scores.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._model.fit(x, y)

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        mean, std = self._model.predict(x, return_std=True)
        return mean, std


class _Members:
    """The mean of several scikit-learn regressors, and how far they disagree."""

    def __init__(self, models: list[Any]) -> None:
        self._models = models

    def fit(self, x: Floats, y: Floats) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            for model in self._models:
                model.fit(x, y)

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        each = np.stack([model.predict(x) for model in self._models])
        return each.mean(axis=0), each.std(axis=0)


class _Forest(_Members):
    """A random forest; its trees are the members."""

    def __init__(self, seed: int) -> None:
        super().__init__([])
        self._forest = RandomForestRegressor(200, max_features=1 / 3, random_state=seed)

    def fit(self, x: Floats, y: Floats) -> None:
        self._forest.fit(x, y)
        self._models = list(self._forest.estimators_)


def _ridge(seed: int) -> Regressor:  # noqa: ARG001 (draws nothing)
    return _Direct(BayesianRidge())


def _gp(seed: int) -> Regressor:
    # An additive part, as most of an architecture's effect is, and what deviates from it.
    additive = ConstantKernel(0.1, (1e-4, 1e2)) * DotProduct(1.0, (1e-2, 1e2))
    rest = ConstantKernel(0.5, (1e-4, 1e2)) * RBF(5.0, (0.5, 1e2))
    noise = WhiteKernel(0.1, (1e-6, 1e1))
    return _Direct(GaussianProcessRegressor(additive + rest + noise, random_state=seed))


def _mlp(seed: int) -> Regressor:
    return _Members(
        [
            MLPRegressor(
                hidden_layer_sizes=HIDDEN, alpha=1e-3, max_iter=60, random_state=seed + member
            )
            for member in range(MEMBERS)
        ]
    )


KINDS.add("ridge", _ridge)
KINDS.add("gp", _gp)
KINDS.add("forest", _Forest)
KINDS.add("mlp", _mlp)
