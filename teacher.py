"""Teachers: by name, from a checkpoint, or any network."""

from __future__ import annotations

import copy
import itertools
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from .proxies.layouts import as_map, input_size
from .proxies.recorder import watch
from .proxies.tap_finder import Named, TapPlan, classifier_weight, find_taps
from .proxies.teacher import FORWARD_ERRORS, Teacher, batch_statistics, blank, first_line
from .searchspace.errors import InvalidInputError, UnknownNameError
from .searchspace.modality import MODALITIES, PLURALS, SAMPLE_RATE, size_text
from .searchspace.plugins import load_entry_points
from .searchspace.weights import fit_weights, read_weights
from .teachers import (
    cifar,  # importing registers its names
    packaged,  # noqa: F401 (likewise)
)
from .teachers.bundled import BUNDLED
from .teachers.folder import load_teacher_folder
from .teachers.hugging_face import is_transformers, load_transformers
from .teachers.registry import ABOUT, TEACHERS, TeacherNetwork, TeacherRequest, register_teacher
from .teachers.timm_models import is_timm_model, list_timm_models, load_timm_model

__all__ = [
    "BUNDLED",
    "Teacher",
    "describe_teacher",
    "list_teachers",
    "load_teacher",
    "register_teacher",
]

WEIGHT_SUFFIXES = frozenset({".bin", ".ckpt", ".pkl", ".pt", ".pth", ".safetensors", ".th"})

#: Length of what a network of text (tokens) or sound (samples) is tried on.
LENGTHS = {"text": 16, "sound": SAMPLE_RATE}

#: Sides tried, in pixels, on a network that does not tell what images it was made for.
SIDES = (32, 224, 64, 96, 28, 128, 256)


def list_teachers(pattern: str = "*") -> list[str]:
    """Names of teachers that match a shell pattern: registered ones, then timm's."""
    load_entry_points()
    return TEACHERS.names(pattern) + list_timm_models(pattern)


def describe_teacher(name: str) -> str:
    """One line about a name that :func:`list_teachers` gives."""
    return ABOUT[name] if name in TEACHERS else "timm, with pretrained weights or --weights FILE"


def load_teacher(
    name_or_module: str | os.PathLike[str] | nn.Module | Teacher,
    *,
    weights: str | os.PathLike[str] | None = None,
    untrained: bool = False,
    num_classes: int | None = None,
    taps: Named | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    resize: int | None = None,
    seed: int = 0,
) -> Teacher:
    """Load a network that students are compared with.

    Args:
        name_or_module: a registered name (see :func:`list_teachers`; ``resnet14-digits`` is
            bundled), a timm name, the path of a CIFAR ResNet's checkpoint, a folder of weights
            and ``config.json`` (a student's, timm's, Hugging Face's), or any network, which is
            copied and otherwise left as it is: of images ``[B, C, H, W]``, token ids ``[B, L]`` or
            waveforms ``[B, T]``. A teacher is returned as it is.
        weights: a checkpoint, ``.safetensors`` or of ``torch.save``; no pickle is ever read.
        untrained: use random weights. Batch norm then normalises by the batch.
        num_classes: outputs of the classifier; default the network's own.
        taps: where to measure, role → module path, for ``final``, ``classifier`` and
            ``stages`` (several paths); what is not named is found.
        mean: of the channels of its inputs in [0, 1]; default the teacher's own, else that of
            the data.
        std: likewise.
        resize: side in pixels to which its inputs are resized; 0 leaves them as they come.
            Default: timm models get the size they were made for, others images as they come.
        seed: of random weights; the global generator is left as it is.

    Raises:
        UnknownNameError: if a name, a tap's role or module is unknown; near ones are offered.
        InvalidInputError: if weights cannot be had, read or fitted, or the network has no
            feature map.

    Example:
        >>> load_teacher("resnet14-digits").num_classes
        10
    """
    if isinstance(name_or_module, Teacher):
        return name_or_module
    _check_numbers(num_classes, resize, seed)
    if weights is not None and untrained:
        raise InvalidInputError(f"weights {str(weights)!r} and untrained exclude each other")
    if taps is not None and not isinstance(taps, Mapping):
        raise InvalidInputError(f"taps = {taps!r}; need a mapping such as {{'final': 'layer4'}}")
    if isinstance(name_or_module, nn.Module):
        name = type(name_or_module).__name__
    else:
        name = os.fspath(name_or_module)
    request = TeacherRequest(
        name,
        None if weights is None else Path(weights).expanduser(),
        untrained,
        num_classes,
        resize,
        seed,
    )
    if isinstance(name_or_module, nn.Module):
        network = _from_module(name_or_module, request)
    else:
        network = _from_name(request, is_path=not isinstance(name_or_module, str))
    module = network.module.to("cpu").eval().requires_grad_(False)
    side = resize or (network.resize if resize is None else None)
    with batch_statistics(module, not network.trained):
        plan, shape = _plan(network, name, side, taps)
    channels = shape[0]
    classes = None
    if plan.classifier is not None:
        weight = classifier_weight(module.get_submodule(plan.classifier.split("#")[0]))
        classes = None if weight is None else len(weight)
    if num_classes not in (None, classes):
        raise InvalidInputError(f"teacher {name!r} has {classes} classes, not {num_classes}")
    params = sum(parameter.numel() for parameter in module.parameters())
    return Teacher(
        name=name,
        module=module,
        mean=_normalisation("mean", mean, channels) or network.mean,
        std=_normalisation("std", std, channels) or network.std,
        resize=side if network.modality == "image" else None,
        num_classes=classes,
        trained=network.trained,
        plan=plan,
        input_shape=shape,
        accuracy=network.accuracy,
        about=f"{name}: {network.source}; {params:,} parameters",
        modality=network.modality,
    )


def _from_name(request: TeacherRequest, is_path: bool) -> TeacherNetwork:
    name = request.name
    load_entry_points()
    if not is_path and name in TEACHERS:
        return TEACHERS[name](request)
    path = Path(name).expanduser()
    # Looked at before timm, whose import takes seconds.
    if is_path or path.exists() or len(path.parts) > 1 or path.suffix in WEIGHT_SUFFIXES:
        return _from_file(path, request)
    if is_timm_model(name):
        return load_timm_model(request)
    raise UnknownNameError("teacher", name, [*TEACHERS, *list_timm_models()])


def _from_file(path: Path, request: TeacherRequest) -> TeacherNetwork:
    if path.is_dir():
        return load_teacher_folder(path, request)
    for what, given in (("weights", request.weights), ("untrained", request.untrained)):
        if given:
            raise InvalidInputError(
                f"teacher {str(path)!r} is a file of weights, so {what} says nothing; give the"
                " network's name as the teacher"
            )
    network = cifar.load_cifar_file(path, read_weights(path))
    if network is None:
        raise InvalidInputError(
            f"weights file {str(path)!r} does not tell its network; give the network's name as"
            " the teacher and the file with --weights"
        )
    return network


def _from_module(original: nn.Module, request: TeacherRequest) -> TeacherNetwork:
    if is_transformers(original):
        return load_transformers(original, request)
    try:
        module = copy.deepcopy(original)
    except (RuntimeError, TypeError) as error:
        raise InvalidInputError(
            f"network {request.name!r} cannot be copied: {first_line(error)}"
        ) from error
    if not any(True for _ in module.parameters()):
        raise InvalidInputError(f"network {request.name!r} has no parameters")
    source = "as given"
    if request.weights is not None:
        fit_weights(module, read_weights(request.weights), request.weights, request.name)
        source = f"weights {request.weights.name}"
    kind = _modality(module)
    return TeacherNetwork(module.float(), not request.untrained, source, modality=kind)


def _modality(module: nn.Module) -> str:
    """What a network takes: as its stem says, else by the first layer that can take an input."""
    known = getattr(getattr(module, "spec", None), "modality", None)
    if known in MODALITIES:
        return str(known)
    parts = [m for m in module.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Embedding)]
    if not parts or any(isinstance(part, nn.Conv2d) for part in parts):
        return "image"
    if isinstance(parts[0], nn.Embedding):
        return "text"
    return "sound" if parts[0].in_channels == 1 else "image"


def _in_channels(module: nn.Module) -> list[int]:
    """Channels that its images may have, the likeliest first."""
    convolutions = (m for m in module.modules() if isinstance(m, nn.Conv2d))
    first = next((conv.in_channels for conv in convolutions), 3)
    return [first] if first == 3 else [first, 3]  # 3 where pixels are unshuffled before


def _plan(
    network: TeacherNetwork, name: str, side: int | None, taps: Named | None
) -> tuple[TapPlan, tuple[int, int, int]]:
    """The tap plan of a network of any modality, and the shape of the inputs it was found on."""
    module, side = network.module, side or network.image_size
    if network.modality == "image":
        return _find_plan(name, module, side, taps)
    shape = (2, 1, side or LENGTHS[network.modality])
    inputs = blank(network.modality, shape)
    try:
        return find_taps(module, inputs, taps), shape
    except UnknownNameError:
        raise
    except InvalidInputError as error:
        raise InvalidInputError(f"teacher {name!r}: {error}") from error
    except FORWARD_ERRORS as error:
        raise InvalidInputError(
            f"teacher {name!r} does not run on {PLURALS[network.modality]} of"
            f" {size_text(network.modality, shape[2])}: {first_line(error)}; it is given token ids"
            " [B, L] or a waveform [B, T]"
        ) from error


def _find_plan(
    name: str, module: nn.Module, side: int | None, taps: Named | None
) -> tuple[TapPlan, tuple[int, int, int]]:
    """The tap plan, and the shape of the images on which it was found."""
    refused: InvalidInputError | None = None
    broken: BaseException | None = None
    found: tuple[TapPlan, tuple[int, int, int]] | None = None
    sides, channels = (side,) if side else SIDES, _in_channels(module)
    for size, c in itertools.product(sides, channels):
        # Where 32 pixels end in a map of 1×1, 224 do not; no other size tells more.
        if found is not None and size not in SIDES[:2]:
            break
        images = torch.randn(2, c, size, size, generator=torch.Generator().manual_seed(0))
        try:
            plan = find_taps(module, images, taps)
            if _reads_final(module, plan, images):
                return plan, (c, size, size)
            found = found or (plan, (c, size, size))
        except UnknownNameError:
            raise
        except InvalidInputError as error:
            refused = refused or error
        except FORWARD_ERRORS as error:
            broken = broken or error
    if found is not None:
        return found
    if refused is not None:
        raise InvalidInputError(f"teacher {name!r}: {refused}") from refused
    raise InvalidInputError(
        f"teacher {name!r} does not run on images of {channels[0]} channels and"
        f" {', '.join(map(str, sides))} pixels: {first_line(broken)}; give resize, the side it"
        " was made for"
    ) from broken


def _reads_final(module: nn.Module, plan: TapPlan, images: torch.Tensor) -> bool:
    """Whether the classifier reads as many channels as the final map has."""
    if plan.classifier is None:
        return True
    weight = classifier_weight(module.get_submodule(plan.classifier.split("#")[0]))
    outputs, _ = watch(module, images, [plan.final])
    final = as_map(outputs[plan.final], input_size(images))
    return weight is not None and final is not None and final.shape[1] == weight.shape[1]


def _check_numbers(num_classes: int | None, resize: int | None, seed: int) -> None:
    for what, value, least in (
        ("num_classes", num_classes, 1),
        ("resize", resize, 0),
        ("seed", seed, 0),
    ):
        if value is None and what != "seed":
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InvalidInputError(f"{what} = {value!r}; need a whole number of at least {least}")


def _normalisation(
    what: str, values: Sequence[float] | None, channels: int
) -> tuple[float, ...] | None:
    if values is None:
        return None
    numbers = tuple(float(value) for value in values)
    if len(numbers) != channels or not all(math.isfinite(n) for n in numbers):
        raise InvalidInputError(f"{what} = {numbers}; need {channels} numbers, one a channel")
    if what == "std" and min(numbers) <= 0.0:
        raise InvalidInputError(f"std = {numbers}; need numbers above 0")
    return numbers
