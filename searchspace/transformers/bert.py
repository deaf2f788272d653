"""Spaces of BERT-like encoders: AutoDistil's three, and one made from any BERT by ratios.

AutoDistil: Xu et al., NeurIPS 2022, Table 2. All layers of a network are alike, heads are 64 wide.
The published parameter counts take attention to be as wide as heads / 12 of the tokens; these
networks, as the released supernet, have 64 rows a head, and are counted as they are built.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ..errors import InvalidInputError
from ..space import register_space
from .encoder_space import EncoderChoices, EncoderSpace
from .outline import Outline, choices_of
from .style import EncoderStyle
from .text_stem import TextStemSpec

__all__ = ["BertSpace"]

_BERT = EncoderStyle(norm="post", eps=1e-12, final_norm=False, pool="first")
_BASE = EncoderChoices(
    (544, 576, 608, 640),
    (9, 10, 11, 12),
    (9, 10, 11, 12),
    (25, 30, 35, 40),
    per_layer=False,
    keep="even",
)
_SMALL = EncoderChoices(
    (256, 288, 320, 352),
    (9, 10, 11, 12),
    (7, 8, 9, 10),
    (25, 30, 35, 40),
    per_layer=False,
    keep="even",
)
_TINY = EncoderChoices(
    (128, 160, 192, 224),
    (4, 5, 6, 7),
    (7, 8, 9, 10),
    (20, 25, 30, 35),
    per_layer=False,
    keep="even",
)

#: all-MiniLM-L6-v2's, what ``bert-from-teacher`` makes without a teacher.
_MINILM = Outline(dim=384, depth=6, heads=12, head_dim=32, tenths=40, style={"pool": "mean"})

LENGTH = 128
"""Of a text, in tokens, at which costs are quoted where no data say otherwise."""


class BertSpace(EncoderSpace):
    """Encoders of text.

    ``resolution`` is the length of a text in tokens; ``in_channels`` is 2, the bytes of a token.

    Args:
        name: registered name.
        choices: what a network may be.
        style: what layers share.
        vocabulary: how many token ids there are.
        positions: the longest text, in tokens.
        padding: the id behind a text's end.
        outline: of the teacher that the choices were made from, where there was one.
        **options: see :class:`~scholarch.searchspace.transformers.encoder_space.EncoderSpace`.
    """

    modality: ClassVar[str] = "text"

    def __init__(
        self,
        name: str,
        choices: EncoderChoices,
        style: EncoderStyle,
        *,
        vocabulary: int = 30522,
        positions: int = 512,
        padding: int = 0,
        outline: Outline | None = None,
        **options: Any,
    ) -> None:
        for what, value in (("vocabulary", vocabulary), ("positions", positions)):
            if type(value) is not int or not 2 <= value <= 65536:
                raise InvalidInputError(
                    f"{what} = {value!r} for space {name!r}; need a whole number 2 to 65536"
                )
        if type(padding) is not int or not 0 <= padding < vocabulary:
            raise InvalidInputError(f"padding = {padding!r}; need an id below {vocabulary}")
        self.vocabulary, self.positions, self.padding = vocabulary, positions, padding
        super().__init__(
            name, choices, style, **{"resolution": LENGTH, "in_channels": 2, **options}
        )
        if self.in_channels != 2:
            raise InvalidInputError(
                f"in_channels = {self.in_channels} for space {name!r}; need 2, a token's bytes"
            )
        self.outline = outline
        self.stem.tokens(self.resolution)

    @property
    def stem(self) -> TextStemSpec:
        return TextStemSpec(self.vocabulary, self.positions, self.padding, self.style.eps)

    def spec(self) -> dict[str, Any]:
        names = ("vocabulary", "positions", "padding")
        own: dict[str, Any] = {name: getattr(self, name) for name in names}
        if self.outline is not None:
            own["outline"] = self.outline.to_json()
        return super().spec() | own


@register_space("autodistil-base")
def autodistil_base(name: str, **options: Any) -> BertSpace:
    """AutoDistil's base space: 256 BERTs of 9 to 12 layers, 544 to 640 wide."""
    return BertSpace(name, _BASE, _BERT, **options)


@register_space("autodistil-small")
def autodistil_small(name: str, **options: Any) -> BertSpace:
    """AutoDistil's small space: 256 BERTs of 9 to 12 layers, 256 to 352 wide."""
    return BertSpace(name, _SMALL, _BERT, **options)


@register_space("autodistil-tiny")
def autodistil_tiny(name: str, **options: Any) -> BertSpace:
    """AutoDistil's tiny space: 256 BERTs of 4 to 7 layers, 128 to 224 wide."""
    return BertSpace(name, _TINY, _BERT, **options)


@register_space("bert-from-teacher")
def bert_from_teacher(name: str, *, outline: Any = None, **options: Any) -> BertSpace:
    """Text encoders at most as wide and deep as a teacher (default: all-MiniLM-L6-v2)."""
    shape = Outline.read(outline, _MINILM)
    given = {"norm": "post", "eps": 1e-12, "final_norm": False, "head_dim": shape.head_dim}
    style = EncoderStyle(**{**given, **shape.style})
    return BertSpace(name, choices_of(shape), style, outline=shape, **{**shape.stem, **options})
