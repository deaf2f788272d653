"""Post-training quantisation to int8 by ONNX Runtime, with what it costs in accuracy.

Static, as Jacob et al. (CVPR 2018, §2) quantise: every weight of a convolution or linear layer
by a scale of its output channel, every activation by one scale and zero point that a few
training images decide. Batch norm is folded into the convolutions first.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from ...searchspace.errors import InvalidInputError, ScholarchError
from ...searchspace.files import write_atomic
from ...supernet.evaluate import BATCH, part_of
from ...supernet.loader import LabelledImages, batches, normalise
from .inputs import Image, Sequences
from .onnx_file import onnx_bytes
from .parity import first_line, relative_errors, require_parity
from .runtime import INPUT, OnnxSession, quiet

__all__ = ["CALIBRATION", "LOSS_WORTH_A_WORD", "Normalised", "Quantised", "write_int8"]

#: Training images that decide the activations' scales.
CALIBRATION = 512

#: Share of the images by which int8 may fall behind before the user is told what can be done.
LOSS_WORTH_A_WORD = 0.01

Call = Callable[[Tensor], npt.NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Normalised:
    """A data set as a network wants to see it.

    Attributes:
        data: images and labels.
        mean: of the channels of the images that the network was trained on, in [0, 1].
        std: likewise.
    """

    data: LabelledImages
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def part(
        self, name: str, limit: int | None = None, seed: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised images and labels, batch by batch; a seed shuffles."""
        for images, labels in batches(part_of(self.data, name), BATCH, limit=limit, seed=seed):
            yield normalise(images, self.mean, self.std), labels


@dataclass(frozen=True, eq=False)
class Quantised:
    """A network in int8 beside itself in float32.

    Attributes:
        accuracy: part of the data → ``{"float": …, "int8": …}``, in [0, 1]; the parts that
            the data have of validation and test.
        sizes: ``{"float": …, "int8": …}``, bytes of the files.
        sessions: likewise, ready to run.
    """

    accuracy: dict[str, dict[str, float]]
    sizes: dict[str, int]
    sessions: dict[str, OnnxSession]

    @property
    def loss(self) -> float:
        """How much accuracy int8 costs where it costs most; 0 where nothing was measured."""
        return max((a["float"] - a["int8"] for a in self.accuracy.values()), default=0.0)


def write_int8(
    network: nn.Module,
    path: Path,
    image: Image,
    data: Normalised,
    *,
    calibration: int = CALIBRATION,
    seed: int = 0,
) -> Quantised:
    """Quantise a network on training images and write it as one ONNX file.

    The test part is read once, when the file is done.

    Args:
        network: in evaluation mode.
        path: of the file.
        image: channels, height and width, or what sequences.
        data: of the network's classes and resolution; the training part calibrates.
        calibration: how many training images, at least 1.
        seed: of their choice.

    Raises:
        InvalidInputError: if the number is out of range, or the network takes no images.
        ScholarchError: if the network cannot be exported or quantised, or the extra is missing.
        StoreError: if the file cannot be written.
    """
    if isinstance(calibration, bool) or not isinstance(calibration, int) or calibration < 1:
        raise InvalidInputError(f"calibration = {calibration!r}; need at least 1 training image")
    if isinstance(image, Sequences):
        raise InvalidInputError(
            f"format onnx-int8 is for networks of images, this one takes {image.modality}; export"
            " with --format onnx"
        )
    model = onnx_bytes(network, image)
    plain = OnnxSession(model)
    require_parity(relative_errors(network, plain, image), "ONNX")
    images = [batch for batch, _ in data.part("train", limit=calibration, seed=seed)]
    small = _quantised(model, images)
    session = OnnxSession(small)
    sessions = {"float": plain, "int8": session}
    found: dict[str, dict[str, float]] = {}
    for part in ("val", "test"):
        if len(part_labels(data.data, part)):
            found[part] = {
                name: _accuracy(call, data.part(part)) for name, call in sessions.items()
            }
    write_atomic(path, small)
    return Quantised(found, {"float": len(model), "int8": len(small)}, sessions)


def part_labels(data: LabelledImages, part: str) -> npt.NDArray[np.int64]:
    """Labels of a part, which may be empty."""
    labels: npt.NDArray[np.int64] = getattr(data, part).labels
    return labels


def _accuracy(call: Call, parts: Iterator[tuple[Tensor, Tensor]]) -> float:
    right = total = 0
    for images, labels in parts:
        right += int((call(images).argmax(axis=1) == labels.numpy()).sum())
        total += len(labels)
    return right / total


def _quantised(model: bytes, images: Sequence[Tensor]) -> bytes:
    """The same graph with int8 weights and activations between QuantizeLinear nodes."""
    from onnxruntime import quantization as q
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder, quiet():
        plain, ready, small = (Path(folder) / f"{n}.onnx" for n in ("plain", "ready", "int8"))
        plain.write_bytes(model)
        try:
            quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
            q.quantize_static(
                str(ready),
                str(small),
                _Images(images),
                quant_format=q.QuantFormat.QDQ,
                per_channel=True,
                activation_type=q.QuantType.QInt8,
                weight_type=q.QuantType.QInt8,
            )
            return small.read_bytes()
        except Exception as error:
            # The quantiser raises whatever its numpy code does.
            raise ScholarchError(
                f"this student cannot be quantised ({first_line(error)}); export it in float32"
                " with --format onnx"
            ) from error


class _Images:
    """What the quantiser asks for images by; it is none of its class, which would be loaded."""

    def __init__(self, images: Sequence[Tensor]) -> None:
        self._left = iter(images)

    def get_next(self) -> dict[str, Any] | None:
        """The next batch, or ``None`` behind the last."""
        images = next(self._left, None)
        return None if images is None else {INPUT: images.numpy()}
