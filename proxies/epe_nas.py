"""EPE-NAS: how alike the network responds to images of one class."""

from __future__ import annotations

import torch
from torch import Tensor

from ..searchspace.errors import InvalidInputError
from .probe import Probe
from .registry import register_proxy

__all__ = ["class_score", "epe_nas"]

K = 1e-5
MANY = 100
"""Classes of the data set up to which their scores are added, as published."""


def class_score(jacobian: Tensor) -> float:
    """Σ log(|ρ| + k) over all pairs of rows, ρ their correlation, k = 1e-5.

    Args:
        jacobian: one row an image of the class, ``[n, D]``.

    Raises:
        RuntimeError: if a row is constant, so correlates with none.
    """
    rows = jacobian.double()
    if bool((rows == rows[:, :1]).all(dim=1).any()):
        raise RuntimeError("an image's input gradient is the same at every pixel")
    return float((torch.corrcoef(rows).abs() + K).log().sum())


@register_proxy(
    "epe_nas",
    source="EPE-NAS (Lopes et al., ICANN 2021, §3, eq. 3–5)",
    needs={"forward", "input_gradient", "labels"},
)
def epe_nas(probe: Probe) -> float:
    """Σ over classes of |Σ log(|ρ| + 1e-5)|, ρ the correlations of input gradients in a class.

    Gradients of the summed logits at the images, He initialisation, batch norm by batch
    statistics. Classes with fewer than two images say nothing and are left out. For data of
    more than 100 classes, as published: each class's sum over its number of images, and of
    these the differences |s_c − s_d| over all pairs of classes, divided by their number.

    Raises:
        InvalidInputError: if no class has two images, or of more than 100 only one has.
    """
    labels, jacobian = probe.labels, probe.input_gradient
    members = [(labels == label).nonzero().flatten() for label in labels.unique()]
    members = [rows for rows in members if len(rows) > 1]
    many = probe.batch is not None and probe.batch.num_classes > MANY
    if len(members) < 1 + many:
        raise InvalidInputError(
            f"epe_nas compares images of a class, and {len(members)} classes have two among the"
            f" batch's {len(labels)} images; need {1 + many}; give a larger batch, or one of"
            " fewer classes"
        )
    scores = [class_score(jacobian[rows]) for rows in members]
    if not many:
        return sum(abs(score) for score in scores)
    means = torch.tensor(
        [score / len(rows) for score, rows in zip(scores, members, strict=True)],
        dtype=torch.float64,
    )
    return float((means.unsqueeze(0) - means.unsqueeze(1)).abs().sum()) / len(means)
