"""Attentive sampling (AttentiveNAS: Wang et al., CVPR 2021; AlphaNet: Wang et al., ICML 2021)."""

from __future__ import annotations

from ..schedule import Pass, Phase, Schedule, register_schedule
from .sandwich import sandwich_passes

__all__: list[str] = []


def _attentive(name: str, draw: str, random: int, candidates: int) -> Schedule:
    passes = sandwich_passes(Pass(draw, random, soft=1.0, candidates=candidates))
    reference = "AttentiveNAS: Wang et al., CVPR 2021, §3.3"
    return Schedule(name, (Phase(name, 1.0, passes),), reference=reference)


@register_schedule("bestup")
def bestup(*, random: int = 2, candidates: int = 3) -> Schedule:
    """The sandwich rule; of ``candidates`` at a random cost the one of lowest loss is trained.

    Args:
        random: architectures trained a step beside the largest and the smallest.
        candidates: looked at for each of them, by a forward pass.
    """
    return _attentive("bestup", "best", random, candidates)


@register_schedule("worstup")
def worstup(*, random: int = 2, candidates: int = 3) -> Schedule:
    """Likewise, the one of highest loss.

    Args:
        random: architectures trained a step beside the largest and the smallest.
        candidates: looked at for each of them, by a forward pass.
    """
    return _attentive("worstup", "worst", random, candidates)


@register_schedule("alpha")
def alpha(*, random: int = 2) -> Schedule:
    """The sandwich rule with the adaptive α-divergence, gradients clipped at 1.

    Args:
        random: architectures drawn a step.
    """
    passes = sandwich_passes(Pass("random", random, soft=1.0))
    return Schedule(
        "alpha",
        (Phase("sandwich", 1.0, passes),),
        divergence="alpha",
        clip=1.0,
        reference="AlphaNet: Wang et al., ICML 2021, §4",
    )
