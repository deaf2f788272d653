"""DisWOT's similarities as a distiller."""

from __future__ import annotations

import torch
from torch import Tensor

from ....proxies.taps import Taps
from ....searchspace.errors import InvalidInputError
from ...losses import kl_divergence
from ..checks import classes_of, logits_of, not_negative, positive
from ..distiller import Distiller, Pair, Sides, register_distiller

__all__ = ["DisWOT"]

#: Gram matrices of no length are divided by this.
TINY = 1e-12


@register_distiller("diswot")
class DisWOT(Distiller):
    """DisWOT†: KL + ‖ΔĜ‖/c² + ‖ΔÂ‖/b² beside the labels (Dong, Li and Wei, CVPR 2023, §3).

    From the paper: the semantic maps Gₙ = Σ_c w_{n,c} A_c of each of c classes, out of the
    classifier's weight and the final map; the final map A of each of b images; Ĝ = G Gᵀ/‖G Gᵀ‖
    and Â = A Aᵀ/‖A Aᵀ‖, compared by the Frobenius norm of the difference (§3.2, eqs. 1-5); the
    divisors c² and b²; a cross-entropy and a KL of weight 1 each. The authors released no
    program for it.

    Not from the paper: G Gᵀ is class × class and A Aᵀ image × image, whatever the channels and
    resolutions, which the paper leaves undefined where they differ; T = 4 and T² before the KL,
    its recipe's for plain distillation. The two terms are at most √2/c² and √2/b²: as printed
    they are small beside the KL (.014 and .0003 for 10 classes and 64 images); ``semantic`` and
    ``relation`` multiply them.

    Args:
        sides: shapes.
        temperature: T.
        weight: of the KL.
        semantic: of ‖ΔĜ‖/c².
        relation: of ‖ΔÂ‖/b².
    """

    of_classes = True

    def __init__(
        self,
        sides: Sides,
        *,
        temperature: float = 4.0,
        weight: float = 1.0,
        semantic: float = 1.0,
        relation: float = 1.0,
    ) -> None:
        super().__init__()
        classes_of(sides)
        for side, shapes in (("student", sides.student), ("teacher", sides.teacher)):
            if shapes.final[0] != shapes.pooled:
                raise InvalidInputError(
                    f"class activation maps need a classifier that reads the final map's"
                    f" channels; the {side}'s map has {shapes.final[0]}, its classifier reads"
                    f" {shapes.pooled}; take another distiller, say sp"
                )
        self.temperature = positive("temperature", temperature)
        self.weight = not_negative("weight", weight)
        self.semantic = not_negative("semantic", semantic)
        self.relation = not_negative("relation", relation)

    def forward(self, pair: Pair) -> Tensor:
        """The loss of a batch."""
        student, teacher = logits_of(pair)
        images, classes = student.shape
        semantic = _distance(_semantic(pair.student), _semantic(pair.teacher))
        relation = _distance(pair.student.final_map.flatten(1), pair.teacher.final_map.flatten(1))
        return (
            self.weight * kl_divergence(student, teacher, self.temperature)
            + self.semantic / classes**2 * semantic
            + self.relation / images**2 * relation
        )


def _semantic(taps: Taps) -> Tensor:
    """Class activation maps of all images, ``[K, B·H·W]``."""
    if taps.classifier is None:
        raise InvalidInputError("class activation maps are compared, and there is no classifier")
    return torch.einsum("kc,bchw->kbhw", taps.classifier, taps.final_map).flatten(1)


def _distance(student: Tensor, teacher: Tensor) -> Tensor:
    """‖X Xᵀ/‖X Xᵀ‖ − Y Yᵀ/‖Y Yᵀ‖‖ of rows ``[N, D]`` and ``[N, D']``."""
    difference = _unit_gram(student) - _unit_gram(teacher.detach())
    # Its gradient where nothing is left to differ is 0.
    length: Tensor = torch.linalg.vector_norm(difference)
    return length


def _unit_gram(rows: Tensor) -> Tensor:
    gram = rows @ rows.T
    length: Tensor = torch.linalg.vector_norm(gram)
    return gram / length.clamp_min(TINY)
