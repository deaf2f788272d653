"""CLIP's text tower, frozen: what stands for a class is what it makes of a sentence about it.

A causal Transformer over byte pairs whose output is the token at the text's end (Radford et al.,
ICML 2021, §2.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..searchspace.convnets.residual import materialise
from ..searchspace.errors import InvalidInputError
from ..searchspace.transformers.encoder_layer import EncoderLayer
from ..searchspace.transformers.style import EncoderShape, EncoderStyle

__all__ = ["TOKENIZER", "TextSide", "TextTower"]

#: The library's file.
TOKENIZER = "tokenizer.json"

#: An id by which the library's first configurations name a text's end, and which it is not.
_MISNAMED = 2

_BATCH = 64


class TextTower(nn.Module):
    """Token ids to embeddings.

    Args:
        style: what its layers share.
        shape: its width and layers.
        words: how many token ids there are.
        positions: the longest text, in tokens.
        embed: width F of an embedding.
        end: id of the token at a text's end; 2, as the library has it: the highest id of a text.
    """

    def __init__(
        self,
        style: EncoderStyle,
        shape: EncoderShape,
        *,
        words: int,
        positions: int,
        embed: int,
        end: int,
    ) -> None:
        super().__init__()
        self.end = end
        with torch.device("meta"):
            self.words = nn.Embedding(words, shape.dim)
            self.positions = nn.Embedding(positions, shape.dim)
            self.layers = nn.ModuleList(EncoderLayer(shape.dim, one, style) for one in shape.layers)
            self.norm = nn.LayerNorm(shape.dim, eps=style.eps)
            self.embedding = nn.Linear(shape.dim, embed, bias=False)
        materialise(self, None)

    def forward(self, ids: Tensor) -> Tensor:
        """Embeddings ``[B, F]`` of token ids, int64 ``[B, L]``; what is behind the end is unseen.

        Raises:
            InvalidInputError: if a text has no end.
        """
        length = ids.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()
        out = self.words(ids) + self.positions.weight[:length]
        for one in self.layers:
            out = one(out, causal[None])
        last = out[torch.arange(len(ids), device=ids.device), self._ends(ids)]
        found: Tensor = self.embedding(self.norm(last))
        return found

    def _ends(self, ids: Tensor) -> Tensor:
        if self.end == _MISNAMED:
            return ids.argmax(dim=1)
        at = ids == self.end
        if not bool(at.any(dim=1).all()):
            raise InvalidInputError(
                f"a text without token {self.end}, by which the text tower knows its end: the"
                " tokenizer is another's; give the teacher's own tokenizer.json"
            )
        return at.int().argmax(dim=1)


@dataclass(frozen=True, eq=False)
class TextSide:
    """A teacher's text tower with what belongs to it.

    Attributes:
        what: where it comes from, for messages.
        tower: in eval mode.
        scale: of cosines in logits, e to the learnt power: 100 in the published networks.
        tokenizer: the file, where there is one.
    """

    what: str
    tower: TextTower
    scale: float
    tokenizer: Path | None = None

    def __deepcopy__(self, memo: object) -> TextSide:
        return self  # it is frozen, and larger than the images' tower may be

    @torch.no_grad()
    def embed(self, sentences: Sequence[str], tokenizer: Path | None = None) -> Tensor:
        """Directions of sentences, float32 ``[N, F]`` of length 1.

        Args:
            sentences: N of them; longer ones than there are positions are cut, the end kept.
            tokenizer: file or folder in place of the teacher's own.

        Raises:
            InvalidInputError: if the tokenizer is missing, damaged or another network's.
        """
        ids = self._ids(sentences, tokenizer)
        rows = [self.tower(ids[i : i + _BATCH]) for i in range(0, len(ids), _BATCH)]
        return functional.normalize(torch.cat(rows), dim=1)

    def _ids(self, sentences: Sequence[str], tokenizer: Path | None) -> Tensor:
        path = tokenizer or self.tokenizer
        if path is not None and path.is_dir():
            path = path / TOKENIZER
        if path is None or not path.is_file():
            where = "with it" if path is None else f"at {path}"
            raise InvalidInputError(
                f"{self.what}: no {TOKENIZER} {where}, and names of classes are read by it; put it"
                " there (AutoTokenizer.from_pretrained(…).save_pretrained(FOLDER)), or name it as"
                " FOLDER?tokenizer=FILE"
            )
        opened = _open(path)
        words, positions = self.tower.words.num_embeddings, self.tower.positions.num_embeddings
        opened.no_padding()
        opened.enable_truncation(positions)
        rows = [one.ids for one in opened.encode_batch(list(sentences))]
        highest = max(max(row, default=0) for row in rows)
        if highest >= words:
            raise InvalidInputError(
                f"tokenizer {path} has tokens up to {highest}, the text tower of {self.what} knows"
                f" {words}; give the teacher's own tokenizer.json"
            )
        ids = torch.zeros(len(rows), max(1, *map(len, rows)), dtype=torch.int64)
        for at, row in zip(ids, rows, strict=True):
            at[: len(row)] = torch.tensor(row)
        return ids


def _open(path: Path) -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise InvalidInputError(
            "names of classes need the package tokenizers; run `pip install scholarch[text]`"
        ) from error
    try:
        return tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises nothing narrower
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise InvalidInputError(f"tokenizer {path} cannot be read: {line}") from error
