"""Progressive shrinking (OFA: Cai et al., ICLR 2020, §3.3) and CompOFA's shorter form.

Shares are the released code's epochs, peaks of the learning rate relative to the teacher's.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..schedule import Pass, Phase, Schedule, register_schedule

__all__: list[str] = []

#: Peaks of once-for-all's phases, of 64 images, over 0.08, the teacher's.
_KERNEL, _FIRST, _SECOND = 0.03 / 0.08, 0.0025 / 0.08, 0.0075 / 0.08


def _shrink(
    name: str,
    epochs: float,
    networks: int,
    lr: float,
    free: Mapping[str, int | None],
    *,
    sort: str | None = None,
    freeze: bool = False,
) -> Phase:
    passes = (Pass("random", networks, labels=1.0, soft=1.0, source="frozen"),)
    return Phase(name, epochs, passes, free=free, lr=lr, sort=sort, freeze=freeze)


def _teacher() -> Phase:
    return Phase("largest", 180, (Pass("largest", labels=1.0),), lr=1.0)


@register_schedule("progressive")
def progressive() -> Schedule:
    """The largest alone; then kernels, depths and widths become elastic, one after the other.

    Every network drawn learns the labels and the answers of the largest as it was when the
    shrinking began: one network a step for kernels, two for depths, four for widths.
    """
    kernels: dict[str, int | None] = {"kernel": None}
    depths = {**kernels, "depth": None}
    return Schedule(
        "progressive",
        (
            _teacher(),
            _shrink("kernels", 125, 1, _KERNEL, kernels, freeze=True),
            _shrink("depths, upper", 25, 2, _FIRST, {**kernels, "depth": 2}),
            _shrink("depths", 125, 2, _SECOND, depths),
            _shrink("widths, upper", 25, 4, _FIRST, {**depths, "width": 2}, sort="stage0"),
            _shrink("widths", 125, 4, _SECOND, {**depths, "width": None}),
        ),
        reference="OFA: Cai et al., ICLR 2020, §3.3",
    )


@register_schedule("compound")
def compound() -> Schedule:
    """The largest alone; then everything becomes elastic in two phases.

    CompOFA's space ties widths to depths (``compofa``); its schedule works on any.
    """
    upper = {"kernel": None, "depth": 2, "width": 2}
    return Schedule(
        "compound",
        (
            _teacher(),
            _shrink("upper", 25, 4, _FIRST, upper, sort="stage0", freeze=True),
            _shrink("all", 125, 4, _SECOND, dict.fromkeys(("kernel", "depth", "width"))),
        ),
        reference="CompOFA: Sahni et al., ICLR 2021, §3.3",
    )
