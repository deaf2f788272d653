"""What networks of a supernet are trained on: labels, and the soft targets of a larger one.

Every loss is the mean over the batch, computed in float32 or better whatever the logits'
type: a KL divergence in bfloat16 has no digits left. No gradient flows into the teacher.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from ..searchspace.errors import InvalidInputError

__all__ = [
    "DIVERGENCES",
    "Divergence",
    "alpha_divergence",
    "at_least_float32",
    "cross_entropy",
    "kl_divergence",
    "soft_cross_entropy",
]


class Divergence(Protocol):
    """How far a student's logits are from a teacher's, a scalar to be minimised."""

    def __call__(self, student: Tensor, teacher: Tensor, temperature: float = 1.0, /) -> Tensor: ...


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy with labels, smoothed (Szegedy et al., CVPR 2016, §7).

    Args:
        logits: ``[B, K]``.
        labels: int64 ``[B]``.
        smoothing: share of the target spread evenly over all K classes, 0 to 1.
    """
    return functional.cross_entropy(at_least_float32(logits), labels, label_smoothing=smoothing)


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """``T² · CE(softmax(teacher / T), softmax(student / T))`` (Hinton et al., 2015, §2).

    Its gradient is that of :func:`kl_divergence`; its value has the teacher's entropy on top.

    Args:
        student: logits ``[B, K]``.
        teacher: logits ``[B, K]``.
        temperature: T, above 0.

    Raises:
        InvalidInputError: if the temperature is not above 0.
    """
    target, log_student = _softened(student, teacher, temperature)
    return -(target.exp() * log_student).sum(1).mean() * temperature**2


def kl_divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """``T² · KL(softmax(teacher / T) ‖ softmax(student / T))``; arguments as above.

    Raises:
        InvalidInputError: if the temperature is not above 0.
    """
    target, log_student = _softened(student, teacher, temperature)
    return (target.exp() * (target - log_student)).sum(1).mean() * temperature**2


def alpha_divergence(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 1.0,
    *,
    alpha_min: float = -1.0,
    alpha_max: float = 1.0,
    clip: float = 5.0,
) -> Tensor:
    """The larger of two α-divergences, sample by sample (AlphaNet, Wang et al., ICML 2021, §4).

    With p the teacher and q the student, ``D_α(p‖q) = Σ q·[(p/q)^α - 1] / (α(α - 1))``, whose
    limits are KL(p‖q) at α = 1 and KL(q‖p) at α = 0. A negative α punishes a student that is
    less sure than its teacher, a positive one a student that is surer.

    The gradient is ``-1/α · Σ q·w·∇log q`` with the importance weight ``w = (p/q)^α`` held
    constant and clipped; without a clip that is the gradient of D_α itself. α = 1 needs no
    clip (q·w = p) and has none, as in the authors' program. The value is that of the
    divergence with the same clipped weights, where theirs returns the expression from which
    it takes the gradient. They advise to clip gradients by value, at 1.0, beside this loss.

    Args:
        student: logits ``[B, K]``.
        teacher: logits ``[B, K]``.
        temperature: divides both logits; the loss is multiplied by its square.
        alpha_min: the lower α.
        alpha_max: the upper α.
        clip: largest importance weight, above 0; ``math.inf`` for none.

    Raises:
        InvalidInputError: if the temperature or the clip is not above 0.
    """
    if not clip > 0.0:
        raise InvalidInputError(f"clip = {clip}; need a number above 0 (the paper's is 5)")
    log_p, log_q = _softened(student, teacher, temperature)
    value_min, surrogate_min = _alpha(log_p, log_q, alpha_min, clip)
    value_max, surrogate_max = _alpha(log_p, log_q, alpha_max, clip)
    below = value_min > value_max
    surrogate = torch.where(below, surrogate_min, surrogate_max).mean()
    value = torch.where(below, value_min, value_max).mean()
    # The value of one and the gradient of the other.
    return (value + (surrogate - surrogate.detach())) * temperature**2


DIVERGENCES: dict[str, Divergence] = {
    "soft-ce": soft_cross_entropy,
    "kl": kl_divergence,
    "alpha": alpha_divergence,
}
"""By name, for settings: soft targets of once-for-all and BigNAS, their KL, AlphaNet's."""


def at_least_float32(logits: Tensor) -> Tensor:
    """Half-precision logits as float32; float64 stays, for checks of gradients."""
    return logits if logits.dtype == torch.float64 else logits.float()


def _softened(student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probabilities of teacher, without gradient, and student."""
    if not 0.0 < temperature < math.inf:
        raise InvalidInputError(f"temperature = {temperature}; need a number above 0")
    log_teacher = (at_least_float32(teacher.detach()) / temperature).log_softmax(1)
    return log_teacher, (at_least_float32(student) / temperature).log_softmax(1)


def _alpha(log_p: Tensor, log_q: Tensor, alpha: float, clip: float) -> tuple[Tensor, Tensor]:
    """``[B]`` values without a gradient, and ``[B]`` expressions that have D_α's gradient."""
    fixed = log_q.detach()
    q = fixed.exp()
    log_ratio = log_p - fixed
    if alpha == 1.0:
        p = log_p.exp()
        return (p * log_ratio).sum(1), -(p * log_q).sum(1)
    if alpha == 0.0:
        log_ratio = log_ratio.clamp(max=math.log(clip))
        return -(q * log_ratio).sum(1), -(q * log_ratio * log_q).sum(1)
    weight = (alpha * log_ratio).exp().clamp(max=clip)
    value = (q * (weight - 1.0)).sum(1) / (alpha * (alpha - 1.0))
    return value, -(q * weight * log_q).sum(1) / alpha
