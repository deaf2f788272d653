"""Everything that decides a run's result, and what it is compared by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..proxies.ensemble import DEFAULT, ENSEMBLES, ensemble_for
from ..proxies.ranks import log_rank_sum
from ..proxies.registry import get_proxy
from ..searchspace.errors import InvalidInputError, ScholarchError
from ..searchspace.space import SearchSpace
from .budget import Budget

__all__ = ["MEASURED_SCORE", "RunSettings", "ScoreRule", "check_counts", "ranks_nothing"]

MEASURED_SCORE = "supernet-accuracy"
"""Maximised on a supernet: accuracy on the validation part with inherited, calibrated weights."""


@dataclass(frozen=True, slots=True)
class ScoreRule:
    """What a search maximises: one proxy's value, or Σ log-rank of several.

    Attributes:
        name: ``"ensemble"``, a proxy's name, or the parts joined by ``+``.
        parts: names of proxies.
        version: of the ensemble; 0 for the user's own choice.
        weights: of the parts' log-ranks; none: 1 each.
    """

    name: str
    parts: tuple[str, ...]
    version: int = 0
    weights: tuple[float, ...] = ()

    def to_settings(self, objectives: Iterable[str]) -> dict[str, Any]:
        """For :attr:`RunSettings.score`, with the costs that are minimised beside it."""
        told: dict[str, Any] = {
            "name": self.name,
            "parts": list(self.parts),
            "version": self.version,
            "objectives": list(objectives),
        }
        return {**told, "weights": list(self.weights)} if self.weights else told

    @classmethod
    def of(cls, names: Sequence[str] | None, family: str = "convnet") -> ScoreRule:
        """The rule for a user's proxies; none: the default ensemble.

        Args:
            names: of proxies, or of one ensemble.
            family: the space's, by which the default ensemble differs.

        Raises:
            UnknownNameError: if one is neither a proxy nor an ensemble.
        """
        names = (names,) if isinstance(names, str) else names
        names = tuple(dict.fromkeys(names or (DEFAULT,)))
        if len(names) == 1 and names[0] in ENSEMBLES:
            ensemble = ensemble_for(names[0], family)
            return cls(names[0], ensemble.parts, ensemble.version, ensemble.weights)
        if mixed := [name for name in names if name in ENSEMBLES]:
            raise InvalidInputError(
                f"{mixed[0]!r} is a combination already; give it alone, or its parts"
                f" {', '.join(ENSEMBLES[mixed[0]].parts)}"
            )
        for name in names:
            get_proxy(name)
        return cls("+".join(names), names)

    @property
    def ranks(self) -> bool:
        """Whether a reference sample is needed."""
        return len(self.parts) > 1

    def __call__(
        self,
        columns: Mapping[str, npt.NDArray[np.float64]],
        reference: Mapping[str, npt.NDArray[np.float64]],
    ) -> npt.NDArray[np.float64]:
        """Scores ``[N]`` of oriented columns; NaN where a part failed."""
        if not self.ranks:
            return np.asarray(columns[self.parts[0]], dtype=np.float64)
        return log_rank_sum(
            {name: columns[name] for name in self.parts},
            {name: reference[name] for name in self.parts},
            dict(zip(self.parts, self.weights, strict=True)) if self.weights else None,
        )


def check_counts(evaluations: int, seed: int) -> None:
    """Refuse numbers out of range.

    Raises:
        InvalidInputError: naming the value and the range.
    """
    if isinstance(evaluations, bool) or not isinstance(evaluations, int) or evaluations < 1:
        raise InvalidInputError(f"evaluations = {evaluations!r}; need a whole number of at least 1")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise InvalidInputError(f"seed = {seed!r}; need a whole number from 0 to 2^63 - 1")


def ranks_nothing(name: str, reasons: Iterable[str | None]) -> ScholarchError:
    """The error where a part failed on the whole reference sample, with the commonest reasons."""
    counts = Counter(reason or "no reason told" for reason in reasons)
    often = "; ".join(f"{count}× {reason}" for reason, count in counts.most_common(2))
    return ScholarchError(
        f"{name} failed on all {counts.total()} architectures of the reference sample, so it ranks"
        f" nothing ({often}); leave it out"
    )


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What repeats a run; two runs may share a folder only where all of it agrees.

    Attributes:
        space: the space's ``spec()``.
        data: name of the data and fingerprint of the batch.
        teacher: name and fingerprint, or ``None``.
        score: name, parts, version and, where they differ, weights of what is maximised.
        proxies: name → version of everything computed.
        searcher: registered name.
        seed: of the batch, the nested weights, the reference sample and the searcher.
        budget: cost → upper bound.
        reference_size: architectures in the reference sample, at most.
        costs: names of the costs, in order.
        tables: latency table's device → fingerprint.
        scoring: device and precision of scoring where they are not a CPU's float32, whose
            rounding scores share.
        supernet: fingerprint of the trained supernet whose weights candidates inherit, and how
            they are evaluated; ``None`` where nothing is trained.
    """

    space: dict[str, Any]
    data: dict[str, Any]
    teacher: dict[str, Any] | None
    score: dict[str, Any]
    proxies: dict[str, int]
    searcher: str
    seed: int
    budget: dict[str, float]
    reference_size: int
    costs: list[str]
    tables: dict[str, str]
    scoring: dict[str, str] = field(default_factory=dict)
    supernet: dict[str, Any] | None = None

    @classmethod
    def of_search(
        cls, space: SearchSpace, budget: Budget, rule: ScoreRule, **given: Any
    ) -> RunSettings:
        """With what space, budget and rule say of themselves; the other fields as given."""
        return cls(
            space=space.spec(),
            score=rule.to_settings(budget.objectives()),
            budget=dict(budget.bounds),
            costs=list(space.cost_names),
            tables={name: table.fingerprint for name, table in space.tables.items()},
            **given,
        )

    @property
    def measured(self) -> bool:
        """Whether scores are accuracies on the validation part, and not training-free."""
        return self.supernet is not None and self.score["name"] == MEASURED_SCORE

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunSettings:
        """What :meth:`to_json` wrote; raises :class:`InvalidInputError` on anything else."""
        try:
            settings = cls(**data)
        except TypeError as error:
            raise InvalidInputError(f"these are no run settings: {error}") from error
        for name in ("space", "data", "score", "proxies", "budget", "tables", "scoring"):
            if not isinstance(value := getattr(settings, name), dict):
                raise InvalidInputError(f"these are no run settings: {name} is {value!r}")
        return settings

    def differences(self, other: RunSettings) -> list[str]:
        """``"seed: 0 there, 1 here"`` for everything in which two runs differ."""
        there, here = _flat(self.to_json()), _flat(other.to_json())
        return [
            f"{name}: {there.get(name, 'none')} there, {here.get(name, 'none')} here"
            for name in sorted({*there, *here})
            if there.get(name) != here.get(name)
        ]


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat
