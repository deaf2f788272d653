"""Any timm model as a teacher."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch

from ..proxies.teacher import first_line
from ..searchspace.errors import InvalidInputError, UnknownNameError
from ..searchspace.weights import Weights, fit_weights, read_weights
from .registry import TeacherNetwork, TeacherRequest, needs_weights
from .timm_import import import_timm

__all__ = ["is_timm_model", "list_timm_models", "load_timm_model"]

HUB_TIMEOUT = 5.0  # seconds
HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def list_timm_models(pattern: str = "*") -> list[str]:
    """Names of timm's models that match a shell pattern."""
    return [str(name) for name in import_timm().list_models(pattern)]


def is_timm_model(name: str) -> bool:
    """Whether timm knows a model, with or without a ``.tag``."""
    timm = import_timm()
    # Without the tag: an unknown tag is told by create_model, in words.
    return bool(timm.is_model(name.split(".")[0]))


def load_timm_model(
    request: TeacherRequest, arguments: Mapping[str, Any] | None = None
) -> TeacherNetwork:
    """Create a timm model with weights of a file, of the hub, or at random.

    Args:
        request: what the user asked for.
        arguments: of timm's model that differ from its name's, its images' side among them.

    Raises:
        InvalidInputError: if the weights cannot be had or do not fit, or timm refuses.
    """
    name = request.name
    config = _config(name)
    weights = read_weights(request.weights) if request.weights is not None else None
    pretrained = weights is None and not request.untrained
    if pretrained:
        _check_hub(name, config)
    if pretrained and request.num_classes not in (None, config["num_classes"]):
        raise InvalidInputError(
            f"teacher {name!r} was trained for {config['num_classes']} classes, so a classifier"
            f" of {request.num_classes} would be random; leave num_classes out, or give a"
            " checkpoint with --weights FILE"
        )
    options: dict[str, Any] = dict(arguments or {})
    own_side = int(options.get("img_size", config["input_size"][-1]))
    side = own_side if request.resize is None else request.resize
    if config["fixed_input_size"] and side not in (0, own_side):
        options["img_size"] = side
    classes = request.num_classes
    if classes is None and weights is not None:
        classes = _classes(weights, config)
    if classes is not None:
        options["num_classes"] = classes
    module = _create(name, pretrained, request.seed, options)
    source = f"timm, random weights, seed {request.seed}"
    if weights is not None and request.weights is not None:
        fit_weights(module, weights, request.weights, name)
        source = f"timm, weights {request.weights.name}"
    elif pretrained:
        source = f"timm, pretrained {module.pretrained_cfg.get('tag') or ''}".rstrip()
    return TeacherNetwork(
        module,
        not request.untrained,
        source,
        tuple(config["mean"]),
        tuple(config["std"]),
        resize=side or None,
        image_size=side or own_side,
    )


def _config(name: str) -> Mapping[str, Any]:
    """What timm records of a model's weights and inputs."""
    timm = import_timm()
    try:
        config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError as error:
        tagged = timm.list_pretrained(f"{name.split('.')[0]}.*")
        raise UnknownNameError("teacher", name, tagged) from error
    found = config.to_dict() if config is not None else {}
    defaults = {
        "input_size": (3, 224, 224),
        "num_classes": 1000,
        "fixed_input_size": False,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    }
    return defaults | {key: value for key, value in found.items() if value is not None}


def _create(name: str, pretrained: bool, seed: int, options: dict[str, Any]) -> Any:
    timm = import_timm()
    # timm draws from the global generator, which is put back afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            return timm.create_model(name, pretrained=pretrained, **options)
        except TypeError as error:
            if "img_size" in options:
                raise InvalidInputError(
                    f"teacher {name!r} takes images of one size only, not {options['img_size']}"
                ) from error
            raise
        except (OSError, RuntimeError, ValueError, AssertionError) as error:
            if pretrained:
                why = f"its weights cannot be had ({first_line(error)})"
                raise needs_weights(name, why) from error
            raise InvalidInputError(
                f"timm refuses teacher {name!r}: {first_line(error)}"
            ) from error


def _classes(weights: Weights, config: Mapping[str, Any]) -> int | None:
    """Rows of the classifier in a checkpoint, under timm's name for it."""
    names = config.get("classifier") or ()
    for name in (names,) if isinstance(names, str) else names:
        if (weight := weights.get(f"{name}.weight")) is not None:
            return int(weight.shape[0])
    return None


def _check_hub(name: str, config: Mapping[str, Any]) -> None:
    """Say at once what timm would say after a minute of retries."""
    repository = config.get("hf_hub_id")
    if not (repository or config.get("url") or config.get("file")):
        raise needs_weights(name, "timm has no trained weights for it")
    if not repository or getproxies():
        return
    from huggingface_hub import constants, try_to_load_from_cache

    if any(isinstance(try_to_load_from_cache(repository, file), str) for file in HUB_FILES):
        return
    address = urlsplit(constants.ENDPOINT)
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), timeout=HUB_TIMEOUT).close()
    except OSError as error:
        why = f"its weights are on {address.hostname}, which cannot be reached"
        raise needs_weights(name, why) from error
