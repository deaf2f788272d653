"""How strong an attack is, in numbers that stand beside every robust accuracy."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from ...searchspace.errors import InvalidInputError

__all__ = ["EPSILON", "RSLAD_SHARE", "STEP", "TRADES_BETA", "Attack"]

#: 8/255 and 2/255 as robust training of CIFAR writes them (Zhang et al., ICML 2019, §5.3).
EPSILON = 0.031
STEP = 0.0078

#: Zhang et al., ICML 2019, §5.3: 1/λ = 6 on CIFAR-10.
TRADES_BETA = 6.0

#: Zi et al., ICCV 2021, §4.1: α = 5/6 of the weight on adversarial images. ProARD takes it over.
RSLAD_SHARE = 5.0 / 6.0


@dataclass(frozen=True, slots=True)
class Attack:
    """What an image has to withstand: PGD on each of the losses, one after the other.

    Attributes:
        epsilon: largest change of a pixel, in units of the [0, 1] range.
        step: of the ascent, in the same units.
        steps: of each run.
        restarts: runs from different random starts.
        losses: keys of :data:`~.attack.LOSSES` that take labels. An image withstands the
            attack if it is named rightly after every one of them.

    Raises:
        InvalidInputError: if a number is out of range.

    Example:
        >>> print(Attack())
        PGD-20, ε 0.031, step 0.0078, 1 restart, margin and ce, the worst for each image
    """

    epsilon: float = EPSILON
    step: float = STEP
    steps: int = 20
    restarts: int = 1
    losses: tuple[str, ...] = ("margin", "ce")

    def __post_init__(self) -> None:
        if not 0.0 < self.epsilon <= 1.0:
            raise InvalidInputError(
                f"epsilon = {self.epsilon:g}; need above 0 and at most 1, in units of the images'"
                f" range (8/255 is {EPSILON})"
            )
        if not 0.0 < self.step < math.inf:
            raise InvalidInputError(f"step = {self.step:g}; need a number above 0")
        if self.steps < 1 or self.restarts < 1:
            raise InvalidInputError(
                f"steps = {self.steps}, restarts = {self.restarts}; need at least 1 each"
            )
        if not self.losses or not set(self.losses) <= {"ce", "margin"}:
            raise InvalidInputError(
                f"losses = {list(self.losses)}; need one or more of ce and margin"
            )

    def __str__(self) -> str:
        times = f"{self.restarts} restart{'s' if self.restarts > 1 else ''}"
        losses = " and ".join(self.losses)
        worst = ", the worst for each image" if len(self.losses) > 1 else ""
        return f"PGD-{self.steps}, ε {self.epsilon:g}, step {self.step:g}, {times}, {losses}{worst}"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)
