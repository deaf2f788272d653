"""The table that a fit gives: a weight for each column of a space's features."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InvalidInputError
from ..space import Matrix, SearchSpace
from .checks import damage
from .features import FeatureMap, Floats, Sides

__all__ = ["FITTED_FORMAT", "FittedTable", "Measured", "PriorDevice"]

FITTED_FORMAT = "scholarch-latency-fit"
VERSION = 1
UNIT = "ms"


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """The networks that were timed.

    Attributes:
        archs: in the space's notation, length n.
        resolutions: of their images in pixels, ``[n]``.
        ms: latencies, ``[n]``.
    """

    archs: tuple[str, ...]
    resolutions: npt.NDArray[np.int64]
    ms: Floats


@dataclass(frozen=True, slots=True, eq=False)
class PriorDevice:
    """Another device, as a sum over the same columns.

    Attributes:
        device: its name.
        weights: in ms, ``[F]``.
    """

    device: str
    weights: Floats


@dataclass(eq=False)
class FittedTable:
    """Latencies of all architectures of a space, predicted from a few.

    Attributes:
        device: name.
        space: the space's ``spec()``.
        names: of the columns, length F.
        weights: of the columns in ms, ``[F]``, at least zero.
        measured: what it was fitted to.
        models: groups of columns → chance, of the models that were averaged.
        prior: other devices that it was fitted with.
        mape: mean absolute error relative to the latency, of networks left out in turn.
        spearman: rank correlation of the same predictions.
        spread: root mean square of the logarithm of predicted by measured, of the same: about
            the relative standard deviation of a prediction.
        rows: ``None``: every architecture is known.
        source: where it came from, for messages.
    """

    device: str
    space: dict[str, Any]
    names: tuple[str, ...]
    weights: Floats
    measured: Measured
    models: dict[str, float]
    prior: tuple[PriorDevice, ...] = ()
    mape: float = math.nan
    spearman: float = math.nan
    spread: float = math.nan
    rows: Matrix | None = None
    source: str = "fit"
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        self.fingerprint = _fingerprint(self.space, self.names, self.weights)
        self._ready: dict[str, FeatureMap] = {}

    def latency(
        self, space: SearchSpace, matrix: Matrix, *, resolution: Sides | None = None
    ) -> Floats:
        """Milliseconds of N architectures, ``[N]``.

        Args:
            space: the table's own.
            matrix: ``[N, genes]``.
            resolution: of the images, one or ``[N]``; default the space's own.

        Raises:
            InvalidInputError: if it is another space, or a resolution outside what was timed.
        """
        features = self.ready(space)
        if resolution is not None:
            self._check_resolution(np.asarray(resolution))
        return features.total(matrix, self.weights, resolution)

    def ready(self, space: SearchSpace) -> FeatureMap:
        """The space's columns; raises :class:`InvalidInputError` where they are not the table's."""
        spec = space.spec()
        code = json.dumps(spec, sort_keys=True)
        if code not in self._ready:
            self._check_space(spec)
            # Columns are scaled by the fitted space's own sample, so at its own resolution.
            features = FeatureMap(space, scaled_at=self.space["resolution"])
            if features.names != self.names:
                raise InvalidInputError(
                    f"latency table {self.source} was fitted by another version of scholarch, with"
                    f" {len(self.names)} columns for {len(features.names)}; fit its networks again"
                )
            self._ready[code] = features
        return self._ready[code]

    def _check_space(self, spec: Mapping[str, Any]) -> None:
        if spec["name"] != self.space["name"]:
            raise InvalidInputError(
                f"latency table {self.source} is of space {self.space['name']!r}, not"
                f" {spec['name']!r}; fit one to networks of that space"
            )
        known = dict(spec) | {"resolution": self.space["resolution"]}
        if known != self.space:
            other = sorted(k for k in known | self.space if known.get(k) != self.space.get(k))
            raise InvalidInputError(
                f"latency table {self.source} was fitted to {self.space['name']!r} with"
                f" {', '.join(f'{k} {self.space.get(k)!r}' for k in other)}, not"
                f" {', '.join(f'{k} {known.get(k)!r}' for k in other)}; fit one to networks like it"
            )
        self._check_resolution(np.asarray(spec["resolution"]))

    def _check_resolution(self, sides: npt.NDArray[np.int64]) -> None:
        known = self.measured.resolutions
        if sides.size and not known.min() <= sides.min() <= sides.max() <= known.max():
            wrong = sides.min() if sides.min() < known.min() else sides.max()
            raise InvalidInputError(
                f"resolution {wrong}: latency table {self.source} was fitted at {known.min()} to"
                f" {known.max()} pixels; time networks there as well"
            )

    # ------------------------------------------------------------------ files

    def to_json(self) -> dict[str, Any]:
        """Plain data; all times in ms."""
        measured = zip(
            self.measured.archs,
            self.measured.resolutions.tolist(),
            self.measured.ms.tolist(),
            strict=True,
        )
        return {
            "format": FITTED_FORMAT,
            "version": VERSION,
            "unit": UNIT,
            "device": self.device,
            "space": self.space,
            "method": "grouped Bayesian linear regression, weights of at least zero, averaged",
            "error": {"mape": self.mape, "spearman": self.spearman, "spread": self.spread},
            "models": self.models,
            "weights": dict(zip(self.names, self.weights.tolist(), strict=True)),
            "networks": [{"arch": a, "resolution": r, "ms": ms} for a, r, ms in measured],
            "prior": [{"device": p.device, "weights": p.weights.tolist()} for p in self.prior],
        }

    def dumps(self) -> str:
        """:meth:`to_json` as text."""
        return json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, data: Mapping[str, Any], source: str = "table") -> FittedTable:
        """What :meth:`to_json` wrote.

        Raises:
            InvalidInputError: if something is missing, of another kind, version or unit, or no
                number of at least 0; names what.
        """
        for what, own in (("format", FITTED_FORMAT), ("version", VERSION), ("unit", UNIT)):
            if data.get(what) != own:
                raise InvalidInputError(
                    f"latency table {source} has {what} {data.get(what)!r}; need {own!r}: make it"
                    " by scholarch latency fit"
                )
        try:
            networks, error = data["networks"], data["error"]
            names = tuple(map(str, data["weights"]))
            table = cls(
                device=str(data["device"]),
                space=dict(data["space"]),
                names=names,
                weights=_numbers(data["weights"].values(), len(names), "a weight", source),
                measured=Measured(
                    tuple(str(line["arch"]) for line in networks),
                    np.array([int(line["resolution"]) for line in networks], dtype=np.int64),
                    _numbers([line["ms"] for line in networks], None, "a latency", source),
                ),
                models={str(k): float(v) for k, v in data["models"].items()},
                prior=tuple(
                    PriorDevice(
                        str(line["device"]),
                        _numbers(line["weights"], len(names), "a weight of the prior", source),
                    )
                    for line in data["prior"]
                ),
                source=source,
                mape=float(error["mape"]),
                spearman=float(error["spearman"]),
                spread=float(error["spread"]),
            )
            table.space["name"], int(table.space["resolution"])
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            if isinstance(problem, InvalidInputError):
                raise
            raise InvalidInputError(
                f"latency table {source} {damage(problem)}; make it again by scholarch latency fit"
            ) from problem
        return table


def _numbers(values: Any, count: int | None, what: str, source: str) -> Floats:
    """A vector of numbers of at least 0, at least one."""
    found = np.array([float(value) for value in values], dtype=np.float64)
    if not len(found) or len(found) != (len(found) if count is None else count):
        raise ValueError(f"{len(found)} numbers where {count or 'some'} belong")
    wrong = found[~(np.isfinite(found) & (found >= 0))]
    if len(wrong):
        raise InvalidInputError(
            f"latency table {source}: {what} is {wrong[0]}; need a number of at least 0"
        )
    return found


def _fingerprint(space: Mapping[str, Any], names: Sequence[str], weights: Floats) -> str:
    """16 hexadecimal digits of what decides on predictions."""
    said = json.dumps([space, list(names), weights.tolist()], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:16]
