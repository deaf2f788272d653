"""Decoupled knowledge distillation: the target class apart from the others."""

from __future__ import annotations

import torch
from torch import Tensor

from ...losses import at_least_float32, kl_divergence
from ..checks import classes_of, logits_of, not_negative, positive, share
from ..distiller import Distiller, Pair, Sides, register_distiller
from ..warmup import ramp

__all__ = ["DKD"]


@register_distiller("dkd")
class DKD(Distiller):
    """DKD: α · target-class + β · non-target-class divergence (Zhao et al., CVPR 2022, §3, eq. 7).

    With p the probabilities of logits over T, the first is T² · KL of (p_y, 1 − p_y), the
    second T² · KL of the other classes' probabilities among themselves. Both are multiplied by
    a linear warm-up, 20 of 240 epochs in the authors' recipe for CIFAR-100. Their β is chosen
    teacher by teacher, from 2 to 8 there and .5 to 2 on ImageNet; 8 is their program's default.

    Args:
        sides: shapes.
        temperature: T.
        alpha: weight of the target class against the rest.
        beta: weight of the others among themselves.
        warmup: share of the steps in which the loss grows from 0.
    """

    logits_only = True
    of_classes = True

    def __init__(
        self,
        sides: Sides,
        *,
        temperature: float = 4.0,
        alpha: float = 1.0,
        beta: float = 8.0,
        warmup: float = 20 / 240,
    ) -> None:
        super().__init__()
        classes_of(sides)
        self.temperature = positive("temperature", temperature)
        self.alpha = not_negative("alpha", alpha)
        self.beta = not_negative("beta", beta)
        self.warmup = share("warmup", warmup)

    def forward(self, pair: Pair) -> Tensor:
        """The loss of a batch."""
        student, teacher = logits_of(pair)
        target_s, others_s = _split(student, pair.labels)
        target_t, others_t = _split(teacher, pair.labels)
        target = kl_divergence(
            _against_rest(target_s, others_s, self.temperature),
            _against_rest(target_t, others_t, self.temperature),
        )
        others = kl_divergence(others_s, others_t, self.temperature)
        loss = self.alpha * self.temperature**2 * target + self.beta * others
        return ramp(pair.progress, self.warmup) * loss


def _split(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of the labels ``[B, 1]`` and of the other classes ``[B, K − 1]``."""
    logits = at_least_float32(logits)
    count, classes = logits.shape
    # The k-th of the other classes is k, or k + 1 from the label on.
    others = torch.arange(classes - 1, device=labels.device).expand(count, -1)
    others = others + (others >= labels.unsqueeze(1))
    return logits.gather(1, labels.unsqueeze(1)), logits.gather(1, others)


def _against_rest(target: Tensor, others: Tensor, temperature: float) -> Tensor:
    """Logits of "the label" against "any other", ``[B, 2]``, whose softmax is (p_y, 1 − p_y)."""
    rest = (others / temperature).logsumexp(dim=1, keepdim=True)
    return torch.cat([target / temperature, rest], dim=1)
