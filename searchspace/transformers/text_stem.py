"""Token ids to tokens: word embeddings, learned positions, layer norm.

BERT's embeddings (Devlin et al., NAACL 2019, §3), the vector of the first segment, the only one
there is, added to the positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ..channels import Slot, layer
from ..convnets.staged import Count, Tally
from ..errors import InvalidInputError
from ..inputs import token_ids
from ..trace import Trace
from .elastic import ElasticEmbedding, ElasticLayerNorm
from .stem import ElasticStem, Stem, StemSpec

__all__ = ["ElasticTextStem", "TextStem", "TextStemSpec"]


@dataclass(frozen=True)
class TextStemSpec(StemSpec):
    """Embedded text.

    Attributes:
        vocabulary: how many token ids there are.
        positions: the longest text, in tokens.
        padding: the id that stands behind a text's end.
        eps: of the layer norm.
    """

    modality: ClassVar[str] = "text"

    vocabulary: int = 30522
    positions: int = 512
    padding: int = 0
    eps: float = 1e-12

    def plain(self, dim: int) -> TextStem:
        return TextStem(self, dim)

    def elastic(self, dim: int) -> ElasticTextStem:
        return ElasticTextStem(self, dim)

    def tokens(self, resolution: int) -> int:
        self.check_length(resolution)
        return resolution

    def check_length(self, length: int) -> None:
        """Refuse a text that is longer than there are positions.

        Raises:
            InvalidInputError: if it is.
        """
        if length > self.positions:
            raise InvalidInputError(
                f"a text of {length} tokens; there are {self.positions} positions, so cut it to at"
                f" most {self.positions} (--length {self.positions})"
            )

    def count(self, tally: Tally, dim: Count, resolution: int) -> None:
        self.check_length(resolution)
        tally.params = tally.params + dim * float(self.vocabulary + self.positions + 2)

    def details(self) -> str:
        return f"{self.vocabulary:,} words, {self.positions} positions, layer norm"


class TextStem(Stem):
    """Embedded text of one width.

    Args:
        spec: what it is.
        dim: width of the tokens.
    """

    def __init__(self, spec: TextStemSpec, dim: int) -> None:
        super().__init__()
        self.spec = spec
        self.words = nn.Embedding(spec.vocabulary, dim)
        self.positions = nn.Embedding(spec.positions, dim)
        self.norm = nn.LayerNorm(dim, eps=spec.eps)

    def forward(self, x: Tensor) -> Tensor:
        ids = token_ids(x)
        self.spec.check_length(ids.shape[1])
        out: Tensor = self.norm(self.words(ids) + self.positions.weight[: ids.shape[1]])
        return out

    def mask(self, x: Tensor) -> Tensor:
        return token_ids(x) != self.spec.padding


class ElasticTextStem(ElasticStem):
    """:class:`TextStem` of every width up to the largest."""

    def __init__(self, spec: TextStemSpec, dim: int) -> None:
        super().__init__()
        self.spec = spec
        self.words = ElasticEmbedding(spec.vocabulary, dim)
        self.positions = ElasticEmbedding(spec.positions, dim)
        self.norm = ElasticLayerNorm(dim, spec.eps)

    def forward(self, x: Tensor, dim: int, trace: Trace) -> Tensor:
        ids = token_ids(x)
        length = ids.shape[1]
        self.spec.check_length(length)
        words = self.words.look_up(ids, dim, trace)
        out: Tensor = self.norm(words + self.positions.slice(dim, trace)[:length])
        return out

    def mask(self, x: Tensor) -> Tensor:
        return token_ids(x) != self.spec.padding

    def copy_into(self, plain: TextStem) -> None:
        self.words.copy_into(plain.words)
        self.positions.copy_into(plain.positions)
        self.norm.copy_into(plain.norm)

    def slots(self) -> tuple[Sequence[Slot], Sequence[Slot]]:
        return [Slot("words.weight", 1), Slot("positions.weight", 1), *layer("norm")], []
