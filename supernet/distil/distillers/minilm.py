"""MiniLMv2: relations between tokens under queries, keys and values of one layer."""

from __future__ import annotations

import torch
from torch import Tensor

from ....proxies.tokens import (
    common_heads,
    common_mask,
    concatenated,
    on_one_grid,
    products,
    relation_divergence,
)
from ....searchspace.errors import InvalidInputError
from ..checks import positive, whole
from ..distiller import Distiller, Pair, Sides, register_distiller
from ..matching import token_shapes, token_taps

__all__ = ["MiniLM"]


@register_distiller("minilm")
class MiniLM(Distiller):
    """MiniLMv2: KL of relations R = softmax(X Xᵀ/√d) (Wang et al., Findings of ACL 2021, §3.1-3.3).

    X are queries, keys and values of the student's last layer and of one of the teacher's; heads
    are concatenated and split into as many relation heads on both sides, so that neither widths
    nor numbers of heads need match. The loss is the sum over the three of the mean over relation
    heads and rows of KL(R_T ‖ R_S). Padding is neither row nor column.

    The paper has no labels; here they train the classifier, which no relation reaches.

    Args:
        sides: shapes.
        weight: of the loss.
        relation_heads: 48 in the paper, 64 for large teachers; the largest number up to this
            that divides both widths is taken.
        layer: the teacher's, from 1; 0: its last. The paper takes the 21st of large BERT's 24.
    """

    reads = frozenset({"qkv"})

    def __init__(
        self, sides: Sides, *, weight: float = 1.0, relation_heads: int = 48, layer: int = 0
    ) -> None:
        super().__init__()
        self.weight = positive("weight", weight)
        most = whole("relation_heads", relation_heads)
        student, teacher = token_shapes(sides)
        layers = len(teacher.heads)
        if whole("layer", layer, least=0) > layers:
            raise InvalidInputError(
                f"layer = {layer} of the distiller; need one of the teacher's {layers}, or 0"
            )
        self.layer = layer - 1 if layer else layers - 1
        (a, d), (b, e) = student.heads[-1], teacher.heads[self.layer]
        self.heads = common_heads(a * d, b * e, most)

    def forward(self, pair: Pair) -> Tensor:
        """The loss of a batch."""
        student, teacher = token_taps(pair)
        losses = []
        for own, other in zip(
            student.qkv[-1].unbind(1), teacher.qkv[self.layer].detach().unbind(1), strict=True
        ):
            s, t = on_one_grid(concatenated(own), concatenated(other), student, teacher)
            mask = common_mask(student, teacher, s.shape[1])
            relations = products(s, s, self.heads), products(t, t, self.heads)
            losses.append(relation_divergence(*relations, mask))
        return self.weight * torch.stack(losses).sum()
