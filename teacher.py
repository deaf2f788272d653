"""Teachers: by name, from a checkpoint, or any network."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from .proxies.tap_finder import Named, classifier_weight
from .proxies.teacher import Teacher, batch_statistics, first_line
from .searchspace.errors import InvalidInputError, UnknownNameError
from .searchspace.plugins import load_entry_points
from .searchspace.weights import fit_weights, read_weights
from .supernet.alone import is_run_folder, largest_network
from .teachers import (
    cifar,  # importing registers its names
    packaged,  # noqa: F401 (likewise)
)
from .teachers.bundled import BUNDLED
from .teachers.folder import load_teacher_folder
from .teachers.hugging_face import is_transformers, load_transformers
from .teachers.planning import modality_of, plan_of
from .teachers.registry import ABOUT, TEACHERS, TeacherNetwork, TeacherRequest, register_teacher
from .teachers.timm_models import is_timm_model, list_timm_models, load_timm_model
from .teachers.zero_shot import (
    ClassNames,
    ImageTower,
    Wording,
    classifier_of,
    names_of,
    split_wording,
)

__all__ = [
    "BUNDLED",
    "Teacher",
    "describe_teacher",
    "list_teachers",
    "load_teacher",
    "register_teacher",
]

WEIGHT_SUFFIXES = frozenset({".bin", ".ckpt", ".pkl", ".pt", ".pth", ".safetensors", ".th"})


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
    classes: ClassNames | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    resize: int | None = None,
    seed: int = 0,
) -> Teacher:
    """Load a network that students are compared with.

    Args:
        name_or_module: a registered name (see :func:`list_teachers`; ``resnet14-digits`` is
            bundled), a timm name, the path of a CIFAR ResNet's checkpoint, a folder of weights
            and ``config.json`` (a student's, timm's, Hugging Face's), the folder of a training run,
            whose largest network is taken, or any network, which is
            copied and otherwise left as it is: of images ``[B, C, H, W]``, token ids ``[B, L]`` or
            waveforms ``[B, T]``. A teacher is returned as it is, but for ``classes``. The name of a
            two-tower network (CLIP) may end in its classes, ``FOLDER?classes=cat,dog``, see
            :func:`~scholarch.teachers.zero_shot.split_wording`.
        weights: a checkpoint, ``.safetensors`` or of ``torch.save``; no pickle is ever read.
        untrained: use random weights. Batch norm then normalises by the batch.
        num_classes: outputs of the classifier; default the network's own.
        taps: where to measure, role → module path, for ``final``, ``classifier`` and
            ``stages`` (several paths); what is not named is found.
        classes: of a two-tower network, names or the data that have them: it then tells apart what
            its text tower makes of "a photo of a {name}". Without them its output is an
            embedding. Other teachers do not look at them.
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
        return _telling_apart(name_or_module, classes)
    _check_numbers(num_classes, resize, seed)
    if weights is not None and untrained:
        raise InvalidInputError(f"weights {str(weights)!r} and untrained exclude each other")
    if taps is not None and not isinstance(taps, Mapping):
        raise InvalidInputError(f"taps = {taps!r}; need a mapping such as {{'final': 'layer4'}}")
    if isinstance(name_or_module, nn.Module):
        name = type(name_or_module).__name__
    else:
        name = os.fspath(name_or_module)
    plain, wording = name, None
    if not isinstance(name_or_module, nn.Module) and not os.path.exists(name):
        plain, wording = split_wording(name)
    request = TeacherRequest(
        plain,
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
    network = _with_classes(network, name, classes, wording)
    module = network.module.to("cpu").eval().requires_grad_(False)
    side = resize or (network.resize if resize is None else None)
    with batch_statistics(module, not network.trained):
        plan, shape = plan_of(network, name, side, taps)
    channels = shape[0]
    outputs = None
    if plan.classifier is not None and not isinstance(module, ImageTower):
        weight = classifier_weight(module.get_submodule(plan.classifier.split("#")[0]))
        outputs = None if weight is None else len(weight)
    if num_classes not in (None, outputs):
        raise InvalidInputError(f"teacher {name!r} has {outputs} classes, not {num_classes}")
    params = sum(parameter.numel() for parameter in module.parameters())
    return Teacher(
        name=name,
        module=module,
        mean=_normalisation("mean", mean, channels) or network.mean,
        std=_normalisation("std", std, channels) or network.std,
        resize=side if network.modality == "image" else None,
        num_classes=outputs,
        trained=network.trained,
        plan=plan,
        input_shape=shape,
        accuracy=network.accuracy,
        about=f"{name}: {network.source}; {params:,} parameters",
        modality=network.modality,
    )


def _with_classes(
    network: TeacherNetwork,
    name: str,
    classes: ClassNames | None,
    wording: Wording | None,
) -> TeacherNetwork:
    """A two-tower network with a classifier, where names of classes are known."""
    tower = network.module
    if not isinstance(tower, ImageTower):
        if wording is not None:
            raise InvalidInputError(
                f"teacher {name!r} has no text tower to read names of classes; leave out what is"
                " behind its question mark"
            )
        return network
    tower.wording = wording or tower.wording
    names = tower.wording.classes or names_of(name, tower, classes)
    if names is None:
        return network
    told = f"{network.source}; {len(names)} classes by {tower.wording.prompt!r}"
    return replace(network, module=classifier_of(tower, names, tower.wording), source=told)


def _telling_apart(teacher: Teacher, classes: ClassNames | None) -> Teacher:
    """A two-tower teacher of embeddings with a classifier; any other as it is."""
    tower = teacher.module
    names = names_of(teacher.name, tower, classes)
    if names is None or not isinstance(tower, ImageTower):
        return teacher
    module = classifier_of(tower, names, tower.wording)
    side = teacher.input_shape[1]
    network = TeacherNetwork(module, teacher.trained, "", image_size=side)
    plan, shape = plan_of(network, teacher.name, side, None)
    told = f"{teacher.about}; {len(names)} classes by {tower.wording.prompt!r}"
    return replace(
        teacher, module=module, plan=plan, input_shape=shape, num_classes=len(names), about=told
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
        if is_run_folder(path):
            return _from_run(path, request)
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


def _from_run(path: Path, request: TeacherRequest) -> TeacherNetwork:
    """The largest network of a training run, which saw images as the run's data are normalised."""
    if request.weights is not None or request.untrained:
        raise InvalidInputError(
            f"teacher {str(path)!r} is a training run with its weights; leave weights and untrained"
            " out"
        )
    module, _, supernet = largest_network(path)
    space, data = supernet.space, supernet.about.get("data", {})
    source = f"the largest of {space.name}, from a training run"
    network = TeacherNetwork(
        module, True, source, image_size=space.resolution, modality=space.modality
    )
    if space.modality != "image" or "mean" not in data:
        return network
    return replace(network, mean=tuple(data["mean"]), std=tuple(data["std"]))


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
    kind = modality_of(module)
    return TeacherNetwork(module.float(), not request.untrained, source, modality=kind)


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
