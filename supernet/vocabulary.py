"""Whether the tokens of a data set of texts are those that a network knows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..proxies.vocabulary import unknown_tokens
from .loader import LabelledImages

__all__ = ["check_vocabulary"]


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
        raise unknown_tokens(data.name, highest, vocabulary, who)


def _highest(images: npt.NDArray[Any]) -> int:
    if not len(images):
        return 0
    return int((images[..., 0].astype(np.int64) * 256 + images[..., 1]).max())
