"""Distillers that compare feature maps inside each image, as scores at initialisation.

Spatial sizes are matched by average pooling to the smaller, stages by relative depth; see
:mod:`~scholarch.proxies.kd_matching`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .diswot import teacher_of
from .kd_matching import KD_NEEDS, maps_side_by_side, student_final_map
from .probe import Probe, TeacherSide
from .registry import register_proxy

__all__ = ["kd_at", "kd_ickd", "kd_nst"]


def attention(x: Tensor) -> Tensor:
    """Σ_c x_c² as unit vectors over the positions, ``[B, C, H, W]`` → ``[B, H·W]``."""
    return functional.normalize(x.square().sum(dim=1).flatten(1), dim=1)


@register_proxy(
    "kd-at", source="AT (Zagoruyko & Komodakis, ICLR 2017)", needs=KD_NEEDS, direction=-1
)
def kd_at(probe: Probe) -> float:
    """Attention transfer: ½ Σ over stages of ‖Q_S − Q_T‖₂, the mean over images.

    Q is the unit vector of the sum of squares over channels at each position.
    """
    total = 0.0
    for student, teacher in maps_side_by_side(probe):
        difference = attention(student) - attention(teacher)
        total += 0.5 * float(difference.norm(dim=1).mean())
    return total


def selectivity_distance(a: Tensor, b: Tensor) -> float:
    """MMD² of two maps' channels under the kernel ⟨x, y⟩², the mean over images.

    With unit channels as rows of X and Y it is ‖XᵀX/C − YᵀY/C'‖²: second moments over
    positions. Where there are more positions than channels, the three terms
    ‖XXᵀ‖²/C² + ‖YYᵀ‖²/C'² − 2‖XYᵀ‖²/(C·C') cost less.

    Args:
        a: ``[B, C, H, W]``.
        b: ``[B, C', H, W]``.
    """
    x, y = (functional.normalize(z.flatten(2).double(), dim=2) for z in (a, b))
    c, d = x.shape[1], y.shape[1]
    if x.shape[2] <= max(c, d):
        moments = x.transpose(1, 2) @ x / c - y.transpose(1, 2) @ y / d
        return float(moments.square().sum()) / len(x)
    own = _square_gram(x, x) / c**2 + _square_gram(y, y) / d**2
    return (own - 2.0 * _square_gram(x, y) / (c * d)) / len(x)


def _square_gram(x: Tensor, y: Tensor) -> float:
    return float((x @ y.transpose(1, 2)).square().sum())


@register_proxy("kd-nst", source="NST (Huang & Wang, 2017), poly", needs=KD_NEEDS, direction=-1)
def kd_nst(probe: Probe) -> float:
    """Neuron selectivity: Σ over stages of the MMD² of the channels' maps, kernel ⟨x, y⟩²."""
    return sum(selectivity_distance(s, t) for s, t in maps_side_by_side(probe))


def channel_spectrum(x: Tensor) -> Tensor:
    """Each image's eigenvalues of F Fᵀ, F the C × H·W map, over their sum, largest first.

    Args:
        x: ``[B, C, H, W]``.

    Returns:
        float64 ``[B, min(C, H·W)]``; the rest are 0.
    """
    f = x.flatten(2).double()
    gram = f @ f.transpose(1, 2) if f.shape[1] <= f.shape[2] else f.transpose(1, 2) @ f
    values: Tensor = torch.linalg.eigvalsh(gram).clamp_min(0.0).flip(1)
    total = values.sum(dim=1, keepdim=True)
    return values / total.clamp_min(torch.finfo(values.dtype).tiny)


def _teacher_spectrum(teacher: TeacherSide) -> Tensor:
    return channel_spectrum(teacher.taps.final_map)


@register_proxy("kd-ickd", source="ICKD-C (Liu et al., ICCV 2021)", needs=KD_NEEDS, direction=-1)
def kd_ickd(probe: Probe) -> float:
    """Inter-channel correlation: ‖λ_S − λ_T‖², λ the spectrum of F Fᵀ, the mean over images.

    The paper compares F Fᵀ/C of the final maps after a learnt 1×1 convolution that brings the
    student to the teacher's channels. With the best orthogonal one in its place, what is left
    is the distance of the sorted eigenvalues, filled up with zeros; they are divided by their
    sum, as the learnt one may scale. So any two widths compare, whatever the channels' order.
    """
    reference = teacher_of(probe).memo("kd_spectrum", _teacher_spectrum)
    student = channel_spectrum(student_final_map(probe))
    width = max(student.shape[1], reference.shape[1])
    padded = [functional.pad(x, (0, width - x.shape[1])) for x in (student, reference)]
    return float((padded[0] - padded[1]).square().sum(dim=1).mean())
