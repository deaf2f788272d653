"""A network as a ``torch.export`` program with a dynamic batch: one ``.pt2`` file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...searchspace.errors import ScholarchError
from ...searchspace.files import write_atomic
from .inputs import Image, seeded_images
from .open_batch import with_open_batch
from .parity import Written, first_line, relative_errors, require_parity
from .runtime import quiet

__all__ = ["write_program"]


def write_program(network: nn.Module, path: Path, image: Image) -> Written:
    """Write a network so that ``torch.export.load(path).module()`` runs it.

    Args:
        network: in evaluation mode; it takes normalised images.
        path: of the file, which is there whole or not at all.
        image: channels, height and width, or what sequences.

    Returns:
        How far the file, read back, is from the network, and what runs it.

    Raises:
        ScholarchError: if torch cannot export the network; a :class:`ParityError` if its
            outputs are others.
        StoreError: if the file cannot be written.
    """
    example = seeded_images(2, image)
    file = io.BytesIO()
    opened = with_open_batch(network, image)
    try:
        with quiet(), torch.no_grad():
            shapes = ({0: torch.export.Dim("batch")},)
            exported = torch.export.export(opened, (example,), dynamic_shapes=shapes)
            torch.export.save(exported, file)
            file.seek(0)
            again: Any = torch.export.load(file).module()
    except Exception as error:
        # The exporter's own classes, and whatever a user's module raises on the way.
        raise ScholarchError(
            f"this student cannot be exported by torch.export ({first_line(error)}); export with"
            " --format folder, whose model.py runs the network itself"
        ) from error

    def call(images: Tensor) -> Any:
        with torch.no_grad():
            return again(images).numpy()

    errors = relative_errors(network, call, image)
    require_parity(errors, "torch.export")
    write_atomic(path, file.getvalue())
    return Written(errors, call)
