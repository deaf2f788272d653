"""The sandwich rule from the first step on (BigNAS: Yu et al., ECCV 2020, §3.1)."""

from __future__ import annotations

from ..schedule import Pass, Phase, Schedule, register_schedule

__all__ = ["sandwich_passes"]


def sandwich_passes(*between: Pass, labels: float = 0.0) -> tuple[Pass, ...]:
    """The largest by labels, then the smallest and those between by its answers.

    Args:
        between: passes that follow.
        labels: weight of the labels in what the smallest learns, beside the answers' 1.
    """
    return (Pass("largest", labels=1.0), Pass("smallest", labels=labels, soft=1.0), *between)


@register_schedule("sandwich")
def sandwich(*, random: int = 2, draw: str = "random") -> Schedule:
    """The largest by labels, the smallest and ``random`` more by the largest's answers.

    Args:
        random: architectures drawn a step.
        draw: how, see :data:`~scholarch.supernet.schedule.DRAWS`.
    """
    passes = sandwich_passes(*((Pass(draw, random, soft=1.0),) if random else ()))
    return Schedule(
        "sandwich", (Phase("sandwich", 1.0, passes),), reference="BigNAS: Yu et al., ECCV 2020"
    )
