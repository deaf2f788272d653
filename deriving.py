"""The space that a name stands for, given the data and the teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from .proxies.batch import Batch
from .proxies.teacher import Teacher, batch_statistics
from .proxies.teacher_shape import find_teacher_shape
from .searchspace.convnets.derived import derive_space
from .searchspace.errors import InvalidInputError
from .searchspace.factory import create_space
from .searchspace.space import SearchSpace
from .searchspace.transformers.encoder import Encoder
from .searchspace.transformers.of_teacher import outline_of, space_of_stem
from .searchspace.transformers.text_stem import TextStemSpec
from .teachers.timm_vit import convert_timm_vit, is_timm_vit

__all__ = ["encoder_of", "space_for", "space_of_data"]


def encoder_of(teacher: Teacher | None) -> Encoder | None:
    """A teacher that is a Transformer of ours or a ViT of timm's, as our encoder; else ``None``."""
    if teacher is None:
        return None
    if isinstance(teacher.module, Encoder):
        return teacher.module
    if not is_timm_vit(teacher.module):
        return None
    try:
        return convert_timm_vit(teacher.name, teacher.module).build()
    except InvalidInputError:
        return None  # a ViT with parts that ours have not is a teacher all the same


def space_for(
    name: str | None,
    batch: Batch,
    teacher: Teacher | None,
    options: Mapping[str, Any] | None = None,
) -> SearchSpace:
    """The space of that name for a batch's inputs; ``None``: the one derived from the teacher.

    Raises:
        UnknownNameError: if no space has that name.
        InvalidInputError: if there is neither name nor teacher, or the teacher is neither a
            convolutional network nor a Transformer.
    """
    given = {
        "num_classes": batch.num_classes,
        "resolution": int(batch.images.shape[-1]),
        "in_channels": int(batch.images.shape[1]),
    }
    return space_of_data(name, given, teacher, options)


def space_of_data(
    name: str | None,
    given: Mapping[str, Any],
    teacher: Teacher | None,
    options: Mapping[str, Any] | None = None,
) -> SearchSpace:
    """The space of that name; ``None``: the one derived from the teacher.

    A space that is made from a teacher (``vit-from-teacher``, …) has the teacher's outline where
    there is a teacher of its kind, and a text space the teacher's vocabulary.

    Args:
        name: registered, or ``None``.
        given: ``num_classes``, ``resolution`` and ``in_channels`` of the data.
        teacher: or ``None``.
        options: what the space's factory takes beside; they go before what the teacher says.

    Raises:
        UnknownNameError: if no space has that name.
        InvalidInputError: see :func:`space_for`.
    """
    options = dict(options or {})
    encoder = encoder_of(teacher)
    if encoder is not None:
        own = space_of_stem(encoder.spec)
        name = own if name is None else name
        if name == own and "outline" not in options:
            outline = outline_of(encoder, resolution=int(given["resolution"]))
            options["outline"] = outline.to_json()
    if name is None:
        if options:
            raise InvalidInputError(
                f"options {options} for a space that is derived from a convolutional teacher, which"
                " takes none; name a space"
            )
        return _derived(given, teacher)
    space = create_space(name, **(dict(given) | options))
    if encoder is None or not isinstance(encoder.spec, TextStemSpec) or space.modality != "text":
        return space
    words = encoder.spec.vocabulary
    if getattr(space, "vocabulary", words) == words or "vocabulary" in options:
        return space
    return create_space(name, **(dict(given) | options | {"vocabulary": words}))


def _derived(given: Mapping[str, Any], teacher: Teacher | None) -> SearchSpace:
    if teacher is None:
        raise InvalidInputError(
            "without a space one is derived from the teacher; give --space or --teacher"
        )
    example = torch.zeros(1, *teacher.input_shape)
    with batch_statistics(teacher.module, not teacher.trained):
        shape = find_teacher_shape(teacher.module, example)
    return derive_space(shape, **given)
