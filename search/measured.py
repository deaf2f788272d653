"""The top of a front, timed on this machine, beside what its latency table predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..searchspace.errors import ScholarchError
from ..searchspace.latency.bench import open_session, robust
from ..searchspace.latency.build import host_words
from ..searchspace.latency.runtimes.base import Setting, create_runtime
from ..searchspace.latency.table import BlockTable
from ..searchspace.space import SearchSpace

__all__ = ["Measured", "measure", "over_budget", "read_measured"]

#: How many of the front are timed, in how many sweeps.
TOP, _SWEEPS = 5, 30


@dataclass(frozen=True, slots=True)
class Measured:
    """One architecture on one device.

    Attributes:
        key: of the architecture.
        arch: in the space's notation.
        device: the table's.
        predicted: by the table, in ms.
        measured: median, in ms.
        spread: standard error relative to it.
    """

    key: str
    arch: str
    device: str
    predicted: float
    measured: float
    spread: float

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def measure(
    space: SearchSpace, keys: Mapping[str, str], notes: list[str] | None = None
) -> list[Measured]:
    """Time architectures under every attached table that was built on this machine.

    Args:
        space: with its tables.
        keys: key → notation.
        notes: why a table's runtime could not be used is added here.
    """
    found: list[Measured] = []
    if not keys:
        return found
    rows = space.encode([space.parse(text) for text in keys.values()])
    for device, table in space.tables.items():
        if not isinstance(table, BlockTable) or table.host != host_words():
            continue
        setting = dict(table.setting)
        try:
            runtime = create_runtime(str(setting.pop("runtime")), Setting(**setting))
            session = open_session(space, table.ready(space)[0], rows, runtime)
            times = session.run(_SWEEPS, parts=False).whole
        except (ScholarchError, TypeError) as error:
            if notes is not None:
                notes.append(f"The front was not timed on {device}: {error}.")
            continue
        ms, spread = robust(times)
        predicted = table.latency(space, rows)
        found += [
            Measured(key, text, device, float(p), float(m), float(s))
            for (key, text), p, m, s in zip(keys.items(), predicted, ms, spread, strict=True)
        ]
    return found


def over_budget(measured: Sequence[Measured], budget: Mapping[str, float]) -> set[str]:
    """Keys of architectures that took longer than their bound when they were timed."""
    return {
        one.key for one in measured if one.measured > budget.get(f"latency:{one.device}", np.inf)
    }


def read_measured(data: Any) -> list[Measured]:
    """What ``run.json`` holds; empty where there is none."""
    return [Measured(**line) for line in data or ()]
