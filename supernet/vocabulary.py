"""Whether the tokens of a text are those that a network knows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from ..searchspace.errors import InvalidInputError
from .loader import LabelledImages

__all__ = ["check_vocabulary", "vocabulary_of"]


def check_vocabulary(data: LabelledImages, vocabulary: int, who: str) -> None:
    """Refuse text by another tokenizer than a network's.

    A tokenizer with fewer tokens goes unnoticed: nothing tells its ids from the network's.

    Args:
        data: of any modality; nothing but text is looked at.
        vocabulary: tokens that the network knows; 0: not known, and nothing is refused.
        who: has it, e.g. ``"space 'x'"``.

    Raises:
        InvalidInputError: if a token's id is beyond it.
    """
    if data.modality != "text" or not vocabulary:
        return
    highest = max(_highest(part.images) for part in (data.train, data.val, data.test))
    if highest >= vocabulary:
        raise InvalidInputError(
            f"data {data.name!r} has tokens up to {highest}, {who} knows {vocabulary}: their"
            " tokenizers are not the same; name the teacher's with --tokenizer"
        )


def vocabulary_of(module: nn.Module) -> int:
    """Tokens that a text network knows, by its first table of words; 0 where none is found."""
    found = next((m for m in module.modules() if isinstance(m, nn.Embedding)), None)
    return 0 if found is None else found.num_embeddings


def _highest(images: npt.NDArray[Any]) -> int:
    if not len(images):
        return 0
    return int((images[..., 0].astype(np.int64) * 256 + images[..., 1]).max())
