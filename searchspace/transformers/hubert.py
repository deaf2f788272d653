"""Spaces of HuBERT-like encoders: LightHuBERT's two, and one made from any HuBERT by ratios.

LightHuBERT: Wang et al., Interspeech 2022, Table 1. Every layer has its own heads, 64 wide, and
feed-forward ratio. The released supernet cuts the feed-forward features in four pieces; here, as
everywhere, a prefix is kept. wav2vec 2.0 has the same layers and the same stem.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..convnets.staged import divisible
from ..space import register_space
from .encoder_space import EncoderChoices
from .outline import Outline, choices_of
from .sound import SoundSpace
from .style import EncoderStyle
from .wave_stem import WaveStemSpec

__all__ = ["HubertSpace"]

_DEFAULT = WaveStemSpec()
_HUBERT = EncoderStyle(norm="post", eps=1e-5, final_norm=False)
_BASE = EncoderChoices((512, 640, 768), (12,), (8, 10, 12), (35, 40), unit=16)
#: The last layer goes first, then the last of the second four.
_KEPT = {12: tuple(range(12)), 11: tuple(range(11)), 10: (*range(7), 8, 9, 10)}
_SMALL = EncoderChoices((256, 384, 512), (10, 11, 12), (4, 6, 8), (30, 35, 40), keep=_KEPT, unit=16)

#: HuBERT-base, what ``hubert-from-teacher`` makes without a teacher.
_HUBERT_BASE = Outline(dim=768, depth=12, heads=12, head_dim=64, tenths=40, unit=16)


class HubertSpace(SoundSpace):
    """Encoders of sound whose stem convolves the waveform.

    ``width_mult`` is a factor on the channels of those convolutions, too.

    Args:
        name: registered name.
        choices: what a network may be.
        style: what layers share.
        channels: of each convolution of the waveform.
        kernels: of each.
        strides: of each.
        conv_bias: whether they have a bias.
        conv_norm: ``"group"`` or ``"layer"``, see
            :class:`~scholarch.searchspace.transformers.wave_stem.WaveStemSpec`.
        positional: tokens that the convolution of positions sees.
        groups: of it; widths of tokens are multiples.
        normalise: bring each clip to mean 0 and variance 1 first.
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
        channels: Sequence[int] = _DEFAULT.channels,
        kernels: Sequence[int] = _DEFAULT.kernels,
        strides: Sequence[int] = _DEFAULT.strides,
        conv_bias: bool = _DEFAULT.bias,
        conv_norm: str = _DEFAULT.norm,
        positional: int = _DEFAULT.positional,
        groups: int = _DEFAULT.groups,
        normalise: bool = _DEFAULT.normalise,
        **options: Any,
    ) -> None:
        self._whole = WaveStemSpec(
            channels,  # type: ignore[arg-type]  # lists become tuples
            kernels,  # type: ignore[arg-type]
            strides,  # type: ignore[arg-type]
            conv_bias,
            conv_norm,
            positional,
            groups,
            token_norm=style.norm == "post",
            normalise=normalise,
            eps=style.eps,
        )
        choices = replace(choices, unit=math.lcm(choices.unit, groups))
        super().__init__(name, choices, style, **options)
        for dim in self.choices.dims:
            self._whole.check_dim(dim)

    @property
    def stem(self) -> WaveStemSpec:
        if self.width_mult == 1.0:
            return self._whole
        scaled = tuple(divisible(c * self.width_mult) for c in self._whole.channels)
        return replace(self._whole, channels=scaled)

    def spec(self) -> dict[str, Any]:
        whole = self._whole
        return super().spec() | {
            "channels": list(whole.channels),
            "kernels": list(whole.kernels),
            "strides": list(whole.strides),
            "conv_bias": whole.bias,
            "conv_norm": whole.norm,
            "positional": whole.positional,
            "groups": whole.groups,
            "normalise": whole.normalise,
        }


@register_space("lighthubert-base")
def lighthubert_base(name: str, **options: Any) -> HubertSpace:
    """LightHuBERT's base space: 6.5e9 HuBERTs of 12 layers, 512 to 768 wide."""
    return HubertSpace(name, _BASE, _HUBERT, **options)


@register_space("lighthubert-small")
def lighthubert_small(name: str, **options: Any) -> HubertSpace:
    """LightHuBERT's small space: 9.5e11 HuBERTs of 10 to 12 layers, 256 to 512 wide."""
    return HubertSpace(name, _SMALL, _HUBERT, **options)


@register_space("hubert-from-teacher")
def hubert_from_teacher(name: str, *, outline: Any = None, **options: Any) -> HubertSpace:
    """Sound encoders at most as wide and deep as a HuBERT or wav2vec 2.0 (default: HuBERT-base)."""
    shape = Outline.read(outline, _HUBERT_BASE)
    groups = {**shape.stem, **options}.get("groups", _DEFAULT.groups)
    unit = math.lcm(shape.unit, groups) if type(groups) is int and groups > 0 else shape.unit
    choices = choices_of(replace(shape, unit=unit))
    given = {"norm": "post", "eps": 1e-5, "final_norm": False, "head_dim": shape.head_dim}
    style = EncoderStyle(**{**given, **shape.style})
    return HubertSpace(name, choices, style, outline=shape, **{**shape.stem, **options})
