"""What a schedule of supernet training is: phases, and the passes of a step.

A schedule says what is trained and in what proportion, never for how long: shares become
steps when a run's epochs or multiply-accumulates are known (:mod:`.plan`). A new one is a
file in :mod:`.schedules` with a function that :func:`register_schedule` decorates.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..searchspace.errors import InvalidInputError
from ..searchspace.registry import Registry

__all__ = [
    "DRAWS",
    "KINDS",
    "SCHEDULES",
    "Pass",
    "Phase",
    "Schedule",
    "kind_of",
    "register_schedule",
]

KINDS = ("kernel", "depth", "width")
"""What a gene changes in a network; everything that is neither of the first two is a width."""

DRAWS = ("largest", "smallest", "random", "spread", "best", "worst")
"""Which architecture a pass trains.

``"random"`` is uniform over gene values, ``"spread"`` over multiply-accumulates: a target
between the smallest's and the largest's, then a random one near it. ``"best"`` and
``"worst"`` draw several near such a target and take the one whose loss on the step's images
is lowest or highest (AttentiveNAS: Wang et al., CVPR 2021, §3.3).
"""

#: Whose answers a pass learns: the largest's of the same step, the largest's as it was when the
#: phase began, or an external teacher's.
SOURCES = ("largest", "frozen", "external")


def kind_of(gene: str) -> str:
    """The kind of a gene by its name."""
    if gene.startswith("kernel"):
        return "kernel"
    return "depth" if re.match(r"depth|layers|d[0-9]", gene) else "width"


@dataclass(frozen=True)
class Pass:
    """One forward and backward pass of a step, or ``count`` alike.

    Attributes:
        draw: one of :data:`DRAWS`.
        count: how many architectures.
        labels: weight of the cross-entropy with the labels.
        soft: weight of the divergence from the teacher's answers.
        source: one of :data:`SOURCES`, where ``soft`` is above 0.
        candidates: from how many ``"best"`` and ``"worst"`` choose.
        objective: name of the loss, see :mod:`.objective`.
        options: what the objective takes beside, such as an attack's strength.
    """

    draw: str
    count: int = 1
    labels: float = 0.0
    soft: float = 0.0
    source: str = "largest"
    candidates: int = 1
    objective: str = "distil"
    options: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.draw not in DRAWS:
            raise InvalidInputError(f"draw = {self.draw!r}; one of {', '.join(DRAWS)}")
        if self.source not in SOURCES:
            raise InvalidInputError(f"source = {self.source!r}; one of {', '.join(SOURCES)}")
        if self.count < 1 or self.candidates < 1:
            raise InvalidInputError(
                f"count = {self.count}, candidates = {self.candidates}; need at least 1"
            )
        if min(self.labels, self.soft) < 0.0 or self.labels + self.soft == 0.0:
            raise InvalidInputError(
                f"labels = {self.labels:g}, soft = {self.soft:g}; need weights of at least 0, one"
                " above"
            )
        if self.draw == "largest" and self.soft and self.source == "largest":
            raise InvalidInputError("the largest network cannot learn its own answers")


@dataclass(frozen=True)
class Phase:
    """A stretch of training whose steps are alike.

    Attributes:
        name: shown in progress and curves.
        share: of the steps, relative to the other phases'.
        passes: of each step, in order; the largest's before those that learn from it.
        free: kind of gene → how many of its values may be drawn, counted from the largest's
            down; ``None``: all. Kinds that are not named stay at the largest's.
        ramp: let the gradient of all but the largest grow from 0 to its whole.
        sort: before the first step, put the channels in order of importance, ``"stage0"`` or
            ``"stage1"`` (see :mod:`.sort`).
        sort_state: whether momentum and averaged weights are permuted with them.
        freeze: before the first step, keep the largest as it is as teacher of source
            ``"frozen"``.
        lr: peak, as a share of the run's, of a cosine of the phase's own; ``None``: the
            phase goes on along the cosine that runs through all phases without one.
    """

    name: str
    share: float
    passes: tuple[Pass, ...]
    free: Mapping[str, int | None] = field(default_factory=lambda: dict.fromkeys(KINDS))
    ramp: bool = False
    sort: str | None = None
    sort_state: bool = True
    freeze: bool = False
    lr: float | None = None

    def __post_init__(self) -> None:
        if not self.share > 0.0:
            raise InvalidInputError(f"share = {self.share:g} of phase {self.name!r}; need above 0")
        if unknown := set(self.free) - set(KINDS):
            raise InvalidInputError(
                f"phase {self.name!r} frees {sorted(unknown)}; kinds are {', '.join(KINDS)}"
            )
        if not self.passes:
            raise InvalidInputError(f"phase {self.name!r} has no passes")


@dataclass(frozen=True)
class Schedule:
    """Phases and what is the same in all of them.

    Attributes:
        name: registered name.
        phases: in order.
        divergence: of soft passes, see :data:`~scholarch.supernet.losses.DIVERGENCES`.
        clip: largest absolute value of a gradient's entry; ``None``: not clipped.
        average: decay of the averaged weights that are evaluated and handed over; 0: the
            weights themselves.
        reference: paper and section.
    """

    name: str
    phases: tuple[Phase, ...]
    divergence: str = "soft-ce"
    clip: float | None = None
    average: float = 0.0
    reference: str = ""

    def sources(self) -> set[str]:
        """Whose answers are learned."""
        return {p.source for phase in self.phases for p in phase.passes if p.soft}

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


ScheduleFactory = Callable[..., Schedule]
SCHEDULES: Registry[ScheduleFactory] = Registry("schedule")


def register_schedule(name: str) -> Callable[[ScheduleFactory], ScheduleFactory]:
    """Register ``f(**options) -> Schedule`` under ``name``."""

    def register(factory: ScheduleFactory) -> ScheduleFactory:
        return SCHEDULES.add(name, factory)

    return register
