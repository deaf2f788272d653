"""DisWOT's scores as the paper prints them (Dong, Li and Wei, CVPR 2023, §3.2, eqs. 1–5).

Literal readings, kept because people ask for them: on DisWOT's own space they rank against the
distilled accuracies, τ −.4 to −.6 (``results/diswot-s0``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..searchspace.errors import InvalidInputError
from .diswot import needs_classifier, teacher_of
from .probe import Probe, TeacherSide
from .registry import register_proxy
from .taps import Taps

__all__ = ["diswot_paper", "diswot_paper_relation", "diswot_paper_semantic"]

_SOURCE = "DisWOT (CVPR 2023, §3.2, eqs. 1-5)"


def _unit_gram(rows: Tensor) -> Tensor:
    """G Gᵀ / ‖G Gᵀ‖ of rows ``[N, D]``; returns ``[N, N]``."""
    gram = rows @ rows.T
    norm: Tensor = torch.linalg.matrix_norm(gram)
    return gram / norm


def _semantic(taps: Taps) -> Tensor:
    """Unit Gram of the class activation maps Gₙ = Σ_c w_{n,c} A_c, ``[K, K]``."""
    if taps.classifier is None or taps.classifier.shape[1] != taps.final_map.shape[1]:
        raise InvalidInputError(
            "class activation maps need a classifier that reads the final map's channels"
        )
    maps = torch.einsum("kc,bchw->kbhw", taps.classifier, taps.final_map)
    return _unit_gram(maps.flatten(1))


def _relation(taps: Taps) -> Tensor:
    """Unit Gram of the images' feature maps, ``[B, B]``."""
    return _unit_gram(taps.final_map.flatten(1))


def _teacher_semantic(teacher: TeacherSide) -> Tensor:
    return _semantic(teacher.taps)


def _teacher_relation(teacher: TeacherSide) -> Tensor:
    return _relation(teacher.taps)


def _needs_maps(teacher: TeacherSide, num_classes: int) -> str | None:
    classifier = teacher.taps.classifier
    if reason := needs_classifier(teacher, num_classes):
        return reason
    if classifier is not None and classifier.shape[1] != teacher.taps.final_map.shape[1]:
        return "the teacher's classifier does not read the channels of its final map"
    return None


@register_proxy(
    "diswot-paper-semantic",
    source=_SOURCE,
    needs={"forward", "teacher"},
    check=_needs_maps,
)
def diswot_paper_semantic(probe: Probe) -> float:
    """−‖Ĝ_T − Ĝ_S‖₂, Ĝ the unit Gram matrix of the class activation maps."""
    reference = teacher_of(probe).memo("paper_semantic", _teacher_semantic)
    return -float(torch.linalg.matrix_norm(_semantic(probe.taps) - reference))


@register_proxy("diswot-paper-relation", source=_SOURCE, needs={"forward", "teacher"})
def diswot_paper_relation(probe: Probe) -> float:
    """−‖Â_T − Â_S‖₂, Â the unit Gram matrix of the images' feature maps."""
    reference = teacher_of(probe).memo("paper_relation", _teacher_relation)
    return -float(torch.linalg.matrix_norm(_relation(probe.taps) - reference))


@register_proxy("diswot-paper", source=_SOURCE, needs={"forward", "teacher"}, check=_needs_maps)
def diswot_paper(probe: Probe) -> float:
    """diswot-paper-semantic + diswot-paper-relation."""
    return diswot_paper_semantic(probe) + diswot_paper_relation(probe)
