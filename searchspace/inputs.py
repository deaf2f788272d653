"""Inputs that are no images, as images of two channels: text as tokens, sound as a waveform.

Everything that keeps inputs keeps bytes ``[N, H, W, C]``, and a batch is float ``[B, C, H, W]``
in [0, 1], so a token's id travels as two bytes, and a sample of sound as the two of its 16-bit
PCM value, the greater byte first: ``[N, 1, L, 2]``, then ``[B, 2, 1, L]``. In float32 both come
back exactly. Networks take the packed form, or ids and waveforms as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import InvalidInputError

__all__ = [
    "PADDING",
    "pack_sound",
    "pack_tokens",
    "packed",
    "token_ids",
    "waveform",
]

PADDING = 0
"""Id of the token that fills a short text up, BERT's ``[PAD]``."""

_LARGEST = 2**16


def pack_tokens(ids: Tensor) -> Tensor:
    """Token ids as bytes.

    Args:
        ids: whole numbers ``[N, L]``, 0 to 65,535.

    Returns:
        uint8 ``[N, 1, L, 2]``, the greater byte first.

    Raises:
        InvalidInputError: if they are no such ids.
    """
    if ids.dim() != 2 or ids.is_floating_point():
        raise InvalidInputError(
            f"token ids are {ids.dtype} of shape {tuple(ids.shape)}; need whole numbers [N, L]"
        )
    if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= _LARGEST):
        raise InvalidInputError(
            f"token ids span {int(ids.min())} to {int(ids.max())}; need 0 to {_LARGEST - 1}, so a"
            f" tokenizer of at most {_LARGEST} tokens"
        )
    return _pair(ids.long())


def pack_sound(samples: Tensor) -> Tensor:
    """16-bit PCM sound, 16,000 samples a second, as bytes.

    Args:
        samples: int16 ``[N, T]``.

    Returns:
        uint8 ``[N, 1, T, 2]``, two's complement, the greater byte first.

    Raises:
        InvalidInputError: if they are no such samples.
    """
    if samples.dim() != 2 or samples.dtype != torch.int16:
        raise InvalidInputError(
            f"sound is {samples.dtype} of shape {tuple(samples.shape)}; need int16 [N, T]"
        )
    return _pair(samples.long() % _LARGEST)


def _pair(values: Tensor) -> Tensor:
    """Numbers from 0 to 65,535 ``[N, L]`` as bytes ``[N, 1, L, 2]``."""
    return torch.stack([values // 256, values % 256], dim=-1).to(torch.uint8).unsqueeze(1)


def packed(inputs: Tensor) -> Tensor:
    """Bytes ``[N, 1, L, 2]`` as a batch holds them, float32 ``[N, 2, 1, L]`` in [0, 1]."""
    return inputs.permute(0, 3, 1, 2).contiguous().float() / 255.0


def token_ids(x: Tensor) -> Tensor:
    """Token ids of a network's input, int64 ``[B, L]``.

    Args:
        x: ids, whole numbers ``[B, L]``, or as a batch holds them, float ``[B, 2, 1, L]`` in
            [0, 1].

    Raises:
        InvalidInputError: if it is neither.
    """
    if not x.is_floating_point():
        if x.dim() == 2:
            return x.long()
    elif _is_packed(x):
        return _number(x)
    raise InvalidInputError(
        f"text input is {x.dtype} of shape {tuple(x.shape)}; need whole numbers [B, L], token ids,"
        " or float [B, 2, 1, L] as a batch holds them"
    )


def waveform(x: Tensor) -> Tensor:
    """The waveform of a network's input, float ``[B, T]`` in [-1, 1), float32 or as given float64.

    Args:
        x: a waveform, float ``[B, T]``, or as a batch holds it, float ``[B, 2, 1, T]`` in [0, 1].

    Raises:
        InvalidInputError: if it is neither.
    """
    if x.is_floating_point():
        if x.dim() == 2:
            return x
        if _is_packed(x):
            value = _number(x)
            signed = value - (value >= _LARGEST // 2) * _LARGEST
            return signed.to(torch.float64 if x.dtype == torch.float64 else torch.float32) / (
                _LARGEST // 2
            )
    raise InvalidInputError(
        f"sound input is {x.dtype} of shape {tuple(x.shape)}; need float [B, T], a waveform in"
        " [-1, 1), or float [B, 2, 1, T] as a batch holds it"
    )


def _is_packed(x: Tensor) -> bool:
    return x.dim() == 4 and x.shape[1] == 2 and x.shape[2] == 1


def _number(x: Tensor) -> Tensor:
    """Numbers from 0 to 65,535 out of ``[B, 2, 1, L]`` in [0, 1], int64 ``[B, L]``."""
    high, low = (x[:, :, 0] * 255.0).round().long().unbind(dim=1)
    return high * 256 + low
