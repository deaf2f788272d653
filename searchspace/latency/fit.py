"""Latencies of a whole space from 10 to 50 whole networks timed on one device.

For whoever can time a network but none of its blocks. A sum over what networks are made of
(:mod:`.features`) is fitted to the measurements, with the tables of other devices as a prior:
they too are sums over the same columns, of which the new device is taken to be a mixture (the
idea of HELP, Lee et al., NeurIPS 2021, in the least form: a linear one).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from ..architecture import Architecture
from ..errors import InvalidInputError
from ..space import LatencyTable, Matrix, SearchSpace
from .features import FeatureMap, Floats, Group, Sides
from .fitted import FittedTable, Measured, PriorDevice
from .regression import average

__all__ = ["fit_latency", "fit_weights", "read_fitted", "refit"]

FEWEST = 5
"""Networks below which nothing is fitted; 10 that were proposed, or 20, are advised."""

MOST_FOLDS = 10
PRIOR_ROWS = 1000
"""Architectures by which the table of another device is brought to the columns."""

_COSTS = ("macs", "depth")
_MORE = ("params", "peak_memory")


def fit_latency(
    space: SearchSpace,
    archs: Sequence[Architecture] | Matrix,
    ms: Sequence[float] | Floats,
    *,
    device: str = "device",
    prior: Sequence[LatencyTable] = (),
    resolution: Sides | None = None,
    seed: int = 0,
) -> FittedTable:
    """A latency table of the whole space from a few networks.

    Args:
        space: to be predicted.
        archs: what was timed, best those of :func:`~.design.propose`; or an integer matrix
            ``[n, genes]``. One may stand there several times.
        ms: latency of each in milliseconds, ``[n]``.
        device: its name.
        prior: tables of other devices for the same space, of any kind.
        resolution: of the images, one or ``[n]``; default the space's own.
        seed: of the folds that the error is estimated by, and of the architectures that a
            table of ``prior`` is asked for.

    Raises:
        InvalidInputError: if there are fewer than 5 different networks, a latency is no
            positive number, lengths differ, or something belongs to another space.
    """
    if isinstance(archs, np.ndarray):
        matrix: Matrix = np.asarray(archs, dtype=np.int64)
        if matrix.ndim != 2 or matrix.shape[1] != len(space.genes):
            raise InvalidInputError(
                f"rows of shape {matrix.shape} for space {space.name!r}; need"
                f" [n, {len(space.genes)}]"
            )
    else:
        matrix = space.encode(list(archs))
    side = space.resolution if resolution is None else resolution
    times = np.asarray(ms, dtype=np.float64)
    _check(matrix, times, side)
    sides = np.broadcast_to(np.asarray(side, dtype=np.int64), times.shape)
    features = FeatureMap(space)
    devices = [_as_prior(features, table, seed) for table in prior]
    texts = tuple(arch.text for arch in space.decode(matrix))
    return _fit(features, Measured(texts, sides, times), matrix, devices, device, seed)


def refit(
    table: FittedTable,
    space: SearchSpace,
    archs: Sequence[Architecture] = (),
    ms: Sequence[float] = (),
    *,
    seed: int = 0,
) -> FittedTable:
    """The table fitted again, to its own and to further networks at the space's resolution.

    Raises:
        InvalidInputError: as :func:`fit_latency` does.
    """
    features = table.ready(space)
    old = table.measured
    matrix = np.concatenate(
        [space.encode([space.parse(text) for text in old.archs]), space.encode(list(archs))]
    )
    times = np.concatenate([old.ms, np.asarray(ms, dtype=np.float64)])
    _check(matrix, times, space.resolution)
    sides = np.append(old.resolutions, np.full(len(times) - len(old.ms), space.resolution))
    measured = Measured(tuple(arch.text for arch in space.decode(matrix)), sides, times)
    return _fit(features, measured, matrix, table.prior, table.device, seed)


def _check(matrix: Matrix, ms: Floats, side: Sides) -> None:
    if ms.ndim != 1 or len(ms) != len(matrix):
        raise InvalidInputError(
            f"{len(matrix)} networks and latencies of shape {ms.shape}; need one for each"
        )
    if np.ndim(side) and np.shape(side) != ms.shape:
        raise InvalidInputError(
            f"{len(ms)} networks and resolutions of shape {np.shape(side)}; need one for each"
        )
    wrong = np.flatnonzero(~(np.isfinite(ms) & (ms > 0)))
    if wrong.size:
        raise InvalidInputError(
            f"latency {ms[wrong[0]]} of network {wrong[0] + 1}; need positive milliseconds"
        )
    different = len(np.unique(np.column_stack([matrix, np.broadcast_to(side, ms.shape)]), axis=0))
    if different < FEWEST:
        raise InvalidInputError(
            f"{different} different networks; need at least {FEWEST}, better 10 to 50: list them"
            " by scholarch latency fit --propose 10"
        )


def _fit(
    features: FeatureMap,
    measured: Measured,
    matrix: Matrix,
    devices: Sequence[PriorDevice],
    device: str,
    seed: int,
) -> FittedTable:
    columns = features(matrix, measured.resolutions)
    weights, chances = fit_weights(features, columns, measured.ms, devices)
    n = len(measured.ms)
    folds = np.random.default_rng(seed).permutation(n) % min(n, MOST_FOLDS)
    predicted = np.empty(n)
    for fold in range(folds.max() + 1):
        out = folds == fold
        without, _ = fit_weights(features, columns[~out], measured.ms[~out], devices)
        predicted[out] = columns[out] @ without
    ratio = predicted / measured.ms
    constant = np.ptp(predicted) == 0 or np.ptp(measured.ms) == 0
    return FittedTable(
        device=device,
        space=features.space.spec() | {"resolution": features.scaled_at},
        names=features.names,
        weights=weights,
        measured=measured,
        models=chances,
        prior=tuple(devices),
        mape=float(np.abs(ratio - 1.0).mean()),
        spearman=0.0 if constant else float(spearmanr(predicted, measured.ms).statistic),
        spread=float(np.sqrt((np.log(np.maximum(ratio, 1e-3)) ** 2).mean())),
    )


def fit_weights(
    features: FeatureMap, columns: Floats, ms: Floats, devices: Sequence[PriorDevice] = ()
) -> tuple[Floats, dict[str, float]]:
    """Weight of each column in ms, ``[F]``, and the chance of each model."""
    groups = {group.name: group for group in features.groups}
    basis = np.empty((len(features.names), 0))
    if devices:
        # A device's latency of the reference sample is 1 on average, like any other column.
        basis = np.stack([device.weights for device in devices], axis=1)
        basis = basis / (features.reference @ basis).mean(axis=0)
        at = slice(columns.shape[1], columns.shape[1] + len(devices))
        groups["devices"] = Group("devices", at, 0.5)
        for i in range(at.start, at.stop):
            groups[f"device {i - at.start + 1}"] = Group("device", slice(i, i + 1), 0.5)
    models = _models(groups)
    found = average(
        np.hstack([columns, columns @ basis]),
        ms,
        [[groups[name] for name in names] for names in models],
    )
    own = len(features.names)
    weights = found.weights[:own] + basis @ found.weights[own:]
    labels = [" + ".join(names[1:]) for names in models]
    return weights, dict(zip(labels, found.chances.tolist(), strict=True))


def _models(groups: Mapping[str, Group]) -> list[list[str]]:
    """Names of the groups of each model that is tried.

    Where it is open which operations of a cell run, the counts of each guess stand against
    each other; elsewhere costs of more and more detail do. With a prior: one of its devices, a
    mixture of them, and the same with any of the former added; or none of them.
    """
    counts = [name for name in groups if name.startswith("values:")]
    models: list[tuple[str, ...]] = [_COSTS]
    if len(counts) == 1:
        parts = "parts" if "parts" in groups else "genes"
        models += [
            (*_COSTS, *_MORE),
            (*_COSTS, "roofline"),
            (*_COSTS, parts),
            (*_COSTS, parts, "roofline"),
            (*_COSTS, *_MORE, parts, "roofline", *counts),
        ]
    models += [(name,) for name in counts]
    if "devices" in groups:
        single = [(name,) for name in groups if name.startswith("device ")]
        models = [*single, ("devices",), *(("devices", *names) for names in models), *models]
    return [["one", *(name for name in names if name in groups)] for names in models]


def _as_prior(features: FeatureMap, table: LatencyTable, seed: int) -> PriorDevice:
    """Another device's table as a sum over the columns."""
    if isinstance(table, FittedTable) and table.ready(features.space).scaled_at == (
        features.scaled_at
    ):
        return PriorDevice(table.device, table.weights)
    space = features.space
    rng = np.random.default_rng(seed)
    rows: npt.NDArray[np.int64] | None = table.rows
    if rows is None:
        rows = space.sample_matrix(PRIOR_ROWS, rng)
    elif len(rows) > PRIOR_ROWS:
        rows = rows[np.sort(rng.choice(len(rows), PRIOR_ROWS, replace=False))]
    ms = table.latency(space, rows)
    known = np.isfinite(ms) & (ms > 0)
    if known.sum() < 2 * FEWEST:
        raise InvalidInputError(
            f"table of device {table.device!r} knows {int(known.sum())} networks of space"
            f" {space.name!r}; a prior needs at least {2 * FEWEST}: leave it out"
        )
    weights, _ = fit_weights(features, features(rows[known]), ms[known])
    return PriorDevice(table.device, weights)


def read_fitted(data: Mapping[str, Any], path: object, space: SearchSpace) -> FittedTable:
    """What a file holds, ready for a space; see :meth:`FittedTable.from_json`."""
    table = FittedTable.from_json(data, str(path))
    table.ready(space)
    return table
