"""Upper bounds on costs, refused before any scoring where no architecture can meet them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..searchspace.errors import InvalidInputError
from ..searchspace.extremes import descend, extreme_starts
from ..searchspace.space import Columns, Matrix, SearchSpace

__all__ = ["Budget", "bound_amount", "human", "minimum_costs", "parse_amount"]

_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}
_TIMES = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
#: Spaces up to this size are enumerated, larger ones searched.
ENUMERABLE = 200_000


def parse_amount(text: str | float) -> float:
    """``"2M"`` → 2e6; suffixes k, M, G (or B) and T, any case.

    Raises:
        InvalidInputError: if it is no positive finite number.
    """
    match = re.fullmatch(r"\s*([-+0-9.eE]+?)\s*([kKmMgGbBtT]?)\s*", str(text))
    try:
        value = float(match[1]) * _UNITS[match[2].lower()] if match else math.nan
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise InvalidInputError(
            f"{text!r} is no amount; write a positive number, with k, M or G if you like (2M)"
        )
    return value


def parse_latency(text: str | float) -> float:
    """``"5ms"`` → 5.0, in milliseconds; also ``us`` and ``s``, without a unit ms.

    Raises:
        InvalidInputError: if it is no positive finite time.
    """
    match = re.fullmatch(r"\s*([-+0-9.eE]+?)\s*(us|µs|ms|s)?\s*", str(text))
    try:
        value = float(match[1]) * _TIMES[match[2] or "ms"] if match else math.nan
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise InvalidInputError(f"{text!r} is no latency; write a positive time such as 5ms")
    return value


def bound_amount(name: str, bound: str | float) -> float:
    """A bound on a cost as a number; the message names the cost."""
    try:
        return parse_latency(bound) if name.startswith("latency:") else parse_amount(bound)
    except InvalidInputError as error:
        raise InvalidInputError(f"budget for {name}: {error}") from error


def human(value: float) -> str:
    """``9_830_000`` → ``"9.83M"``."""
    value = float(f"{value:.3g}") if abs(value) >= 1e3 else value  # 999,999 is 1M, not 1e+03k
    for unit, scale in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= scale:
            return f"{value / scale:.3g}{unit}"
    return f"{value:g}"


@dataclass(frozen=True)
class Budget:
    """Upper bounds by cost name, e.g. ``Budget({"macs": 50e6})``; empty: no bound.

    Raises:
        InvalidInputError: if a bound is no positive finite number.
    """

    bounds: Mapping[str, float]

    def __post_init__(self) -> None:
        amounts = {name: bound_amount(name, bound) for name, bound in self.bounds.items()}
        object.__setattr__(self, "bounds", dict(sorted(amounts.items())))

    def violation(self, costs: Columns) -> npt.NDArray[np.float64]:
        """Summed relative excess over the bounds, ``[N]``; 0 where all are met.

        Infinite where a bounded cost is not known, as latencies outside a table are not.
        """
        parts = [np.maximum(costs[name] / bound - 1.0, 0.0) for name, bound in self.bounds.items()]
        size = len(next(iter(costs.values())))
        total = np.sum(parts, axis=0) if parts else np.zeros(size)
        return np.where(np.isnan(total), np.inf, total)

    def feasible(self, costs: Columns) -> npt.NDArray[np.bool_]:
        """Which rows meet every bound, ``[N]``."""
        return np.asarray(self.violation(costs) == 0.0)

    def objectives(self) -> tuple[str, ...]:
        """Costs to minimise beside the score: the bounded ones, or MACs.

        ``flops`` are 2 × ``macs`` and make one objective with them.
        """
        names = ["macs" if name == "flops" else name for name in self.bounds]
        return tuple(dict.fromkeys(names)) or ("macs",)

    def check(self, space: SearchSpace) -> None:
        """Refuse bounds on unknown costs and bounds that no architecture meets alone.

        Raises:
            InvalidInputError: naming the smallest cost the space can reach.
        """
        for name in self.bounds:
            if name not in space.cost_names:
                raise InvalidInputError(
                    f"no cost {name!r} to bound; space {space.name!r} knows"
                    f" {', '.join(space.cost_names)}"
                )
            rows = candidate_rows(space, self)
            if rows is not None and not len(rows):
                raise InvalidInputError(
                    f"the latency tables of space {space.name!r} have no architecture in common"
                )
        smallest = minimum_costs(space, self)
        short = {name: bound for name, bound in self.bounds.items() if bound < smallest[name]}
        if short:
            asked = ", ".join(f"{name} ≤ {bound:,.12g}" for name, bound in short.items())
            least = ", ".join(f"{name} {least:,.12g}" for name, least in smallest.items())
            raise InvalidInputError(
                f"no architecture of {space.name!r} has {asked}; its smallest at"
                f" {space.input_text().removesuffix(' pixels')} are: {least}"
            )


def candidate_rows(space: SearchSpace, budget: Budget) -> Matrix | None:
    """Every row that can be asked for, where they can be listed, else ``None``.

    A bound on a latency leaves the architectures that the tables know, where they do not know
    all; otherwise spaces up to 200,000 are enumerated.
    """
    if any(name.startswith("latency:") for name in budget.bounds):
        rows = space.known_rows()
        if rows is not None:
            return rows
    return space.enumerate_matrix() if space.size <= ENUMERABLE else None


def minimum_costs(space: SearchSpace, budget: Budget | None = None) -> dict[str, float]:
    """The smallest value of each cost: exact where the candidates can be listed.

    Elsewhere by coordinate descent from the best of a sample and from every gene's first
    and last value, which is exact for costs that grow with each gene.
    """
    rows = candidate_rows(space, budget or Budget({}))
    if rows is not None:
        costs = space.cost(rows)
        return {name: float(np.nanmin(column)) for name, column in costs.items()}
    start = extreme_starts(space)
    costs = space.cost(start)
    known = [name for name in space.cost_names if np.isfinite(costs[name]).all()]
    return {name: float(space.cost(descend(space, start, name))[name].item()) for name in known}
