"""``model.py``: a student that torch alone can load, without scholarch.

The file holds the layers, the forward pass, a reader of safetensors and, of images, the data's
normalisation; it lies beside ``model.safetensors`` and, where a network has tables that are no
weights, as a log-mel front end has, ``constants.safetensors``.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...searchspace.errors import ScholarchError
from .inputs import Image, Sequences, seeded_images
from .parity import first_line
from .shaped_trace import UntraceableError
from .source import class_source, constants_of

__all__ = ["CONSTANTS", "WEIGHTS", "model_source"]

WEIGHTS = "model.safetensors"

CONSTANTS = "constants.safetensors"
"""Filters and tables that are no weights, where a network has any."""

_CONSTANT = """    for path, value in read(folder / "{constants}").items():
        owner, _, name = path.rpartition(".")
        setattr(network.get_submodule(owner), name, value)
"""

_TEMPLATE = '''"""{about}

Written by scholarch from the network itself. It needs torch alone, and {weights}
beside it:

    from model import load, predict
    network = load()
    {usage}
"""

import json
import struct
from pathlib import Path

import torch
from torch import nn{functional}

{constants}


{network}

def load(folder=None):
    """The network with its weights, in evaluation mode; folder: default that of this file."""
    folder = Path(__file__).resolve().parent if folder is None else Path(folder)
    with torch.device("meta"):  # no initial weights are drawn
        network = Network()
    network.load_state_dict(read(folder / "{weights}"), assign=True)
{constant}    return network.eval()


@torch.inference_mode()
{predict}


DTYPES = {{
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}}


def read(path):
    """The tensors of a safetensors file: length of the header, header in JSON, bytes."""
    data = Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    tensors = {{}}
    for name, told in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + length + offset for offset in told["data_offsets"])
        dtype = DTYPES[told["dtype"]]
        flat = torch.empty(0, dtype=dtype)
        if end > begin:
            flat = torch.frombuffer(bytearray(data[begin:end]), dtype=dtype)
        tensors[name] = flat.reshape(told["shape"])
    return tensors
'''


#: Of a network of images.
_IMAGES = {
    "usage": "probabilities = predict(network, images)"
    "  # float [B, {channels}, {side}, {side}], in [0, 1]",
    "constants": """CLASSES = {classes}
RESOLUTION = {side}
# Of the training images' channels, by which the network's input is normalised.{unknown}
MEAN = {mean}
STD = {std}""",
    "predict": '''def predict(network, images):
    """Probabilities [B, {classes}] of images float [B, {channels}, {side}, {side}] in [0, 1]."""
    if MEAN is not None:
        mean, std = (images.new_tensor(v).view(-1, 1, 1) for v in (MEAN, STD))
        images = (images - mean) / std
    return network(images).softmax(dim=1)''',
}

#: Of one of text or sound; what it gives are logits of classes, or vectors.
_SEQUENCES = {
    "usage": "{answers} = predict(network, {name})  # {said}",
    "constants": "{number} = {classes}\nLENGTH = {length}",
    "predict": '''def predict(network, {name}):
    """{Answers} [B, {classes}] of {said}."""
    return network({name}){softmax}''',
}


def model_source(
    network: nn.Module,
    image: Image,
    *,
    about: str,
    classes: int,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    vectors: bool = False,
) -> str:
    """The text of ``model.py``, run once: its network's outputs are the given one's, bit for bit.

    Args:
        network: in evaluation mode; left as it is.
        image: channels, height and width of the images, or what sequences.
        about: one line, the file's title.
        classes: outputs of the classifier.
        mean: of the channels of the images that it was trained on, in [0, 1]; ``None``: unknown.
        std: likewise.
        vectors: whether outputs are vectors, as a teacher of no classes gives, and no logits.

    Raises:
        UntraceableError: if the network cannot be written down as a fixed sequence of torch's
            operations, or what was written computes something else.
    """
    body = class_source(network, image)
    if isinstance(image, Sequences):
        pieces, words = _SEQUENCES, _of_sequences(image, classes, vectors)
    else:
        pieces, words = _IMAGES, _of_images(image, classes, mean, std)
    text = _TEMPLATE.format(
        about=about.replace("\\", "/").replace('"', "'"),
        weights=WEIGHTS,
        functional="\nfrom torch.nn import functional" if "functional." in body else "",
        network=body,
        constant=_CONSTANT.format(constants=CONSTANTS) if constants_of(network) else "",
        **{name: piece.format(**words) for name, piece in pieces.items()},
    )
    _check(text, network, image)
    return text


def _of_images(
    image: tuple[int, int, int],
    classes: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> dict[str, Any]:
    known = mean is not None and std is not None
    return {
        "classes": classes,
        "channels": image[0],
        "side": image[1],
        "unknown": "" if known else "\n# Unknown here: predict() gives the images on as they are.",
        "mean": tuple(float(v) for v in mean) if known and mean is not None else None,
        "std": tuple(float(v) for v in std) if known and std is not None else None,
    }


def _of_sequences(sequences: Sequences, classes: int, vectors: bool) -> dict[str, Any]:
    answers = "vectors" if vectors else "probabilities"
    return {
        "classes": classes,
        "number": "DIMENSIONS" if vectors else "CLASSES",
        "length": sequences.length,
        "name": sequences.name,
        "said": sequences.said,
        "answers": answers,
        "Answers": answers.capitalize(),
        "softmax": "" if vectors else ".softmax(dim=1)",
    }


def _check(text: str, network: nn.Module, image: Image) -> None:
    """Run the file's network beside the given one."""
    module: Any = types.ModuleType("model")
    state: Mapping[str, Tensor] = network.state_dict()
    try:
        exec(compile(text, "model.py", "exec"), module.__dict__)  # noqa: S102 (our own text)
        with torch.device("meta"):
            again = module.Network()
        again.load_state_dict(state, assign=True)
        for path, value in constants_of(network).items():
            owner, _, name = path.rpartition(".")
            setattr(again.get_submodule(owner), name, value)
        images = seeded_images(2, image)
        with torch.inference_mode():
            same = torch.equal(again.eval()(images), network(images))
    except ScholarchError:
        raise
    except Exception as error:
        # Whatever a user's module makes of it; the reader is told, the student is saved.
        raise UntraceableError(f"{type(error).__name__}: {first_line(error)}") from error
    if not same:
        raise UntraceableError("what was written down computes something else")
