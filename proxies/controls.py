"""Teachers that know less: what a teacher-aware score has to do worse with.

A score that ranks as well with the teacher's images shuffled, or with a teacher that says the
same of every image, has learnt nothing from the teacher, whatever it is called; one that ranks
as well with the labels in the teacher's place needs no teacher. Each control is a pure function
of the teacher's taps; a random teacher, one more control, is one loaded untrained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..searchspace.errors import InvalidInputError
from .taps import Taps, TokenTaps

__all__ = ["constant", "labels_only", "permuted_channels", "shuffled_images"]


def permuted_channels(taps: Taps, seed: int = 0) -> Taps:
    """The same function with its channels named in another order.

    Logits stay as they are, since the classifier's columns move with the features they read.
    A score that changes depends on how channels happen to be numbered. One order for each
    number of channels, so that the final map and what is pooled from it stay together.

    Args:
        taps: of the teacher.
        seed: of the orders.
    """

    def permuted(x: Tensor) -> Tensor:
        count = x.shape[1]
        return x[:, torch.randperm(count, generator=torch.Generator().manual_seed(seed))]

    return Taps(
        stages=tuple(permuted(stage) for stage in taps.stages),
        final_map=permuted(taps.final_map),
        pooled=permuted(taps.pooled),
        logits=taps.logits,
        classifier=None if taps.classifier is None else permuted(taps.classifier),
        # Not queries, keys and values: which of them are a head's is no matter of numbering.
        tokens=taps.tokens,
    )


def shuffled_images(taps: Taps, seed: int = 0) -> Taps:
    """What the teacher says of one image, said of another; labels stay with their images.

    Args:
        taps: of the teacher.
        seed: of the order, in which no image keeps its place.

    Raises:
        InvalidInputError: for a single image, which cannot be another's.
    """
    count = len(taps.pooled)
    if count < 2:
        raise InvalidInputError(f"shuffling needs at least 2 images; the teacher saw {count}")
    # Each image takes the place of the next on one random cycle through all of them.
    cycle = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    source = torch.empty_like(cycle)
    source[cycle] = cycle.roll(1)
    return _mapped(taps, lambda x: x[source])


def constant(taps: Taps) -> Taps:
    """A teacher that says of every image what it says on average.

    Logits are those of the averaged features, the classifier being linear.
    """
    return _mapped(taps, lambda x: x.mean(dim=0, keepdim=True).expand_as(x).contiguous())


def labels_only(taps: Taps, labels: Tensor, num_classes: int) -> Taps:
    """A teacher that knows the labels and nothing else of the images.

    Channel k of every map is 1 all over where the image is of class k, else 0, and so are the
    pooled features and the logits; the channels behind the last class are 0. Stages keep their
    size in pixels, and their channels where there are as many as classes.

    Args:
        taps: of the teacher; its values do not matter, only their shapes.
        labels: of the images, int64 ``[B]``.
        num_classes: K, more than the largest label.

    Raises:
        InvalidInputError: if there are not as many labels as images, or they are no classes.
    """
    if labels.is_floating_point():
        raise InvalidInputError(
            "labels here are a teacher's vectors, not classes; leave the control 'labels' out"
        )
    if len(labels) != len(taps.pooled):
        raise InvalidInputError(
            f"{len(labels)} labels for the {len(taps.pooled)} images that the teacher saw"
        )

    def known(x: Tensor) -> Tensor:
        shape = (len(labels), max(x.shape[1], num_classes), *x.shape[2:])
        out = torch.zeros(shape, dtype=x.dtype)
        out[torch.arange(len(labels)), labels] = 1.0
        return out

    pooled = known(taps.pooled)
    has_classifier = taps.logits is not None
    return Taps(
        stages=tuple(known(stage) for stage in taps.stages),
        final_map=known(taps.final_map),
        pooled=pooled,
        logits=pooled[:, :num_classes].clone() if has_classifier else None,
        classifier=torch.eye(num_classes, pooled.shape[1]) if has_classifier else None,
    )


def _mapped(taps: Taps, change: Callable[[Tensor], Tensor]) -> Taps:
    """Taps with ``change`` made to whatever has images as its first dimension."""
    return Taps(
        stages=tuple(change(stage) for stage in taps.stages),
        final_map=change(taps.final_map),
        pooled=change(taps.pooled),
        logits=None if taps.logits is None else change(taps.logits),
        classifier=taps.classifier,
        tokens=None if taps.tokens is None else _mapped_tokens(taps.tokens, change),
    )


def _mapped_tokens(tokens: TokenTaps, change: Callable[[Tensor], Tensor]) -> TokenTaps:
    """The same of a Transformer's layers; what is padding stays with its input."""
    layers, qkv = (tuple(change(x) for x in of) for of in (tokens.layers, tokens.qkv))
    return replace(tokens, layers=layers, qkv=qkv)
