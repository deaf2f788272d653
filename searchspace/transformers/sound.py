"""What spaces of sound have in common, whatever their stem is."""

from __future__ import annotations

from typing import Any, ClassVar

from ..errors import InvalidInputError
from .encoder_space import EncoderChoices, EncoderSpace
from .outline import Outline
from .style import EncoderStyle

__all__ = ["SAMPLES", "SoundSpace"]

SAMPLES = 16_000
"""Of a clip, one second, at which costs are quoted where no data say otherwise."""


class SoundSpace(EncoderSpace):
    """Encoders of sound.

    ``resolution`` is the length of a clip in samples, 16,000 a second; ``in_channels`` is 2, the
    bytes of a sample. What is classified is the mean over tokens.

    Args:
        name: registered name.
        choices: what a network may be.
        style: what layers share.
        outline: of the teacher that the choices were made from, where there was one.
        **options: see :class:`~scholarch.searchspace.transformers.encoder_space.EncoderSpace`.

    Raises:
        InvalidInputError: if a clip of ``resolution`` makes no token, or more than there may be.
    """

    modality: ClassVar[str] = "sound"

    def __init__(
        self,
        name: str,
        choices: EncoderChoices,
        style: EncoderStyle,
        *,
        outline: Outline | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            name, choices, style, **{"resolution": SAMPLES, "in_channels": 2, **options}
        )
        if self.in_channels != 2:
            raise InvalidInputError(
                f"in_channels = {self.in_channels} for space {name!r}; need 2, a sample's bytes"
            )
        self.outline = outline
        self.stem.tokens(self.resolution)

    def spec(self) -> dict[str, Any]:
        own = {} if self.outline is None else {"outline": self.outline.to_json()}
        return super().spec() | own
