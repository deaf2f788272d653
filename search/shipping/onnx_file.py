"""A network as one ONNX file with a dynamic batch, compared with torch before it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...searchspace.errors import ScholarchError
from ...searchspace.files import write_atomic
from .inputs import Image, input_name, seeded_images
from .open_batch import with_open_batch
from .parity import Written, first_line, relative_errors, require_parity
from .runtime import OUTPUT, OnnxSession, quiet, require_onnx

__all__ = ["onnx_bytes", "write_onnx"]


def onnx_bytes(network: nn.Module, image: Image) -> bytes:
    """A network as a serialised ONNX model: float ``images [B, C, H, W]`` → ``logits [B, K]``.

    Of text the input is int64 ``ids [B, L]``, of sound float ``waveform [B, T]``; the length is
    fixed, the batch is not.

    Args:
        network: in evaluation mode; it takes normalised images, ids or waveforms.
        image: channels, height and width, or what sequences.

    Raises:
        ScholarchError: if the extra is not installed, or the exporter refuses the network.
    """
    require_onnx()
    # Not of one image: the exporter would take 1 for a constant.
    example = seeded_images(2, image)
    opened = with_open_batch(network, image)
    try:
        with quiet(), torch.no_grad():
            program: Any = torch.onnx.export(
                opened,
                (example,),
                dynamo=True,
                input_names=[input_name(image)],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,  # it would write to stdout
            )
            data: bytes = program.model_proto.SerializeToString()
    except Exception as error:
        # The exporter's own classes, and whatever a user's module raises on the way.
        raise ScholarchError(
            f"this student cannot be exported to ONNX ({first_line(error)}); export with --format"
            " folder, whose model.py runs the network itself"
        ) from error
    return data


def write_onnx(network: nn.Module, path: Path, image: Image) -> Written:
    """Write a network as one ONNX file.

    Args:
        network: in evaluation mode.
        path: of the file, which is there whole or not at all.
        image: channels, height and width, or what sequences.

    Returns:
        How far it is from torch, and what runs it.

    Raises:
        ScholarchError: see :func:`onnx_bytes`; a :class:`ParityError` if its outputs are others.
        StoreError: if the file cannot be written.
    """
    data = onnx_bytes(network, image)
    session = OnnxSession(data)
    errors = relative_errors(network, session, image)
    require_parity(errors, "ONNX")
    write_atomic(path, data)
    return Written(errors, session)
