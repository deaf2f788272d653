"""The outline of an encoder, and the name of the space that is made from it."""

from __future__ import annotations

from typing import Any

from ..errors import InvalidInputError
from .encoder import Encoder
from .mel_stem import MelStemSpec
from .outline import Outline
from .patch_stem import PatchStemSpec
from .stem import StemSpec
from .text_stem import TextStemSpec
from .wave_stem import WaveStemSpec

__all__ = ["outline_of", "space_of_stem"]

_NAMES: dict[type[StemSpec], str] = {
    MelStemSpec: "whisper-from-teacher",
    PatchStemSpec: "vit-from-teacher",
    TextStemSpec: "bert-from-teacher",
    WaveStemSpec: "hubert-from-teacher",
}


def space_of_stem(stem: StemSpec) -> str:
    """The space whose networks have such a stem.

    Raises:
        InvalidInputError: if none has.
    """
    name = _NAMES.get(type(stem))
    if name is None:
        known = ", ".join(sorted(_NAMES.values()))
        raise InvalidInputError(f"no space has the stem {type(stem).__name__}; there are {known}")
    return name


def outline_of(encoder: Encoder, *, resolution: int | None = None) -> Outline:
    """An encoder's measures, of layers that differ the largest of each.

    Args:
        encoder: the teacher.
        resolution: of students' images, in pixels a side; where the teacher's are others, students
            get patches so large that there are about as many of them. ``None``: the teacher's.

    Raises:
        InvalidInputError: if its stem is none that a space has.
    """
    space_of_stem(encoder.spec)
    shape, style = encoder.shape, encoder.style
    ffn = max(layer.ffn for layer in shape.layers)
    given = {"norm", "activation", "eps", "layer_scale", "final_norm", "pool"}
    if style.embed:  # runs of before know of none
        given.add("embed")
    if style.relative:
        given.add("relative")
    return Outline(
        dim=shape.dim,
        depth=len(shape.layers),
        heads=max(layer.heads for layer in shape.layers),
        head_dim=style.head_dim,
        tenths=-(-10 * ffn // shape.dim),
        style={name: value for name, value in style.to_json().items() if name in given},
        stem=_stem(encoder.spec, resolution),
    )


def _stem(spec: StemSpec, resolution: int | None) -> dict[str, Any]:
    """A stem's fields as options of its space."""
    if isinstance(spec, PatchStemSpec):
        patch = spec.patch
        if resolution is not None and resolution != spec.patch * spec.grid:
            patch = max(1, round(resolution / spec.grid))
        norm = {"stem_norm": spec.norm} if spec.norm else {}
        return {"patch_size": patch, **norm}
    if isinstance(spec, TextStemSpec):
        names = ("vocabulary", "positions", "padding")
        return {name: getattr(spec, name) for name in names}
    if isinstance(spec, MelStemSpec):
        return {"bands": spec.bands, "positions": spec.positions}
    if not isinstance(spec, WaveStemSpec):
        return {}
    return {
        "channels": list(spec.channels),
        "kernels": list(spec.kernels),
        "strides": list(spec.strides),
        "conv_bias": spec.bias,
        "conv_norm": spec.norm,
        "positional": spec.positional,
        "groups": spec.groups,
        "normalise": spec.normalise,
    }
