"""Soft labels alone, of one teacher or of several."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ....searchspace.errors import InvalidInputError
from ...losses import at_least_float32, kl_divergence
from ..checks import classes_of, logits_of, positive
from ..distiller import Distiller, Pair, Sides, register_distiller

__all__ = ["Soft"]

DIVERGENCES = ("kl", "js")


@register_distiller("soft")
class Soft(Distiller):
    """Soft labels alone: MEAL V2 (Shen and Savvides, 2020, §3) and SSLD (Cui et al., 2021, §3).

    No label is read. MEAL V2 takes KL(teacher ‖ student) at T = 1 of the mean probabilities of
    its teachers; its discriminator of logits is left out. SSLD takes the Jensen-Shannon
    divergence, ½ KL(p ‖ m) + ½ KL(q ‖ m) with m = (p + q)/2, of one teacher. Both start from
    a student that is trained already.

    Args:
        sides: shapes.
        divergence: ``"kl"``, MEAL V2's, or ``"js"``, SSLD's.
        temperature: T; the loss is multiplied by its square.
        weight: of the loss.
    """

    logits_only = True
    of_classes = True
    labels = 0.0

    def __init__(
        self,
        sides: Sides,
        *,
        divergence: str = "kl",
        temperature: float = 1.0,
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        classes_of(sides)
        if divergence not in DIVERGENCES:
            raise InvalidInputError(
                f"divergence = {divergence!r} of the distiller; need one of"
                f" {', '.join(DIVERGENCES)}"
            )
        self.divergence = divergence
        self.temperature = positive("temperature", temperature)
        self.weight = positive("weight", weight)

    def forward(self, pair: Pair) -> Tensor:
        """The loss of a batch."""
        divergence = kl_divergence if self.divergence == "kl" else jensen_shannon
        return self.weight * divergence(*logits_of(pair), self.temperature)


def jensen_shannon(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """T² · JS of the softmaxes of logits ``[B, K]`` over T, the mean over images."""
    log_q, log_p = (
        (at_least_float32(logits) / temperature).log_softmax(dim=1) for logits in (student, teacher)
    )
    log_m = torch.logaddexp(log_p, log_q) - math.log(2.0)
    both = log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)
    return 0.5 * both.sum(dim=1).mean() * temperature**2
