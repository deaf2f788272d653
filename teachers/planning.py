"""What a teacher's network takes, and where it is measured: found by trying it on blank inputs."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from ..proxies.layouts import as_map, input_size
from ..proxies.recorder import watch
from ..proxies.tap_finder import Named, TapPlan, classifier_weight, find_taps
from ..proxies.teacher import FORWARD_ERRORS, blank, first_line
from ..searchspace.errors import InvalidInputError, UnknownNameError
from ..searchspace.modality import MODALITIES, PLURALS, SAMPLE_RATE, size_text
from .registry import TeacherNetwork

__all__ = ["LENGTHS", "SIDES", "modality_of", "plan_of"]

#: Length of what a network of text (tokens) or sound (samples) is tried on.
LENGTHS = {"text": 16, "sound": SAMPLE_RATE}

#: Sides tried, in pixels, on a network that does not tell what images it was made for.
SIDES = (32, 224, 64, 96, 28, 128, 256)


def modality_of(module: nn.Module) -> str:
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


def plan_of(
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
