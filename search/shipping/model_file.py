"""``model.py``: a student that torch alone can load, without scholarch.

The file holds the layers, the forward pass, a reader of safetensors and the data's
normalisation; it lies beside ``model.safetensors``.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...searchspace.errors import ScholarchError
from .inputs import seeded_images
from .parity import first_line
from .shaped_trace import UntraceableError
from .source import class_source

__all__ = ["WEIGHTS", "model_source"]

WEIGHTS = "model.safetensors"

_TEMPLATE = '''"""{about}

Written by scholarch from the network itself. It needs torch alone, and {weights}
beside it:

    from model import load, predict
    network = load()
    probabilities = predict(network, images)  # float [B, {channels}, {side}, {side}], in [0, 1]
"""

import json
import struct
from pathlib import Path

import torch
from torch import nn{functional}

CLASSES = {classes}
RESOLUTION = {side}
# Of the training images' channels, by which the network's input is normalised.{unknown}
MEAN = {mean}
STD = {std}


{network}

def load(folder=None):
    """The network with its weights, in evaluation mode; folder: default that of this file."""
    folder = Path(__file__).resolve().parent if folder is None else Path(folder)
    with torch.device("meta"):  # no initial weights are drawn
        network = Network()
    network.load_state_dict(read(folder / "{weights}"), assign=True)
    return network.eval()


@torch.inference_mode()
def predict(network, images):
    """Probabilities [B, {classes}] of images float [B, {channels}, {side}, {side}] in [0, 1]."""
    if MEAN is not None:
        mean, std = (images.new_tensor(v).view(-1, 1, 1) for v in (MEAN, STD))
        images = (images - mean) / std
    return network(images).softmax(dim=1)


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


def model_source(
    network: nn.Module,
    image: tuple[int, int, int],
    *,
    about: str,
    classes: int,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> str:
    """The text of ``model.py``, run once: its network's outputs are the given one's, bit for bit.

    Args:
        network: in evaluation mode; left as it is.
        image: channels, height and width of the images.
        about: one line, the file's title.
        classes: outputs of the classifier.
        mean: of the channels of the images that it was trained on, in [0, 1]; ``None``: unknown.
        std: likewise.

    Raises:
        UntraceableError: if the network cannot be written down as a fixed sequence of torch's
            operations, or what was written computes something else.
    """
    known = mean is not None and std is not None
    body = class_source(network, image)
    text = _TEMPLATE.format(
        about=about.replace("\\", "/").replace('"', "'"),
        weights=WEIGHTS,
        classes=classes,
        channels=image[0],
        side=image[1],
        functional="\nfrom torch.nn import functional" if "functional." in body else "",
        unknown="" if known else "\n# Unknown here: predict() gives the images on as they are.",
        mean=tuple(float(v) for v in mean) if known and mean is not None else None,
        std=tuple(float(v) for v in std) if known and std is not None else None,
        network=body,
    )
    _check(text, network, image)
    return text


def _check(text: str, network: nn.Module, image: tuple[int, int, int]) -> None:
    """Run the file's network beside the given one."""
    module: Any = types.ModuleType("model")
    state: Mapping[str, Tensor] = network.state_dict()
    try:
        exec(compile(text, "model.py", "exec"), module.__dict__)  # noqa: S102 (our own text)
        with torch.device("meta"):
            again = module.Network()
        again.load_state_dict(state, assign=True)
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
