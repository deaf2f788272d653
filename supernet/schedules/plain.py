"""The largest network alone, and random ones alone: what the others are measured against."""

from __future__ import annotations

from ..schedule import Pass, Phase, Schedule, register_schedule

__all__: list[str] = []


@register_schedule("largest")
def largest() -> Schedule:
    """The largest network alone, as any network is trained."""
    return Schedule("largest", (Phase("largest", 1.0, (Pass("largest", labels=1.0),)),))


@register_schedule("single-path")
def single_path(*, random: int = 1) -> Schedule:
    """Uniform single-path training: random networks by labels (SPOS: Guo et al., ECCV 2020).

    Args:
        random: architectures drawn a step.
    """
    passes = (Pass("random", random, labels=1.0),)
    return Schedule(
        "single-path", (Phase("random", 1.0, passes),), reference="SPOS: Guo et al., ECCV 2020"
    )
