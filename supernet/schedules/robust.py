"""Adversarial training of every network (ProARD, 2025): a robust teacher, then its students.

The largest is trained alone by TRADES (Zhang et al., ICML 2019). Where the others join it is
kept as it is, and all of them, the largest too, learn its answers under attack by RSLAD (Zi et
al., ICCV 2021). With PGD of 10 steps a pass costs 26 forward passes in place of 3.

A run keeps what does best on images that nobody attacked; ``evaluations=1`` keeps the last,
which was under attack for longest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ...searchspace.errors import InvalidInputError
from ..robust.strength import EPSILON, RSLAD_SHARE, STEP, TRADES_BETA
from ..schedule import Pass, Schedule, register_schedule
from .delayed import _RAMP, delayed
from .progressive import progressive

__all__: list[str] = []


@register_schedule("robust")
def robust(
    *,
    warmup: float = 0.5,
    ramp: float = _RAMP,
    random: int = 2,
    draw: str = "random",
    average: float = 0.0,
    beta: float = TRADES_BETA,
    share: float = RSLAD_SHARE,
    epsilon: float = EPSILON,
    step: float = STEP,
    attack_steps: int = 10,
) -> Schedule:
    """Delayed shrinking, every pass of it adversarial.

    Args:
        warmup: share of the steps before the networks learn together, the ramp included.
        ramp: share of the steps in which their gradients grow.
        random: architectures drawn a step beside the largest and the smallest.
        draw: how, see :data:`~scholarch.supernet.schedule.DRAWS`.
        average: decay of the averaged weights, 0 for none.
        beta: weight of robustness against accuracy in TRADES.
        share: weight of attacked images in RSLAD, 0 to 1.
        epsilon: largest change of a pixel in training, in units of the images' [0, 1] range.
        step: of the attack, in the same units.
        attack_steps: PGD's steps, at least 1.

    Raises:
        InvalidInputError: if a number is out of range.
    """
    clean = delayed(warmup=warmup, ramp=ramp, random=random, draw=draw, average=average)
    options = _options(beta, share, epsilon, step, attack_steps)
    return _harden(clean, "robust", options, "ProARD, 2025, on DεpS' phases")


@register_schedule("robust-progressive")
def robust_progressive(
    *,
    beta: float = TRADES_BETA,
    share: float = RSLAD_SHARE,
    epsilon: float = EPSILON,
    step: float = STEP,
    attack_steps: int = 10,
) -> Schedule:
    """Progressive shrinking, every pass of it adversarial: ProARD's own phases.

    Args:
        beta: weight of robustness against accuracy in TRADES.
        share: weight of attacked images in RSLAD, 0 to 1.
        epsilon: largest change of a pixel in training, in units of the images' [0, 1] range.
        step: of the attack, in the same units.
        attack_steps: PGD's steps, at least 1.

    Raises:
        InvalidInputError: if a number is out of range.
    """
    options = _options(beta, share, epsilon, step, attack_steps)
    return _harden(progressive(), "robust-progressive", options, "ProARD, 2025")


def _options(
    beta: float, share: float, epsilon: float, step: float, attack_steps: int
) -> dict[str, float]:
    if not (beta >= 0.0 and 0.0 <= share <= 1.0):
        raise InvalidInputError(
            f"beta = {beta:g}, share = {share:g}; need beta of at least 0, share from 0 to 1"
        )
    if not (0.0 < epsilon <= 1.0 and step > 0.0):
        raise InvalidInputError(
            f"epsilon = {epsilon:g}, step = {step:g}; need epsilon above 0 and at most 1, in units"
            " of the images' range, and step above 0"
        )
    if isinstance(attack_steps, bool) or not isinstance(attack_steps, int) or attack_steps < 1:
        raise InvalidInputError(
            f"attack_steps = {attack_steps!r}; need a whole number of at least 1"
        )
    return {
        "beta": beta,
        "share": share,
        "epsilon": epsilon,
        "step": step,
        "attack_steps": attack_steps,
    }


def _harden(clean: Schedule, name: str, options: Mapping[str, float], reference: str) -> Schedule:
    """The first phase by TRADES; from the second on all learn what it has made."""
    first, second, *others = clean.phases
    attack = {k: v for k, v in options.items() if k not in ("beta", "share")}
    teaching = {**attack, "beta": options["beta"]}
    learning = {**attack, "share": options["share"]}

    def student(spec: Pass) -> Pass:
        return replace(
            spec, labels=0.0, soft=1.0, source="frozen", objective="rslad", options=learning
        )

    teacher = tuple(replace(p, objective="trades", options=teaching) for p in first.passes)
    later = [
        replace(phase, passes=tuple(student(p) for p in phase.passes))
        for phase in (replace(second, freeze=True), *others)
    ]
    phases = (replace(first, passes=teacher), *later)
    return replace(clean, name=name, phases=phases, reference=reference)
