"""How long a network and what was exported of it take, side by side on one thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter_ns

import numpy as np
import torch
from torch import Tensor

from ...searchspace.latency.runtimes.base import Setting, create_runtime, undisturbed
from .inputs import Image, seeded_images

__all__ = ["latencies"]

CALLS = 5
SWEEPS = 9
LEAST_SWEEPS = 3

#: Milliseconds after which a large network's sweeps end.
LONG = 4000.0


def latencies(calls: Mapping[str, Callable[[Tensor], object]], image: Image) -> dict[str, float]:
    """Milliseconds of one image, by name: the median over sweeps of each sweep's median.

    They are timed in turn, so that what else the machine does falls on all of them, on one
    thread that is kept on its core; calls that the scheduler interrupted are made again.

    Args:
        calls: name → network, of normalised images ``[1, C, H, W]``.
        image: channels, height and width, or what sequences.
    """
    images = seeded_images(1, image)

    def once(call: Callable[[Tensor], object]) -> float:
        begin = perf_counter_ns()
        call(images)
        return (perf_counter_ns() - begin) / 1e6

    found: dict[str, list[float]] = {name: [] for name in calls}
    with create_runtime("torch", Setting(threads=1)).pinned(), torch.inference_mode():
        for call in calls.values():
            once(call)
        sweep = CALLS * sum(once(call) for call in calls.values())
        for _ in range(int(np.clip(LONG / sweep, LEAST_SWEEPS, SWEEPS))):
            for name, call in calls.items():
                times = undisturbed(lambda call=call: once(call), CALLS)  # type: ignore[misc]
                found[name].append(float(np.median(times)))
    return {name: float(np.median(times)) for name, times in found.items()}
