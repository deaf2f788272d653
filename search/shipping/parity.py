"""Whether an exported network computes what the network does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ...searchspace.errors import ScholarchError
from .inputs import Image, seeded_images

__all__ = [
    "BATCHES",
    "TOLERANCE",
    "ParityError",
    "Written",
    "first_line",
    "relative_errors",
    "require_parity",
]

#: Sizes of the batches that are compared: an export that fixed the batch fails on one of them.
BATCHES = (1, 2, 5)

#: Largest max|Δ| / max|y| that rounding explains: kernels add in another order.
TOLERANCE = 1e-4

Call = Callable[[Tensor], npt.NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Written:
    """An exported network.

    Attributes:
        errors: size of batch → max|Δ| / max|y| against the network.
        run: the exported network: normalised images ``[B, C, H, W]``, ids or waveforms → logits
            ``[B, K]``.
    """

    errors: dict[int, float]
    run: Call


class ParityError(ScholarchError):
    """What was exported computes something else than the network."""


def relative_errors(network: nn.Module, call: Call, image: Image) -> dict[int, float]:
    """max|Δ| / max|y| over seeded images, for each size of batch in :data:`BATCHES`.

    Args:
        network: in evaluation mode; its outputs are y.
        call: images ``[B, C, H, W]`` → outputs of the exported network ``[B, K]``.
        image: channels, height and width, or what sequences.

    Raises:
        ParityError: if a batch cannot be run, or outputs are of another shape.
    """
    errors = {}
    for size in BATCHES:
        images = seeded_images(size, image, seed=size)
        with torch.inference_mode():
            expected = network(images).numpy()
        try:
            found = call(images)
        except Exception as error:
            # Runtimes raise classes of their own.
            raise ParityError(
                f"the exported network does not run on a batch of {size}: {first_line(error)}"
            ) from error
        if found.shape != expected.shape:
            raise ParityError(
                f"the exported network gives {list(found.shape)} for a batch of {size}, the"
                f" network {list(expected.shape)}"
            )
        scale = float(np.abs(expected).max()) or 1.0
        errors[size] = float(np.abs(found - expected).max()) / scale
    return errors


def require_parity(errors: dict[int, float], what: str) -> None:
    """Refuse an export whose outputs are others.

    Raises:
        ParityError: naming the error and the tolerance.
    """
    worst = max(errors, key=lambda size: (not np.isfinite(errors[size]), errors[size]))
    if not errors[worst] <= TOLERANCE:
        raise ParityError(
            f"the {what} file would give other outputs than the network: max|Δ|/max|y| ="
            f" {errors[worst]:.1e} on a batch of {worst}, at most {TOLERANCE:.0e} allowed; nothing"
            " was written; export with --format folder, whose model.py runs the network itself"
        )


def first_line(error: Exception) -> str:
    """Its message's first line, at most 200 characters; its class where it has none."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip()[:200] if lines else type(error).__name__
