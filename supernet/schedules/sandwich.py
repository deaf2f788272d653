"""The sandwich rule from the first step on (BigNAS: Yu et al., ECCV 2020, §3.1)."""

from __future__ import annotations

from ..schedule import Pass, Phase, Schedule, register_schedule

__all__: list[str] = []


@register_schedule("sandwich")
def sandwich(*, random: int = 2, draw: str = "random") -> Schedule:
    """The largest by labels, the smallest and ``random`` more by the largest's answers.

    Args:
        random: architectures drawn a step.
        draw: how, see :data:`~scholarch.supernet.schedule.DRAWS`.
    """
    passes = (
        Pass("largest", labels=1.0),
        Pass("smallest", soft=1.0),
        *((Pass(draw, random, soft=1.0),) if random else ()),
    )
    return Schedule(
        "sandwich", (Phase("sandwich", 1.0, passes),), reference="BigNAS: Yu et al., ECCV 2020"
    )
