"""AutoDistil: scaled products of queries, keys and values of the last layers."""

from __future__ import annotations

import torch
from torch import Tensor

from ....proxies.tokens import common_mask, concatenated, on_one_grid, pairs_mean, products
from ..checks import positive, whole
from ..distiller import Distiller, Pair, Sides, register_distiller
from ..matching import token_shapes, token_taps

__all__ = ["AutoDistil"]


@register_distiller("autodistil")
class AutoDistil(Distiller):
    """AutoDistil: squares of products X Xᵀ/√d, not softmaxed (Xu et al., NeurIPS 2022, §3).

    As ``minilm``, of the last layers, with the authors' program in place of the paper's KL:
    mean squares between the raw scaled products, summed over queries, keys and values, in 12
    relation heads of width ⌊W/12⌋ on each side; what is over is left out. Padding, which their
    program compares, too, is neither row nor column.

    The paper has no labels; here they train the classifier, which no product reaches.

    Args:
        sides: shapes.
        weight: of the loss.
        relation_heads: 12 in the authors' program.
    """

    reads = frozenset({"qkv"})

    def __init__(self, sides: Sides, *, weight: float = 1.0, relation_heads: int = 12) -> None:
        super().__init__()
        self.weight = positive("weight", weight)
        narrower = min(a * d for a, d in (shapes.heads[-1] for shapes in token_shapes(sides)))
        self.heads = min(whole("relation_heads", relation_heads), narrower)

    def forward(self, pair: Pair) -> Tensor:
        """The loss of a batch."""
        student, teacher = token_taps(pair)
        losses = []
        for own, other in zip(
            student.qkv[-1].unbind(1), teacher.qkv[-1].detach().unbind(1), strict=True
        ):
            s, t = on_one_grid(concatenated(own), concatenated(other), student, teacher)
            errors = (products(s, s, self.heads) - products(t, t, self.heads)).square()
            losses.append(pairs_mean(errors, common_mask(student, teacher, s.shape[1])))
        return self.weight * torch.stack(losses).sum()
