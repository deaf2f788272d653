"""DynaBERT: the answers, and the hidden states of matched layers."""

from __future__ import annotations

import torch
from torch import Tensor

from ....proxies.tokens import layer_map
from ..checks import answers_apart, not_negative
from ..distiller import Distiller, Pair, Sides, register_distiller
from ..hidden import hidden_error, projection
from ..layers import generator_of
from ..matching import token_shapes, token_taps

__all__ = ["DynaBERT"]


@register_distiller("dynabert")
class DynaBERT(Distiller):
    """DynaBERT: soft answers + .1 · Σ MSE of hidden states (Hou et al., NeurIPS 2020, §2.1).

    Embeddings and the outputs of layers, the teacher's evenly spaced where it has more. The
    paper's students have the teacher's width; where it differs a linear map is learnt, one for
    the embeddings and one for all layers.

    Args:
        sides: shapes.
        prediction: λ₁, weight of KL(teacher ‖ student) of the answers, at T = 1, where both
            networks tell the same classes apart; of embeddings 1 − cosine.
        hidden: λ₂, weight of the hidden states.
    """

    reads = frozenset({"tokens"})
    labels = 0.0

    def __init__(self, sides: Sides, *, prediction: float = 1.0, hidden: float = 0.1) -> None:
        super().__init__()
        self.prediction = not_negative("prediction", prediction)
        self.hidden = not_negative("hidden", hidden)
        student, teacher = token_shapes(sides)
        self.map = layer_map(len(student.widths) - 1, len(teacher.widths) - 1)
        if not (sides.student.classes == sides.teacher.classes > 0):
            self.labels = 1.0  # without answers nothing else trains the classifier
        generator = generator_of(sides.seed)
        widths = student.widths[0], teacher.widths[0]
        self.embed = projection(*widths, generator)
        self.project = projection(*widths, generator)

    def forward(self, pair: Pair) -> Tensor:
        """The loss of a batch."""
        student, teacher = token_taps(pair)
        errors = [hidden_error(self.embed, (0, 0), student, teacher)]
        for i, j in enumerate(self.map):
            errors.append(hidden_error(self.project, (i + 1, j + 1), student, teacher))
        return self.prediction * answers_apart(pair) + self.hidden * torch.stack(errors).sum()
