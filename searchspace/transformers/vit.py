"""Spaces of Vision Transformers: AutoFormer's three, and one made from any ViT by ratios.

AutoFormer: Chen et al., ICCV 2021, Table 2. Queries, keys and values are 64 wide a head whatever
the tokens are, positions are learned and, two-dimensional and clipped at 14 patches, relative; the
mean over patches is classified.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ..errors import InvalidInputError
from ..space import register_space
from .counts import check_patch, patches_in
from .encoder_space import EncoderChoices, EncoderSpace
from .outline import Outline, choices_of
from .patch_stem import PatchStemSpec
from .style import EncoderStyle

__all__ = ["ViTSpace"]

_AUTOFORMER = EncoderStyle(eps=1e-5, relative=14, pool="patches")
_TINY = EncoderChoices((192, 216, 240), (12, 13, 14), (3, 4), (35, 40))
_SMALL = EncoderChoices((320, 384, 448), (12, 13, 14), (5, 6, 7), (30, 35, 40))
_BASE = EncoderChoices((528, 576, 624), (14, 15, 16), (9, 10), (30, 35, 40))

#: DeiT-Ti (Touvron et al., ICML 2021), what ``vit-from-teacher`` makes without a teacher.
_DEIT_TINY = Outline(dim=192, depth=12, heads=3, head_dim=64, tenths=40)


class ViTSpace(EncoderSpace):
    """Vision Transformers of square images.

    Args:
        name: registered name.
        choices: what a network may be.
        style: what layers share.
        patch_size: side of a patch in pixels.
        stem_norm: ε of a layer norm in front of the layers; 0: there is none.
        outline: of the teacher that the choices were made from, where there was one.
        **options: see :class:`~scholarch.searchspace.transformers.encoder_space.EncoderSpace`.
    """

    modality: ClassVar[str] = "image"

    def __init__(
        self,
        name: str,
        choices: EncoderChoices,
        style: EncoderStyle,
        *,
        patch_size: int = 16,
        stem_norm: float = 0.0,
        outline: Outline | None = None,
        **options: Any,
    ) -> None:
        super().__init__(name, choices, style, **options)
        self.patch_size = check_patch(name, patch_size, self.resolution)
        if isinstance(stem_norm, bool) or not isinstance(stem_norm, int | float) or stem_norm < 0:
            raise InvalidInputError(
                f"stem_norm = {stem_norm!r} for space {name!r}; need an epsilon above 0, or 0 for"
                " none"
            )
        self.stem_norm = float(stem_norm)
        self.outline = outline

    @property
    def stem(self) -> PatchStemSpec:
        grid = patches_in(self.resolution, self.patch_size, self.patch_size)
        return PatchStemSpec(self.patch_size, grid, self.in_channels, self.stem_norm)

    def spec(self) -> dict[str, Any]:
        own: dict[str, Any] = {"patch_size": self.patch_size}
        if self.stem_norm:
            own["stem_norm"] = self.stem_norm
        if self.outline is not None:
            own["outline"] = self.outline.to_json()
        return super().spec() | own


@register_space("autoformer-tiny")
def autoformer_tiny(name: str, **options: Any) -> ViTSpace:
    """AutoFormer-T: 1.06e9 Vision Transformers around 6 million parameters."""
    return ViTSpace(name, _TINY, _AUTOFORMER, **{"resolution": 224, **options})


@register_space("autoformer-small")
def autoformer_small(name: str, **options: Any) -> ViTSpace:
    """AutoFormer-S: 7.7e13 Vision Transformers around 23 million parameters."""
    return ViTSpace(name, _SMALL, _AUTOFORMER, **{"resolution": 224, **options})


@register_space("autoformer-base")
def autoformer_base(name: str, **options: Any) -> ViTSpace:
    """AutoFormer-B: 1.0e13 Vision Transformers around 53 million parameters."""
    return ViTSpace(name, _BASE, _AUTOFORMER, **{"resolution": 224, **options})


@register_space("vit-from-teacher")
def vit_from_teacher(name: str, *, outline: Any = None, **options: Any) -> ViTSpace:
    """Vision Transformers at most as wide and deep as a teacher (default: DeiT-Ti)."""
    shape = Outline.read(outline, _DEIT_TINY)
    style = EncoderStyle(**{"pool": "first", "head_dim": shape.head_dim, **shape.style})
    given = {"resolution": 224, **shape.stem, **options}
    return ViTSpace(name, choices_of(shape), style, outline=shape, **given)
