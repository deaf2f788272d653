"""Small spaces to test with: any registered one, and inputs and labels that fit it."""

from __future__ import annotations

from fnmatch import fnmatch
from typing import Any

import torch
from torch import Tensor

from ..proxies.batch import Batch
from ..proxies.taps import Taps
from ..searchspace.factory import create_space
from ..searchspace.space import SearchSpace
from ..searchspace.trace import Trace

__all__ = [
    "LIGHT",
    "SIDES",
    "inputs_for",
    "light_batch",
    "light_options",
    "light_space",
    "light_taps",
]

#: Options, by patterns of names, under which a space whose supernet is large is tested.
LIGHT: dict[str, dict[str, Any]] = {
    "autodistil-*": {"width_mult": 0.125, "vocabulary": 300},
    "autoformer-*": {"width_mult": 0.125},
    "bert-*": {"width_mult": 0.125, "vocabulary": 300},
    "compofa*": {"width_mult": 0.25},
    "hubert-*": {"width_mult": 0.125},
    "lighthubert-*": {"width_mult": 0.125},
    "mobilenetv3*": {"width_mult": 0.25},
    "nasbench101": {"width_mult": 0.125},
    "plainnet*": {"width_mult": 0.125},
    "proxylessnas": {"width_mult": 0.25},
    "resnet50": {"width_mult": 0.25},
    "vit-*": {"width_mult": 0.25},
    "vitbench-*": {"width_mult": 0.25},
    "whisper-*": {"width_mult": 0.25, "positions": 50},
}

#: Sizes of inputs that suites take: pixels a side, tokens, samples of sound.
SIDES = {"image": 32, "text": 12, "sound": 4000}


def light_options(name: str, **options: Any) -> dict[str, Any]:
    """Of a registered space, under which it is small.

    Args:
        name: registered name.
        **options: further ones; a ``width_mult`` holds where the table has no smaller one.
    """
    found: dict[str, Any] = {}
    for pattern, given in LIGHT.items():
        found |= given if fnmatch(name, pattern) else {}
    width = min(options.pop("width_mult", 1.0), found.pop("width_mult", 1.0))
    return {**found, **options, **({"width_mult": width} if width < 1.0 else {})}


def light_space(name: str, **options: Any) -> SearchSpace:
    """A registered space, small; text and sound of :data:`SIDES`.

    Args:
        name: registered name.
        **options: see :func:`light_options`; a ``resolution`` is for images alone.
    """
    given = light_options(name, **options)
    side = given.pop("resolution", None)
    space = create_space(name, **given)
    if space.modality != "image":
        side = SIDES[space.modality]
    return space if side is None else create_space(name, **given, resolution=side)


def inputs_for(space: SearchSpace, n: int, seed: int = 0, resolution: int | None = None) -> Tensor:
    """Made-up inputs for a space's networks, ``[n, C, H, W]``; by default of :data:`SIDES`."""
    generator = torch.Generator().manual_seed(seed)
    return space.example(n, generator, resolution or SIDES[space.modality])


def light_batch(space: SearchSpace, images: int = 8, seed: int = 0) -> Batch:
    """A batch of made-up inputs with labels 0, 1, … in turn."""
    labels = torch.arange(images) % space.num_classes
    if space.modality != "image":
        inputs = inputs_for(space, images, seed)
        zeros, ones = (0.0, 0.0), (1.0, 1.0)
        return Batch(inputs, labels, space.num_classes, zeros, ones, "made up", space.modality)
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.rand(images, *space.input_shape(SIDES["image"]), generator=generator)
    channels = space.in_channels
    return Batch(inputs, labels, space.num_classes, (0.5,) * channels, (0.3,) * channels)


def light_taps(space: SearchSpace, images: int = 8, channels: int = 16) -> Taps:
    """Of a teacher of made-up maps: 4×4 of images, one stage; of text and sound tokens, four."""
    generator = torch.Generator().manual_seed(9)
    shape, stages = (4, 4), 1
    if space.modality != "image":
        shape, stages = (1, _tokens(space)), 4
    maps = [torch.rand(images, channels, *shape, generator=generator) for _ in range(stages)]
    classifier = torch.randn(space.num_classes, channels, generator=generator)
    pooled = maps[-1].mean(dim=(2, 3))
    return Taps(tuple(maps), maps[-1], pooled, pooled @ classifier.T, classifier)


def _tokens(space: SearchSpace) -> int:
    """Tokens that the networks of a space make of its light inputs."""
    network = space.supernet()
    x = inputs_for(space, 2)
    mask = network.mask_of(x)
    with torch.no_grad():
        first = network.steps(space.sample(1, 0)[0])[0]
        return int(network.run_step(first, x, Trace(mask=mask)).shape[-1])
