"""DisWOT: semantic and relation similarity of teacher and student, the released code's way.

Dong, Li and Wei, "DisWOT: Student Architecture Search for Distillation WithOut Training",
CVPR 2023, §3.2, in the closed forms of the released code's scores. All are ≤ 0 and 0 for a
student that equals its teacher. See :mod:`~scholarch.proxies.diswot_paper` for the formulas
as printed.

The released semantic score compares gradients channel by channel, which means something
only where teacher and student have equally many. ``diswot-semantic`` is our channel-invariant
form: the same gradients, compared as the relation score compares images, class by class.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..searchspace.errors import InvalidInputError
from .probe import Probe, TeacherSide
from .registry import register_proxy

__all__ = ["diswot", "diswot_relation", "diswot_released", "diswot_semantic", "teacher_of"]

#: Below it ``torch.nn.functional.normalize`` stops dividing by the norm.
_EPS = 1e-12
_NEEDS = {"forward", "teacher", "labels"}


def teacher_of(probe: Probe) -> TeacherSide:
    """The probe's teacher; raises where the caller forgot to declare the need."""
    if probe.teacher is None:
        raise InvalidInputError("a teacher-student similarity needs a teacher; give one")
    return probe.teacher


def needs_classifier(teacher: TeacherSide, num_classes: int) -> str | None:
    """Why this teacher has no semantic similarity to students of ``num_classes``, or ``None``."""
    logits = teacher.taps.logits
    if logits is None or teacher.taps.classifier is None:
        return "the teacher has no classifier"
    if logits.shape[1] != num_classes:
        return f"the teacher tells {logits.shape[1]} classes apart, the students {num_classes}"
    return None


# ---------------------------------------------------------------------- the measurements


def image_relation(final_map: Tensor) -> Tensor:
    """Row-normalised f fᵀ of the final map as ``[B, C·H·W]``; returns ``[B, B]``."""
    if final_map.is_contiguous(memory_format=torch.channels_last):
        # The products do not depend on the order of features; this one needs no copy.
        final_map = final_map.permute(0, 2, 3, 1)
    f = final_map.flatten(1)
    return functional.normalize(f @ f.T, dim=1)


def class_gradient(logits: Tensor, pooled: Tensor, labels: Tensor) -> Tensor:
    """Gradient of the mean cross-entropy at the classifier's weight, ``[K, C]``.

    (p − y)ᵀ f / B: what the released code gets from autograd, without it.
    """
    p = logits.softmax(dim=1)
    p[torch.arange(len(labels), device=labels.device), labels] -= 1.0
    return p.T @ pooled / len(labels)


def class_relation(gradient: Tensor) -> Tensor:
    """Row-normalised g gᵀ of a class gradient ``[K, C]``; returns ``[K, K]``."""
    return functional.normalize(gradient @ gradient.T, dim=1)


def _teacher_relation(teacher: TeacherSide) -> Tensor:
    return image_relation(teacher.taps.final_map)


def _teacher_gradient(teacher: TeacherSide) -> Tensor:
    taps = teacher.taps
    if taps.logits is None:
        raise InvalidInputError("the teacher has no classifier, hence no semantic similarity")
    return class_gradient(taps.logits, taps.pooled, teacher.labels)


def _teacher_class_relation(teacher: TeacherSide) -> Tensor:
    return class_relation(teacher.memo("class_gradient", _teacher_gradient))


def _student_gradient(probe: Probe) -> Tensor:
    return class_gradient(probe.logits, probe.pooled, probe.labels)


# ---------------------------------------------------------------------- the scores


@register_proxy(
    "diswot-relation",
    source="DisWOT (CVPR 2023, §3.2), released code",
    needs=_NEEDS - {"labels"},
    bfloat16=True,
)
def diswot_relation(probe: Probe) -> float:
    """Relation similarity: −Σ (G_S − G_T)² / B², G the row-normalised image Gram matrix."""
    reference = teacher_of(probe).memo("image_relation", _teacher_relation)
    difference = image_relation(probe.final_map) - reference
    return -float(difference.square().mean())


@register_proxy(
    "diswot-semantic",
    source="DisWOT (CVPR 2023, §3.2), released code's gradients, class × class",
    needs=_NEEDS,
    check=needs_classifier,
    bfloat16=True,
)
def diswot_semantic(probe: Probe) -> float:
    """Semantic similarity for any two widths: −Σ (E_S − E_T)² / K², E = ĝĝᵀ by classes."""
    reference = teacher_of(probe).memo("class_relation", _teacher_class_relation)
    difference = class_relation(_student_gradient(probe)) - reference
    return -float(difference.square().mean())


@register_proxy("diswot", source="DisWOT (CVPR 2023, §3.2)", needs=_NEEDS, check=needs_classifier)
def diswot(probe: Probe) -> float:
    """diswot-semantic + diswot-relation."""
    return diswot_semantic(probe) + diswot_relation(probe)


@register_proxy(
    "diswot-released-semantic",
    source="DisWOT (CVPR 2023, §3.2), released code",
    needs=_NEEDS,
    check=needs_classifier,
)
def diswot_released_semantic(probe: Probe) -> float:
    """−Σ (E_S − E_T)² / (K·C), E the row-normalised g gᵀ by channels, per class.

    Row i of E is sign(gᵢ) ĝ, so the sum has the closed form
    −(2 − 2·mean_K[mean_C(sign g_S ⊙ sign g_T) · cos(g_S, g_T)]); classes with next to no
    gradient count for less, as they do in the released code.

    Raises:
        InvalidInputError: if teacher and student differ in channels.
    """
    g_t = teacher_of(probe).memo("class_gradient", _teacher_gradient)
    g_s = _student_gradient(probe)
    if g_s.shape[1] != g_t.shape[1]:
        raise InvalidInputError(
            f"the student has {g_s.shape[1]} final channels, the teacher {g_t.shape[1]}; the"
            " released semantic score needs equally many; use diswot-semantic"
        )
    rows_s, unit_s = _row_lengths(g_s)
    rows_t, unit_t = _row_lengths(g_t)
    cosine = (unit_s * unit_t).sum(dim=1)
    squares = rows_s.square().mean(dim=1) + rows_t.square().mean(dim=1)
    return -float((squares - 2.0 * (rows_s * rows_t).mean(dim=1) * cosine).mean())


def _row_lengths(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Signed lengths of the normalised rows gᵢ·g, ``[K, C]``, and their direction ĝ.

    Normalising divides by max(|gᵢ|‖g‖, 1e-12): a row has length 1 unless the class has next
    to no gradient, as absent classes have under saturated logits. In float64, since the
    squares of such gradients underflow.
    """
    g = gradient.double()
    norm = g.norm(dim=1, keepdim=True)
    lengths = (g.abs() * norm / _EPS).clamp_max(1.0)
    return g.sign() * lengths, g / norm.clamp_min(torch.finfo(g.dtype).tiny)


@register_proxy(
    "diswot-released",
    source="DisWOT (CVPR 2023, §3.2), released code",
    needs=_NEEDS,
    check=needs_classifier,
)
def diswot_released(probe: Probe) -> float:
    """diswot-released-semantic + diswot-relation, as the released code adds them."""
    return diswot_released_semantic(probe) + diswot_relation(probe)
