"""Knowledge review: the student's deep stages help its shallow ones."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..checks import positive, share, whole
from ..distiller import Distiller, Pair, Shapes, Sides, register_distiller
from ..layers import batch_norm, convolution, generator_of, one_by_one
from ..matching import matched_indices
from ..warmup import ramp

__all__ = ["AttentionFusion", "ReviewKD", "hierarchical_context_loss"]

#: Sides of the grids on which maps are compared besides their own.
GRIDS = (4, 2, 1)


@register_distiller("reviewkd")
class ReviewKD(Distiller):
    """ReviewKD: deep stages are reviewed with the shallow ones (Chen et al., CVPR 2021, §3).

    From the deepest level, the features that the classifier is given, to the shallowest stage
    the student's maps are fused with what has come from below (ABF) and compared with the
    teacher's map of that level (HCL); the sum over levels is taken. As in the authors' program
    it is multiplied by a linear warm-up, 20 of 240 epochs. Their weight is chosen teacher by
    teacher, from .6 to 8; 1 is their program's default.

    Args:
        sides: shapes.
        weight: of the loss.
        warmup: share of the steps in which the loss grows from 0.
        width: at most so many channels are passed on from level to level.
    """

    zero_at_teacher = False

    def __init__(
        self, sides: Sides, *, weight: float = 1.0, warmup: float = 20 / 240, width: int = 512
    ) -> None:
        super().__init__()
        self.weight = positive("weight", weight)
        self.warmup = share("warmup", warmup)
        self.pairs = matched_indices(sides)
        student = [_levels(sides.student)[i] for i, _ in self.pairs] + [sides.student.pooled]
        teacher = [_levels(sides.teacher)[j] for _, j in self.pairs] + [sides.teacher.pooled]
        passed = min(whole("width", width), sides.student.pooled)
        generator = generator_of(sides.seed)
        deepest = len(student) - 1
        self.fusions = nn.ModuleList(
            AttentionFusion(s, passed, t, generator, fuse=level < deepest)
            for level, (s, t) in enumerate(zip(student, teacher, strict=True))
        )

    def forward(self, pair: Pair) -> Tensor:
        """The loss of a batch."""
        student = [pair.student.stages[i] for i, _ in self.pairs]
        teacher = [pair.teacher.stages[j] for _, j in self.pairs]
        for maps, taps in ((student, pair.student), (teacher, pair.teacher)):
            maps.append(taps.pooled[:, :, None, None])
        passed = None
        losses = []
        for fusion, s, t in zip(reversed(self.fusions), student[::-1], teacher[::-1], strict=True):
            size = (int(t.shape[2]), int(t.shape[3]))
            given, passed = cast(AttentionFusion, fusion)(s, passed, size)
            losses.append(hierarchical_context_loss(given, t.detach()))
        return ramp(pair.progress, self.warmup) * self.weight * torch.stack(losses).sum()


class AttentionFusion(nn.Module):
    """ABF: a level's map fused with the deeper one's, position by position (§3.3, fig. 3a).

    Args:
        inputs: channels of the student's map.
        width: channels that are passed on.
        outputs: channels of the teacher's map.
        generator: of the weights.
        fuse: whether there is a deeper level.
    """

    def __init__(
        self, inputs: int, width: int, outputs: int, generator: torch.Generator, *, fuse: bool
    ) -> None:
        super().__init__()
        self.narrow = nn.Sequential(one_by_one(inputs, width, generator), batch_norm(width))
        self.widen = nn.Sequential(convolution(width, outputs, 3, generator), batch_norm(outputs))
        self.attention = convolution(2 * width, 2, 1, generator, bias=True) if fuse else None

    def forward(
        self, x: Tensor, deeper: Tensor | None, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """What is compared with the teacher's map of ``size``, and what is passed on."""
        x = self.narrow(x)
        if self.attention is not None and deeper is not None:
            deeper = functional.interpolate(deeper, x.shape[2:], mode="nearest")
            shares = self.attention(torch.cat([x, deeper], dim=1)).sigmoid()
            x = x * shares[:, :1] + deeper * shares[:, 1:]
        if x.shape[2:] != size:
            x = functional.interpolate(x, size, mode="nearest")
        return self.widen(x), x


def hierarchical_context_loss(a: Tensor, b: Tensor) -> Tensor:
    """HCL: mean squares on the maps' own grid and pooled to 4×4, 2×2 and 1×1 (§3.3, fig. 3b).

    Grids not smaller than the maps are left out; each next one weighs half the last, and the
    weights are divided by their sum.

    Args:
        a: ``[B, C, H, W]``.
        b: ``[B, C, H, W]``.
    """
    loss = functional.mse_loss(a, b)
    weight = total = 1.0
    for side in GRIDS:
        if side >= min(a.shape[2:]):
            continue
        weight /= 2.0
        total += weight
        coarse_a, coarse_b = (functional.adaptive_avg_pool2d(x, side) for x in (a, b))
        loss = loss + weight * functional.mse_loss(coarse_a, coarse_b)
    return loss / total


def _levels(shapes: Shapes) -> list[int]:
    return [channels for channels, _, _ in shapes.stages]
