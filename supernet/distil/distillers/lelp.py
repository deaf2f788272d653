"""Pseudo-subclasses out of the teacher's features."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ....proxies.taps import Taps
from ....searchspace.errors import InvalidInputError
from ...losses import at_least_float32
from ..checks import classes_of, logits_of, positive, whole
from ..distiller import Distiller, Pair, Sides, register_distiller
from ..layers import generator_of, linear

__all__ = ["LELP"]

#: Most numbers of all classes' covariances, a gigabyte in float64.
LARGEST = 2**27


@register_distiller("lelp")
class LELP(Distiller):
    """LELP: classes split along the teacher's principal directions (Loo et al., 2024, §3).

    Before training, class by class, the features that the teacher's classifier is given are
    projected onto the null space of its weight (what the logits cannot tell), centred, and
    their first S principal directions turned by a random rotation, after which all have the
    same expected variance (§3.1). The S coordinates, over β, make a softmax: the probabilities
    of S pseudo-subclasses, which multiply those of the class at temperature τ (§3.2). The
    student learns all K·S by one cross-entropy, written as the divergence from the teacher's,
    and no label is read, as in the paper (α = 0).

    In the paper the student has K·S outputs that are summed at the end; here it keeps its K,
    and a head that is left behind tells the subclasses inside each class apart, which is the
    same distribution by the chain rule. The paper chooses S, β and τ by a grid, task by task:
    the defaults are ours. β is in standard deviations of the coordinates. Where the null space
    has less than S dimensions nothing is projected away.

    Args:
        sides: shapes.
        subclasses: S, of each class.
        temperature: τ, of the classes.
        subclass_temperature: β.
        weight: of the loss, which is multiplied by τ².
    """

    labels = 0.0
    of_classes = True
    zero_at_teacher = False
    directions: Tensor
    centres: Tensor

    def __init__(
        self,
        sides: Sides,
        *,
        subclasses: int = 4,
        temperature: float = 4.0,
        subclass_temperature: float = 1.0,
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.classes = classes_of(sides)
        width = sides.teacher.pooled
        self.subclasses = whole("subclasses", subclasses, least=2)
        if subclasses > width:
            raise InvalidInputError(
                f"subclasses = {subclasses} of the distiller; the teacher has {width} features,"
                " and no more directions"
            )
        if self.classes * width**2 > LARGEST:
            raise InvalidInputError(
                f"lelp is made for few classes; with {self.classes} and {width} features the"
                " covariances do not fit; take a distiller of logits, say dkd"
            )
        self.temperature = positive("temperature", temperature)
        self.subclass_temperature = positive("subclass_temperature", subclass_temperature)
        self.weight = positive("weight", weight)
        self.seed = sides.seed
        generator = generator_of(sides.seed)
        self.head = linear(sides.student.pooled, self.classes * subclasses, generator)
        self.register_buffer("directions", torch.zeros(self.classes, width, subclasses))
        self.register_buffer("centres", torch.zeros(self.classes, subclasses))

    def prepare(self, batches: Callable[[], Iterable[tuple[Taps, Tensor, Tensor]]]) -> None:
        """Find the directions of every class.

        Raises:
            InvalidInputError: if there are no images, or the teacher has no classifier.
        """
        means, covariances, weight = self._moments(batches())
        basis = _null_space(weight, self.subclasses)
        # A rotation drawn after the head's weights would move with the student's width.
        square = torch.randn(
            self.subclasses, self.subclasses, generator=generator_of(self.seed), dtype=torch.float64
        )
        rotation = torch.linalg.qr(square).Q
        values, vectors = torch.linalg.eigh(basis.T @ covariances @ basis)
        largest = values[:, -self.subclasses :].clamp_min(0.0)
        # After the rotation every coordinate has the mean of the largest variances, expected.
        deviation = largest.mean(dim=1).sqrt().view(-1, 1, 1)
        turned = basis @ vectors[:, :, -self.subclasses :] @ rotation
        directions = torch.where(deviation > 0, turned / deviation.clamp_min(1e-30), 0.0)
        self.directions.copy_(directions)
        self.centres.copy_(torch.einsum("kf,kfs->ks", means, directions))

    def _moments(
        self, batches: Iterable[tuple[Taps, Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Means ``[K, F]`` and covariances ``[K, F, F]`` by class, the classifier ``[K, F]``."""
        width = self.directions.shape[1]
        counts = torch.zeros(self.classes, dtype=torch.float64)
        sums = torch.zeros(self.classes, width, dtype=torch.float64)
        products = torch.zeros(self.classes, width, width, dtype=torch.float64)
        weight = None
        for taps, labels, _ in batches:
            weight = taps.classifier
            pooled, labels = taps.pooled.detach().cpu().double(), labels.cpu()
            for label in labels.unique().tolist():
                rows = pooled[labels == label]
                counts[label] += len(rows)
                sums[label] += rows.sum(dim=0)
                products[label] += rows.T @ rows
        if weight is None:
            raise InvalidInputError(
                "lelp needs images of the training part and a teacher with a classifier"
            )
        shares = counts.clamp_min(1.0).view(-1, 1)
        means = sums / shares
        outer = means.unsqueeze(2) * means.unsqueeze(1)
        return means, products / shares.unsqueeze(2) - outer, weight.detach().cpu().double()

    def forward(self, pair: Pair) -> Tensor:
        """The loss of a batch."""
        student, teacher = (
            (at_least_float32(logits) / self.temperature).log_softmax(dim=1)
            for logits in logits_of(pair)
        )
        pooled = pair.teacher.pooled.detach()
        coordinates = torch.einsum("bf,kfs->bks", pooled, self.directions) - self.centres
        inside_t = (coordinates / self.subclass_temperature).log_softmax(dim=2)
        heads = self.head(pair.student.pooled).unflatten(1, (self.classes, self.subclasses))
        log_p = teacher.unsqueeze(2) + inside_t
        log_q = student.unsqueeze(2) + heads.log_softmax(dim=2)
        divergence: Tensor = (log_p.exp() * (log_p - log_q)).sum(dim=(1, 2)).mean()
        return self.weight * self.temperature**2 * divergence


def _null_space(weight: Tensor, least: int) -> Tensor:
    """Orthonormal columns of what ``weight`` ``[K, F]`` maps to 0, ``[F, F − rank]``.

    All of the space where they are fewer than ``least``.
    """
    _, values, rows = torch.linalg.svd(weight)
    tolerance = values.max() * max(weight.shape) * torch.finfo(weight.dtype).eps
    rank = int((values > tolerance).sum())
    if weight.shape[1] - rank < least:
        return torch.eye(weight.shape[1], dtype=weight.dtype)
    basis: Tensor = rows[rank:].T
    return basis
