"""Networks as ONNX graphs whose values say which block computes them."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InvalidInputError
from .cut import Chunk

__all__ = ["label_blocks", "to_onnx"]

OPSET = 17


def to_onnx(
    network: nn.Module,
    images: Tensor,
    *,
    free: bool = False,
    sides: tuple[str, str] = ("height", "width"),
) -> Any:
    """A network as an ``onnx.ModelProto``.

    The exporter by tracing is taken: it names values by the modules that compute them, and
    takes a tenth of the time of the other.

    Args:
        network: in evaluation mode.
        images: what it is traced on, ``[B, C, H, W]``.
        free: leave height and width open.
        sides: what the open ones are called.

    Raises:
        InvalidInputError: if onnx is not installed, or the network cannot be exported.
    """
    try:
        import onnx
    except ImportError as error:
        raise InvalidInputError(
            "ONNX files need a package: pip install 'scholarch[onnx]'"
        ) from error
    file: Any = io.BytesIO()  # as torch takes it where dynamo is off, though it does not say so
    axes = {"x": dict(zip((2, 3), sides, strict=True))} if free and images.dim() == 4 else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        try:
            with torch.inference_mode():
                torch.onnx.export(
                    network.eval(),
                    (images,),
                    file,
                    dynamo=False,
                    opset_version=OPSET,
                    input_names=["x"],
                    output_names=["y"],
                    dynamic_axes=axes,
                )
        except RuntimeError as error:
            raise InvalidInputError(
                f"a network cannot be exported to ONNX: {str(error).splitlines()[0]}"
            ) from error
    return onnx.load_from_string(file.getvalue())


def label_blocks(model: Any, chunks: Sequence[Chunk], mark: str) -> None:
    """Begin the name of every value with the number of the block that computes it, in place.

    Args:
        model: of :func:`to_onnx`.
        chunks: blocks of the network, in the order in which they run.
        mark: behind the number.
    """
    outputs = {value.name for value in model.graph.output}
    names: dict[str, str] = {}
    current = -1
    for node in model.graph.node:
        found = _block(_module_path(node.name), chunks, current)
        # What stands between blocks, such as an addition, may be fused with the one before it.
        current = current if found is None else found
        found = current if current >= 0 else None
        for i, name in enumerate(node.output):
            if found is not None and name and name not in outputs:
                names[name] = f"{found}{mark}{name}"
                node.output[i] = names[name]
        if found is not None:
            node.name = f"{found}{mark}{node.name}"
        for i, name in enumerate(node.input):
            node.input[i] = names.get(name, name)
    for value in model.graph.value_info:
        value.name = names.get(value.name, value.name)


def _module_path(node: str) -> str:
    """``/stages/stages.0/stages.0.1/act/Relu`` → ``stages.0.1.act``.

    A module's node repeats the path of every container above it.
    """
    parts = node.strip("/").split("/")[:-1]
    path = ""
    for part in parts:
        path = part if part == path or part.startswith(f"{path}.") else f"{path}.{part}"
        path = path.lstrip(".")
    return path


def _block(path: str, chunks: Sequence[Chunk], current: int) -> int | None:
    """Number of the block that a module belongs to, not before the current one."""
    if not path:
        return None
    for k in range(max(current, 0), len(chunks)):
        for own in chunks[k].path.split("+"):
            name = own.partition("#")[0]
            # A module's second call is traced under its name and a number.
            stem = re.sub(r"_\d+(?=$|\.)", "", path)
            if any(p == name or p.startswith(f"{name}.") for p in (path, stem)):
                return k
    return None
