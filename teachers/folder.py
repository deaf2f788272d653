"""A teacher from a folder of weights and a ``config.json``: a student's, timm's, Hugging Face's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..searchspace.errors import InvalidInputError, ScholarchError
from ..searchspace.factory import create_space
from ..searchspace.weights import fit_weights, read_weights
from .hugging_face import load_hugging_face
from .registry import TeacherNetwork, TeacherRequest
from .timm_models import is_timm_model, load_timm_model

__all__ = ["load_teacher_folder"]

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def load_teacher_folder(folder: Path, request: TeacherRequest) -> TeacherNetwork:
    """Load the network that a folder describes.

    Three layouts are read: a student's (``Student.save_pretrained``), timm's, whose
    ``config.json`` names an ``architecture``, and that of Hugging Face's transformers, which
    names a ``model_type`` (:mod:`scholarch.teachers.hugging_face`). The weights are
    ``model.safetensors`` or ``pytorch_model.bin``, unless the request names others or wants
    random ones.

    Raises:
        InvalidInputError: if the configuration is missing, damaged or of another layout, or
            the weights do not fit.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
    except FileNotFoundError as error:
        raise InvalidInputError(
            f"folder {folder} holds no config.json; give the folder of a student, of a timm"
            " model, or a network's name"
        ) from error
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{folder / 'config.json'} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise InvalidInputError(f"{folder / 'config.json'} holds no table of settings")
    if config.get("format") == "scholarch-student":
        return _student(folder, config, request)
    if isinstance(config.get("architecture"), str):
        return _timm(folder, config, request)
    if isinstance(config.get("model_type"), str):
        return load_hugging_face(folder, config, request)
    raise InvalidInputError(
        f"{folder / 'config.json'} names neither a student of ours nor a timm architecture, nor a"
        " model_type of transformers"
    )


def _weights(folder: Path, request: TeacherRequest) -> Path:
    if request.weights is not None:
        return request.weights
    found = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        raise InvalidInputError(f"folder {folder} holds none of {', '.join(_WEIGHTS)}")
    return found


def _student(folder: Path, config: dict[str, Any], request: TeacherRequest) -> TeacherNetwork:
    try:
        space = create_space(**config["space"])
        arch = space.parse(config["architecture"]["text"])
    except (ScholarchError, KeyError, TypeError) as error:
        raise InvalidInputError(
            f"{folder / 'config.json'} describes no student: {error}"
        ) from error
    module = space.build(arch, seed=request.seed)
    trained = bool(config.get("trained"))
    source = f"student {arch} of {space.name}"
    if not request.untrained:
        path = _weights(folder, request)
        fit_weights(module, read_weights(path), path, request.name)
        trained = trained or request.weights is not None
    return TeacherNetwork(
        module,
        trained and not request.untrained,
        source if trained else f"{source}, untrained weights",
        image_size=space.resolution,
        modality=space.modality,
    )


def _timm(folder: Path, config: dict[str, Any], request: TeacherRequest) -> TeacherNetwork:
    name = config["architecture"]
    if not is_timm_model(name):
        raise InvalidInputError(
            f"{folder / 'config.json'} names architecture {name!r}, which timm does not know"
        )
    weights = None if request.untrained else _weights(folder, request)
    arguments = config.get("model_args") or {}
    if not isinstance(arguments, dict):
        raise InvalidInputError(f"{folder / 'config.json'} holds no table of model_args")
    network = load_timm_model(replace(request, name=name, weights=weights), arguments)
    pretrained = config.get("pretrained_cfg", {})
    mean, std = (
        tuple(float(value) for value in pretrained[key]) if key in pretrained else default
        for key, default in (("mean", network.mean), ("std", network.std))
    )
    return replace(network, source=f"timm {name}, folder {folder.name}", mean=mean, std=std)
