"""Distillers that compare logits, as scores at initialisation.

The student's classifier is taken at its usual initialisation N(0, 1/fan_in): under N(0, 1) the
softmax would be saturated. A given one is taken as it is. See
:mod:`~scholarch.proxies.kd_matching` for what such scores are.
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional

from ..searchspace.errors import InvalidInputError
from .diswot import needs_classifier, teacher_of
from .kd_matching import KD_NEEDS
from .probe import Probe, TeacherSide
from .registry import register_proxy

__all__ = ["kd_dist", "kd_logits"]

#: Temperature of both: KD's usual, and DIST's on CIFAR-100.
TEMPERATURE = 4.0

#: DIST's weights of inter-class and intra-class relations on CIFAR-100.
BETA, GAMMA = 2.0, 2.0


def _student(probe: Probe) -> Tensor:
    """Logits over T, float64 ``[B, K]``."""
    scale = 1.0 if probe.given else math.sqrt(probe.pooled.shape[1])
    return probe.logits.double() / scale / TEMPERATURE


def _teacher(teacher: TeacherSide) -> Tensor:
    if teacher.taps.logits is None:
        raise InvalidInputError("the teacher has no classifier, hence no logits to compare")
    return teacher.taps.logits.double() / TEMPERATURE


@register_proxy(
    "kd-logits",
    source="KD (Hinton et al., 2015)",
    needs=KD_NEEDS,
    direction=-1,
    check=needs_classifier,
)
def kd_logits(probe: Probe) -> float:
    """T² · KL(softmax(z_T/T) ‖ softmax(z_S/T)), T = 4, the mean over images."""
    target = teacher_of(probe).memo("kd_logits", _teacher).log_softmax(dim=1)
    given = _student(probe).log_softmax(dim=1)
    divergence = functional.kl_div(given, target, reduction="batchmean", log_target=True)
    return TEMPERATURE**2 * float(divergence)


def correlation_distance(a: Tensor, b: Tensor) -> float:
    """1 − Pearson correlation of each row, the mean over rows; constant rows correlate 0.

    Args:
        a: float64 ``[N, D]``.
        b: likewise.
    """
    x, y = (functional.normalize(z - z.mean(dim=1, keepdim=True), dim=1) for z in (a, b))
    return 1.0 - float((x * y).sum(dim=1).mean())


@register_proxy(
    "kd-dist",
    source="DIST (Huang et al., NeurIPS 2022)",
    needs=KD_NEEDS,
    direction=-1,
    check=needs_classifier,
)
def kd_dist(probe: Probe) -> float:
    """T² · (2 · inter + 2 · intra): 1 − Pearson correlation of the soft labels, T = 4.

    Inter compares each image's probabilities of the classes, intra each class's over images.
    """
    given = _student(probe).softmax(dim=1)
    target = teacher_of(probe).memo("kd_logits", _teacher).softmax(dim=1)
    inter = correlation_distance(given, target)
    intra = correlation_distance(given.T, target.T)
    return TEMPERATURE**2 * (BETA * inter + GAMMA * intra)
