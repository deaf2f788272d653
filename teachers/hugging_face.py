"""Teachers in Hugging Face's layout: a folder, or a module of the library.

Read are BERT, HuBERT, wav2vec 2.0, Whisper's encoder and CLIP. Each becomes our own encoder without
a classifier, whose output, the pooled tokens, is an embedding; but a HuBERT or wav2vec 2.0 that
classifies clips keeps that, and a CLIP's tower of images, which has the text tower beside it, may
be given one (:mod:`~scholarch.teachers.zero_shot`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..searchspace.errors import InvalidInputError
from ..searchspace.weights import read_weights
from .bert import convert_bert
from .clip import MEAN, STD, convert_clip
from .clip_text import TOKENIZER
from .converted import Converted
from .hubert import convert_hubert
from .registry import TeacherNetwork, TeacherRequest
from .whisper import convert_whisper
from .zero_shot import ImageTower

__all__ = [
    "as_teacher",
    "convert_hugging_face",
    "is_transformers",
    "load_hugging_face",
    "load_transformers",
]

_FILES = ("model.safetensors", "pytorch_model.bin")

#: Tokens, or samples of sound, that a teacher is first tried on.
_TOKENS, _SAMPLES = 64, 16_000

_KINDS = ("bert", "clip", "hubert", "wav2vec2", "whisper")


def convert_hugging_face(
    what: str,
    config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    *,
    pool: str = "mean",
    normalise: bool = True,
) -> Converted:
    """Make our encoder of a network in Hugging Face's layout.

    Args:
        what: where it comes from, for messages.
        config: ``config.json``.
        weights: by the library's names.
        pool: of text, see :func:`~scholarch.teachers.bert.convert_bert`.
        normalise: of waveforms, see :func:`~scholarch.teachers.hubert.convert_hubert`.

    Raises:
        InvalidInputError: if the network is of another kind, is not one that we build, or its
            configuration does not fit its weights.
    """
    kind = config.get("model_type")
    if kind == "clip":
        return convert_clip(what, config, weights).images
    if kind == "bert":
        return convert_bert(what, config, weights, pool=pool)
    if kind in ("hubert", "wav2vec2"):
        return convert_hubert(what, config, weights, normalise=normalise)
    if kind == "whisper":
        return convert_whisper(what, config, weights)
    raise InvalidInputError(
        f"{what} is of model_type {kind!r}; can be converted: {', '.join(_KINDS)}"
    )


def as_teacher(converted: Converted, source: str, *, trained: bool = True) -> TeacherNetwork:
    """A teacher of a converted network; nothing is normalised or resized for it."""
    stem = converted.stem
    length = _SAMPLES
    if stem.modality == "text":
        length = min(_TOKENS, int(getattr(stem, "positions", _TOKENS)))
    plain = stem.modality == "image"
    return TeacherNetwork(
        converted.build(),
        trained,
        source,
        mean=None if plain else (0.0, 0.0),
        std=None if plain else (1.0, 1.0),
        image_size=None if plain else length,
        modality=stem.modality,
    )


def load_hugging_face(
    folder: Path, config: Mapping[str, Any], request: TeacherRequest
) -> TeacherNetwork:
    """The teacher of a folder whose ``config.json`` names a ``model_type``.

    How text is pooled is read from ``1_Pooling/config.json`` (sentence-transformers), default
    the mean; whether sound is normalised from ``preprocessor_config.json``, default yes.

    Raises:
        InvalidInputError: see :func:`convert_hugging_face`; also if the weights are missing, or
            random ones or a classifier are asked for.
    """
    what = f"folder {folder}"
    if request.untrained or request.num_classes is not None:
        asked = "untrained" if request.untrained else "num_classes"
        raise InvalidInputError(
            f"{what} holds a trained encoder without a classifier, so {asked} says nothing; leave"
            " it out"
        )
    path = request.weights
    if path is None:
        path = next((folder / name for name in _FILES if (folder / name).is_file()), None)
    if path is None:
        raise InvalidInputError(f"{what} holds none of {', '.join(_FILES)}")
    extractor = _settings(folder / "preprocessor_config.json")
    source = f"{config['model_type']}, folder {folder.name}"
    if config["model_type"] == "clip":
        mean, std = (_channels(extractor, key, folder) for key in ("image_mean", "image_std"))
        return _clip(what, config, read_weights(path), folder, source, mean=mean, std=std)
    converted = convert_hugging_face(
        what,
        config,
        read_weights(path),
        pool=_pooling(folder / "1_Pooling" / "config.json"),
        normalise=bool(extractor.get("do_normalize", True)),
    )
    return as_teacher(converted, source)


def _clip(
    what: str,
    config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    folder: Path | None,
    source: str,
    *,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> TeacherNetwork:
    """The teacher of a CLIP: its tower of images, in the size that these were made for."""
    tokenizer = None if folder is None else folder / TOKENIZER
    clip = convert_clip(what, config, weights, tokenizer=tokenizer)
    coloured = getattr(clip.images.stem, "in_channels", 3) == len(MEAN)
    return TeacherNetwork(
        ImageTower(clip),
        trained=True,
        source=source,
        mean=mean or (MEAN if coloured else None),
        std=std or (STD if coloured else None),
        resize=clip.side,
        image_size=clip.side,
    )


def _channels(settings: Mapping[str, Any], key: str, folder: Path) -> tuple[float, ...] | None:
    """Mean or deviation of images, where they are told."""
    found = settings.get(key)
    if found is None:
        return None
    if not isinstance(found, list) or not all(isinstance(one, int | float) for one in found):
        raise InvalidInputError(
            f"{folder / 'preprocessor_config.json'}: {key} = {found!r}; need a list of numbers"
        )
    return tuple(float(one) for one in found)


def _settings(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise InvalidInputError(f"{path} holds no table of settings")
    return found


def _pooling(path: Path) -> str:
    chosen = [
        key for key, value in _settings(path).items() if key.startswith("pooling_mode_") and value
    ]
    known = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "first"}
    if not chosen:
        return "mean"
    if len(chosen) > 1 or chosen[0] not in known:
        raise InvalidInputError(
            f"{path} asks for {', '.join(chosen)}; need one of {', '.join(known)}"
        )
    return known[chosen[0]]


def is_transformers(module: nn.Module) -> bool:
    """Whether a network of the ``transformers`` library is of a kind that is converted."""
    config = getattr(module, "config", None)
    known = any(cls.__module__.startswith("transformers.models.") for cls in type(module).__mro__)
    return known and getattr(config, "model_type", None) in _KINDS


def load_transformers(module: nn.Module, request: TeacherRequest) -> TeacherNetwork:
    """The teacher of a module of the ``transformers`` library, which is left as it is.

    Raises:
        InvalidInputError: see :func:`convert_hugging_face`.
    """
    what = f"teacher {request.name!r}"
    weights, source = module.state_dict(), "as given"
    if request.weights is not None:
        weights, source = read_weights(request.weights), f"weights {request.weights.name}"
    config: Any = getattr(module, "config", None)
    settings = config.to_dict() if config is not None else {}
    if settings["model_type"] == "clip":
        # Where the library had it from, which may be a folder with its tokenizer.
        place = str(getattr(module, "name_or_path", None) or "")
        folder = Path(place) if place and Path(place).is_dir() else None
        network = _clip(what, settings, weights, folder, f"clip, {source}")
        return replace(network, trained=not request.untrained)
    converted = convert_hugging_face(what, settings, weights)
    kind = settings["model_type"]
    return as_teacher(converted, f"{kind}, {source}", trained=not request.untrained)
