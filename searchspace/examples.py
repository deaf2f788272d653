"""Made-up inputs to try a space's networks on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from .errors import InvalidInputError
from .inputs import PADDING, pack_sound, pack_tokens, packed

if TYPE_CHECKING:
    from .space import SearchSpace

__all__ = ["example", "random_texts"]

#: Root mean square of the noise, of 32,768.
_LOUDNESS = 3000.0


def example(
    space: SearchSpace, n: int, generator: Generator, shape: tuple[int, int, int]
) -> Tensor:
    """Inputs of a space's modality, float32 ``[n, C, H, W]``; see ``SearchSpace.example``.

    Args:
        space: whose networks are to run on them.
        n: how many.
        generator: where randomness comes from.
        shape: of one, without n.

    Raises:
        InvalidInputError: if a text space does not say how many tokens it knows.
    """
    if space.modality == "text":
        if space.vocabulary < 2:
            raise InvalidInputError(
                f"space {space.name!r} takes text and has a vocabulary of {space.vocabulary}; need"
                " at least 2: set its `vocabulary`"
            )
        return packed(pack_tokens(random_texts(space.vocabulary, n, shape[2], generator)))
    if space.modality == "sound":
        noise = torch.randn(n, shape[2], generator=generator) * _LOUDNESS
        return packed(pack_sound(noise.clamp(-32768, 32767).to(torch.int16)))
    return torch.randn(n, *shape, generator=generator)


def random_texts(vocabulary: int, n: int, length: int, generator: Generator) -> Tensor:
    """Random ids ``[n, length]``; the first text fills it, others are half as long or longer.

    Args:
        vocabulary: ids are below it.
        n: how many.
        length: of one, with its padding.
        generator: where randomness comes from.
    """
    ids = torch.randint(PADDING + 1, vocabulary, (n, length), generator=generator)
    real = torch.randint(-(-length // 2), length + 1, (n, 1), generator=generator)
    real[0] = length
    return ids.where(torch.arange(length) < real, PADDING)
