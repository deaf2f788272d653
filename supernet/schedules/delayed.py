"""Delayed shrinking (DεpS: Annavajjala et al., 2024, §3): warm up first, shrink late, gently."""

from __future__ import annotations

from ...searchspace.errors import InvalidInputError
from ..schedule import Pass, Phase, Schedule, register_schedule
from .sandwich import sandwich_passes

__all__: list[str] = []

#: Share of the ramp in DεpS' 270 epochs.
_RAMP = 5 / 270


@register_schedule("delayed")
def delayed(
    *,
    warmup: float = 0.5,
    ramp: float = _RAMP,
    random: int = 2,
    draw: str = "random",
    labels: float = 1.0,
    average: float = 0.0,
) -> Schedule:
    """Half of the steps warm the largest network up alone; then its channels are sorted.

    From there on four passes a step, the smallest and two random ones learning the largest's
    answers, their gradients growing from nothing over a ramp. Channels may move anywhere, and
    momentum and averaged weights move with them. Beside the answers they learn the labels,
    which DεpS leaves out (``labels=0``): see ``results/supernet/bench_s.md``.

    Args:
        warmup: share of the steps before the networks learn together, the ramp included.
        ramp: share of the steps in which their gradients grow.
        random: architectures drawn a step beside the largest and the smallest.
        draw: how, see :data:`~scholarch.supernet.schedule.DRAWS`.
        labels: weight of the labels in what the smaller networks learn, beside the answers' 1.
        average: decay of the averaged weights, 0 for none.

    Raises:
        InvalidInputError: if the shares leave no step for one of the phases.
    """
    together = _together(random, draw, labels)
    return _delayed("delayed", warmup, ramp, together, average, sort="stage0", state=True)


@register_schedule("deps-released")
def deps_released(*, warmup: float = 0.5, ramp: float = _RAMP, random: int = 2) -> Schedule:
    """The same as DεpS' code has it: the sort of stage 1, and momentum left where it was.

    To compare with: half of the channels can never move forward, and the optimizer pushes
    each channel with another's momentum.
    """
    together = _together(random, "random", 0.0)
    return _delayed("deps-released", warmup, ramp, together, 0.0, sort="stage1", state=False)


def _together(random: int, draw: str, labels: float) -> tuple[Pass, ...]:
    """The passes of a step in which all networks learn."""
    between = (Pass(draw, random, labels=labels, soft=1.0),) if random else ()
    return sandwich_passes(*between, labels=labels)


def _delayed(
    name: str,
    warmup: float,
    ramp: float,
    together: tuple[Pass, ...],
    average: float,
    *,
    sort: str,
    state: bool,
) -> Schedule:
    if not 0.0 < ramp < warmup < 1.0:
        raise InvalidInputError(
            f"warmup = {warmup:g}, ramp = {ramp:g}; need 0 < ramp < warmup < 1, shares of all steps"
        )
    return Schedule(
        name,
        (
            Phase("warm-up", warmup - ramp, (Pass("largest", labels=1.0),)),
            Phase("ramp", ramp, together, ramp=True, sort=sort, sort_state=state),
            Phase("shrink", 1.0 - warmup, together),
        ),
        average=average,
        reference="DεpS: Annavajjala et al., 2024, §3",
    )
