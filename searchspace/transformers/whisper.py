"""A space of Whisper-like encoders, made from any Whisper by ratios.

Radford et al., ICML 2023, §2.2 and Table 1: pre-norm layers on log-mel frames.
"""

from __future__ import annotations

from typing import Any

from ..errors import InvalidInputError
from ..space import register_space
from .encoder_space import EncoderChoices
from .mel_stem import MelStemSpec
from .outline import Outline, choices_of
from .sound import SoundSpace
from .style import EncoderStyle

__all__ = ["WhisperSpace"]

_DEFAULT = MelStemSpec()

#: Whisper tiny's, what ``whisper-from-teacher`` makes without a teacher.
_TINY = Outline(dim=384, depth=4, heads=6, head_dim=64, tenths=40)


class WhisperSpace(SoundSpace):
    """Encoders of sound whose stem takes log-mel frames.

    Args:
        name: registered name.
        choices: what a network may be.
        style: what layers share.
        bands: of the mel scale.
        positions: the longest clip, in tokens of 20 ms.
        **options: see :class:`~scholarch.searchspace.transformers.sound.SoundSpace`.

    Raises:
        InvalidInputError: if an option is out of range.
    """

    def __init__(
        self,
        name: str,
        choices: EncoderChoices,
        style: EncoderStyle,
        *,
        bands: int = _DEFAULT.bands,
        positions: int = _DEFAULT.positions,
        **options: Any,
    ) -> None:
        for what, value, most in (("bands", bands, 128), ("positions", positions, 65536)):
            if type(value) is not int or not 1 <= value <= most:
                raise InvalidInputError(
                    f"{what} = {value!r} for space {name!r}; need a whole number 1 to {most}"
                )
        self._stem = MelStemSpec(bands, positions)
        super().__init__(name, choices, style, **options)

    @property
    def stem(self) -> MelStemSpec:
        return self._stem

    def spec(self) -> dict[str, Any]:
        return super().spec() | {"bands": self._stem.bands, "positions": self._stem.positions}


@register_space("whisper-from-teacher")
def whisper_from_teacher(name: str, *, outline: Any = None, **options: Any) -> WhisperSpace:
    """Sound encoders at most as wide and deep as a Whisper's (default: Whisper tiny)."""
    shape = Outline.read(outline, _TINY)
    style = EncoderStyle(**{"eps": 1e-5, "head_dim": shape.head_dim, **shape.style})
    return WhisperSpace(name, choices_of(shape), style, outline=shape, **{**shape.stem, **options})
