"""How a distiller's weight grows at the start of a run."""

from __future__ import annotations

__all__ = ["ramp"]


def ramp(progress: float, warmup: float) -> float:
    """A linear warm-up: 0 at the start, 1 from the share ``warmup`` of the steps on."""
    return 1.0 if warmup == 0 else min(1.0, progress / warmup)
