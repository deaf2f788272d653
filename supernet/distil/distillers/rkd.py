"""Relational knowledge distillation: distances and angles between images."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from ....proxies.kd_relations import RKD_WEIGHTS, relative_distances
from ..checks import not_negative
from ..distiller import Distiller, Pair, Sides, register_distiller
from ..relations import triplet_cosines

__all__ = ["RKD"]


@register_distiller("rkd")
class RKD(Distiller):
    """RKD: distances between pairs and angles of triplets of images (Park et al., CVPR 2019, §3.2).

    Huber losses of what the classifier is given: of the Euclidean distances, each over its
    network's mean, and of the cosines of the angles i-j-k. As in the authors' program they are
    means over all B² pairs and B³ triplets, images paired with themselves included. The weights
    are those of classification. Widths need not match.

    Args:
        sides: shapes.
        distance: weight of the distances.
        angle: weight of the angles.
    """

    def __init__(
        self,
        sides: Sides,  # noqa: ARG002
        *,
        distance: float = RKD_WEIGHTS[0],
        angle: float = RKD_WEIGHTS[1],
    ) -> None:
        super().__init__()
        self.distance = not_negative("distance", distance)
        self.angle = not_negative("angle", angle)

    def forward(self, pair: Pair) -> Tensor:
        """The loss of a batch."""
        student, teacher = pair.student.pooled, pair.teacher.pooled.detach()
        distances = functional.huber_loss(relative_distances(student), relative_distances(teacher))
        angles = functional.huber_loss(triplet_cosines(student), triplet_cosines(teacher))
        return (self.distance * distances + self.angle * angles).to(student.dtype)
