"""ONNX Runtime on a CPU: what is asked of it here, and what is said where it is missing."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ...searchspace.errors import ScholarchError

__all__ = ["INPUT", "OUTPUT", "OnnxSession", "quiet", "require_onnx"]

#: Names of a file's only output, and of its only input where that is images.
INPUT, OUTPUT = "images", "logits"


def require_onnx() -> None:
    """Refuse to go on without the extra.

    Raises:
        ScholarchError: naming the line that installs it.
    """
    try:
        for name in ("onnx", "onnxruntime", "onnxscript"):
            import_module(name)
    except ImportError as error:
        raise ScholarchError(
            f"ONNX export needs the extra, {error.name} is missing: pip install 'scholarch[onnx]'"
        ) from error


class OnnxSession:
    """A file's contents, ready to run on one thread.

    Args:
        model: serialised.
    """

    def __init__(self, model: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, images: Tensor) -> npt.NDArray[np.float32]:
        """Logits ``[B, K]`` of normalised images ``[B, C, H, W]``, or of ids or waveforms."""
        name = self._session.get_inputs()[0].name
        found: npt.NDArray[np.float32] = self._session.run([OUTPUT], {name: images.numpy()})[0]
        return found


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing of what exporters and quantisers say of their own ways, which no user can change."""
    loggers = [logging.getLogger(name) for name in (None, "torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
