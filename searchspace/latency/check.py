"""How well a table predicts whole networks that it was not built from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from ..architecture import Architecture
from ..errors import InvalidInputError
from ..space import SearchSpace
from .bench import open_session, robust
from .runtimes.base import Runtime
from .table import BlockTable

__all__ = ["Check", "check_table", "unseen"]

Milliseconds = npt.NDArray[np.float64]
PASSES = 8


@dataclass(frozen=True, eq=False)
class Check:
    """Predicted beside measured.

    Attributes:
        archs: held-out networks.
        predicted: ``[N]`` in ms.
        measured: median of all passes, ``[N]`` in ms.
        retest: the machine's own mean absolute difference between the first and the second half of
            the passes, relative.
    """

    archs: tuple[Architecture, ...]
    predicted: Milliseconds
    measured: Milliseconds
    retest: float

    @property
    def errors(self) -> Milliseconds:
        """Signed relative errors, ``[N]``."""
        return (self.predicted - self.measured) / self.measured

    def to_json(self) -> dict[str, Any]:
        """Fractions: mean absolute percentage error, share within 5 and 10 %, Spearman's rho."""
        size = np.abs(self.errors)
        return {
            "networks": len(self.archs),
            "mape": float(size.mean()),
            "within5": float((size <= 0.05).mean()),
            "within10": float((size <= 0.10).mean()),
            "spearman": float(spearmanr(self.predicted, self.measured).statistic),
            "bias": float(np.median(self.errors)),
            "retest_mape": self.retest,
        }


def unseen(table: BlockTable, space: SearchSpace, count: int, seed: int) -> list[Architecture]:
    """Random architectures that the table was not built from, each once."""
    known = {space.parse(w.arch).key for w in table.wholes}
    rng = np.random.default_rng(seed)
    found: dict[str, Architecture] = {}
    for _ in range(50):
        for arch in space.sample(count, rng):
            if arch.key not in known and len(found) < count:
                found.setdefault(arch.key, arch)
        if len(found) == count:
            return list(found.values())
    raise InvalidInputError(
        f"{count} networks to check by; space {space.name!r} gave only {len(found)} that the table"
        " was not built from: ask for fewer"
    )


def check_table(
    table: BlockTable,
    space: SearchSpace,
    runtime: Runtime,
    *,
    networks: int = 100,
    passes: int = PASSES,
    seconds: float = 120.0,
    seed: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> Check:
    """Measure held-out whole networks on this machine and predict them.

    Args:
        table: to be checked.
        space: at one of its resolutions.
        runtime: made with the table's setting.
        networks: how many.
        passes: over all of them; the two halves say how well the machine repeats itself.
        seconds: to spend measuring.
        seed: of the networks.
        progress: told what is done.

    Raises:
        InvalidInputError: if the space is too small, or fewer than 2 networks or passes are asked
            for.
    """
    if networks < 2 or passes < 2:
        raise InvalidInputError(f"{networks} networks in {passes} passes; need at least 2 of each")
    say = progress or (lambda *_: None)
    archs = unseen(table, space, networks, seed)
    rows = space.encode(archs)
    predicted = table.latency(space, rows)
    plan = table.ready(space)[0]
    session = open_session(
        space, plan, rows, runtime, progress=lambda done: say("loading networks", done, networks)
    )
    sweeps = session.sweeps_in(seconds / passes, parts=False)
    times = []
    for i in range(passes):
        say("timing networks", i, passes)
        times.append(session.run(sweeps, parts=False).whole)
    say("timing networks", passes, passes)
    measured, _ = robust(np.concatenate(times))
    half = passes // 2
    first, _ = robust(np.concatenate(times[:half]))
    second, _ = robust(np.concatenate(times[half:]))
    retest = float(np.mean(np.abs(first - second) / second))
    return Check(tuple(archs), predicted, measured, retest)
