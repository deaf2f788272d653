"""TinyBERT: embeddings, hidden states and attention of every layer, and the answers."""

from __future__ import annotations

from torch import Tensor

from ....proxies.taps import TokenTaps
from ....proxies.tokens import (
    common_heads,
    common_mask,
    concatenated,
    layer_map,
    on_one_grid,
    pairs_mean,
    products,
)
from ..checks import answers_apart, not_negative
from ..distiller import Distiller, Pair, Sides, register_distiller
from ..hidden import hidden_error, projection
from ..layers import generator_of
from ..matching import token_shapes, token_taps

__all__ = ["TinyBERT"]


@register_distiller("tinybert")
class TinyBERT(Distiller):
    """TinyBERT: MSE of embeddings, hidden states, attention scores (Jiao et al., EMNLP 2020, §3).

    Every layer of the student imitates one of the teacher's, evenly spaced (g(m) = ⌈m·N/M⌉):
    its output by one learnt projection for all layers, its attention by the scores Q Kᵀ/√d
    before the softmax, real pairs of tokens alone. Where the numbers of heads differ, heads are
    concatenated and split again as MiniLMv2 does; where they are equal that changes nothing.
    The paper trains on layers first and on answers then; here at once.

    Args:
        sides: shapes.
        embedding: weight of the embeddings.
        hidden: weight of the hidden states.
        attention: weight of the scores.
        prediction: weight of KL(teacher ‖ student) of the answers, at T = 1, where both networks
            tell the same classes apart; of embeddings 1 − cosine.
    """

    reads = frozenset({"tokens", "qkv"})
    zero_at_teacher = False

    def __init__(
        self,
        sides: Sides,
        *,
        embedding: float = 1.0,
        hidden: float = 1.0,
        attention: float = 1.0,
        prediction: float = 1.0,
    ) -> None:
        super().__init__()
        self.embedding = not_negative("embedding", embedding)
        self.hidden = not_negative("hidden", hidden)
        self.attention = not_negative("attention", attention)
        self.prediction = not_negative("prediction", prediction)
        student, teacher = token_shapes(sides)
        self.map = layer_map(len(student.heads), len(teacher.heads))
        self.heads = []
        for (a, d), j in zip(student.heads, self.map, strict=True):
            b, e = teacher.heads[j]
            self.heads.append(common_heads(a * d, b * e, b))
        generator = generator_of(sides.seed)
        widths = student.widths[0], teacher.widths[0]
        self.embed = projection(*widths, generator, always=True)
        self.project = projection(*widths, generator, always=True)

    def forward(self, pair: Pair) -> Tensor:
        """The loss of a batch."""
        student, teacher = token_taps(pair)
        loss = self.embedding * hidden_error(self.embed, (0, 0), student, teacher)
        for i, j in enumerate(self.map):
            error = hidden_error(self.project, (i + 1, j + 1), student, teacher)
            loss = loss + self.hidden * error
            loss = loss + self.attention * self._scores(i, j, student, teacher)
        return loss + self.prediction * answers_apart(pair)

    def _scores(self, i: int, j: int, student: TokenTaps, teacher: TokenTaps) -> Tensor:
        (q, k, _), (r, m, _) = (x.unbind(1) for x in (student.qkv[i], teacher.qkv[j].detach()))
        (q, r), (k, m) = (
            on_one_grid(concatenated(a), concatenated(b), student, teacher)
            for a, b in ((q, r), (k, m))
        )
        errors = (products(q, k, self.heads[i]) - products(r, m, self.heads[i])).square()
        return pairs_mean(errors, common_mask(student, teacher, q.shape[1]))
