"""Distillers that compare how images relate to one another, as scores at initialisation.

All see matrices over the B images alone, so widths need not match and the order of channels is
of no matter. See :mod:`~scholarch.proxies.kd_matching` for what such scores are; whether one
knows its teacher is for the controls to say. *Features* are what the classifier is given.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from .diswot import image_relation, teacher_of
from .kd_matching import KD_NEEDS, student_stages
from .probe import Probe, TeacherSide
from .registry import register_proxy

__all__ = ["kd_cc", "kd_cka", "kd_pkt", "kd_rkd", "kd_rkd_angle", "kd_rkd_distance", "kd_sp"]

#: RKD's weights of distances and angles for classification.
RKD_WEIGHTS = (25.0, 50.0)

#: CC's width and order of the expansion of its Gaussian kernel.
GAMMA, ORDER = 0.4, 2

_EPS = 1e-7


def _features(pooled: Tensor) -> Tensor:
    """float64, moved so that the first image is the origin; equal rows stay exactly equal."""
    pooled = pooled.flatten(1).double()
    return pooled - pooled[:1]


def _teacher_relations(teacher: TeacherSide) -> list[Tensor]:
    return [image_relation(stage) for stage in teacher.taps.stages]


@register_proxy("kd-sp", source="SP (Tung & Mori, ICCV 2019)", needs=KD_NEEDS, direction=-1)
def kd_sp(probe: Probe) -> float:
    """Similarity-preserving loss: Σ over stages of ‖G_S − G_T‖²/B².

    G is the row-normalised Gram matrix of the images' maps. Of the last stage alone this is
    −``diswot-relation``.
    """
    references = teacher_of(probe).memo("kd_stage_relations", _teacher_relations)
    total = 0.0
    for stage, j in student_stages(probe):
        total += float((image_relation(stage) - references[j]).square().mean())
    return total


# ---------------------------------------------------------------------- RKD


def relative_distances(pooled: Tensor) -> Tensor:
    """Euclidean distances between images over their mean, ``[B, F]`` → ``[B, B]``."""
    distances = torch.cdist(
        pooled.double(), pooled.double(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    count = len(pooled)
    mean = distances.sum() / (count * (count - 1))
    return distances / mean if mean > 0 else distances


def triplet_angles(pooled: Tensor) -> Tensor:
    """Cosines of the angles i-j-k at image j, ``[B, F]`` → ``[B, B, B]`` by j, i, k.

    0 where i or k has the same features as j.
    """
    x = _features(pooled)
    gram = x @ x.T
    # ⟨xᵢ − xⱼ, xₖ − xⱼ⟩ out of the Gram matrix: no differences of F features are kept.
    diagonal = gram.diagonal()
    inner = gram.unsqueeze(0) - gram.unsqueeze(2) - gram.unsqueeze(1) + diagonal.view(-1, 1, 1)
    norms = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    scale = torch.where(norms > 0, norms.reciprocal(), 0.0)
    return inner * scale.unsqueeze(1) * scale.unsqueeze(2)


def _teacher_distances(teacher: TeacherSide) -> Tensor:
    return relative_distances(teacher.taps.pooled)


def _teacher_angles(teacher: TeacherSide) -> Tensor:
    return triplet_angles(teacher.taps.pooled)


@register_proxy(
    "kd-rkd-distance", source="RKD-D (Park et al., CVPR 2019)", needs=KD_NEEDS, direction=-1
)
def kd_rkd_distance(probe: Probe) -> float:
    """Mean Huber loss of the features' pairwise distances, each over its network's mean."""
    reference = teacher_of(probe).memo("kd_distances", _teacher_distances)
    loss = functional.huber_loss(relative_distances(probe.pooled), reference, reduction="sum")
    return float(loss) / math.perm(len(probe.pooled), 2)


@register_proxy(
    "kd-rkd-angle", source="RKD-A (Park et al., CVPR 2019)", needs=KD_NEEDS, direction=-1, images=3
)
def kd_rkd_angle(probe: Probe) -> float:
    """Mean Huber loss of the cosines of the angles that three images' features form."""
    count = len(probe.pooled)
    reference = teacher_of(probe).memo("kd_angles", _teacher_angles)
    errors = functional.huber_loss(triplet_angles(probe.pooled), reference, reduction="none")
    # Of i = k the cosine is 1 by definition, unless features coincide.
    errors.diagonal(dim1=1, dim2=2).zero_()
    return float(errors.sum()) / math.perm(count, 3)


@register_proxy(
    "kd-rkd", source="RKD-DA (Park et al., CVPR 2019)", needs=KD_NEEDS, direction=-1, images=3
)
def kd_rkd(probe: Probe) -> float:
    """25 · kd-rkd-distance + 50 · kd-rkd-angle."""
    distance, angle = RKD_WEIGHTS
    return distance * kd_rkd_distance(probe) + angle * kd_rkd_angle(probe)


# ---------------------------------------------------------------------- CC, PKT, CKA


def correlation_congruence(pooled: Tensor) -> Tensor:
    """Gaussian kernel exp(−γ‖x − y‖²) of unit features, expanded to its second order.

    Σₚ exp(−2γ)(2γ)ᵖ/p! ⟨x, y⟩ᵖ with γ = 0.4, ``[B, F]`` → ``[B, B]``.
    """
    unit = functional.normalize(pooled.double(), dim=1)
    cosine = unit @ unit.T
    kernel = torch.zeros_like(cosine)
    for p in range(ORDER + 1):
        weight = math.exp(-2.0 * GAMMA) * (2.0 * GAMMA) ** p / math.factorial(p)
        kernel += weight * cosine**p
    return kernel


def _teacher_congruence(teacher: TeacherSide) -> Tensor:
    return correlation_congruence(teacher.taps.pooled)


@register_proxy("kd-cc", source="CCKD (Peng et al., ICCV 2019)", needs=KD_NEEDS, direction=-1)
def kd_cc(probe: Probe) -> float:
    """Correlation congruence: ‖K_S − K_T‖²/B², K the features' Gaussian kernel."""
    reference = teacher_of(probe).memo("kd_congruence", _teacher_congruence)
    return float((correlation_congruence(probe.pooled) - reference).square().mean())


def neighbour_probabilities(pooled: Tensor) -> Tensor:
    """p(j | i) ∝ (cos + 1)/2 over the other images, ``[B, F]`` → ``[B, B]``, diagonal 0."""
    unit = functional.normalize(pooled.double(), dim=1)
    kernel = (unit @ unit.T + 1.0) / 2.0
    kernel = kernel.clamp_min(_EPS).fill_diagonal_(0.0)
    return kernel / kernel.sum(dim=1, keepdim=True)


def _teacher_probabilities(teacher: TeacherSide) -> Tensor:
    return neighbour_probabilities(teacher.taps.pooled)


@register_proxy("kd-pkt", source="PKT (Passalis & Tefas, ECCV 2018)", needs=KD_NEEDS, direction=-1)
def kd_pkt(probe: Probe) -> float:
    """Mean over images of KL(p_T ‖ p_S), p the other images' conditional probabilities."""
    target = teacher_of(probe).memo("kd_probabilities", _teacher_probabilities)
    given = neighbour_probabilities(probe.pooled)
    divergence = torch.xlogy(target, target) - torch.xlogy(target, given)
    # On the diagonal both are 0, of which xlogy makes 0.
    return float(divergence.sum()) / len(given)


def debiased_hsic(x: Tensor, y: Tensor) -> float:
    """Unbiased estimate of HSIC under linear kernels, up to a common factor.

    Args:
        x: ``[B, F]``, float64, B ≥ 4.
        y: ``[B, F']`` likewise.
    """
    n = len(x)
    k, h = ((z @ z.T).fill_diagonal_(0.0) for z in (x, y))
    ones = float(k.sum()) * float(h.sum()) / ((n - 1) * (n - 2))
    return float((k * h).sum()) + ones - 2.0 / (n - 2) * float((k @ h).sum())


def debiased_cka(a: Tensor, b: Tensor) -> float:
    """Linear CKA by unbiased HSICs, ``[B, F]`` and ``[B, F']``; 0 where a side is constant."""
    x, y = _features(a), _features(b)
    own = (debiased_hsic(x, x), debiased_hsic(y, y))
    if min(own) <= 0.0:
        return 0.0
    return debiased_hsic(x, y) / math.sqrt(own[0] * own[1])


@register_proxy(
    "kd-cka",
    source="CKA (Kornblith et al., ICML 2019), debiased: Nguyen et al., ICLR 2021",
    needs=KD_NEEDS,
    direction=-1,
    images=4,
)
def kd_cka(probe: Probe) -> float:
    """1 − CKA of the features, linear, by unbiased estimates; a constant side has CKA 0."""
    return 1.0 - debiased_cka(probe.pooled, teacher_of(probe).taps.pooled)
