"""A trained supernet and how its training went."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path  # noqa: F401 (annotations of inherited fields are read here)
from typing import Any

from ..searchspace.architecture import Architecture
from ..searchspace.elastic import ElasticNetwork  # noqa: F401 (likewise)
from ..searchspace.space import SearchSpace  # noqa: F401 (likewise)
from .folder import CURVES, TRAIN
from .history import HISTORY
from .pretrained import Supernet
from .score import ACCURACY
from .session import BEST, LAST

__all__ = ["Landmark", "TrainedSupernet"]


@dataclass(frozen=True)
class Landmark:
    """A network by which a supernet is judged.

    Attributes:
        name: ``"smallest"``, ``"between1"``, … ``"largest"``.
        arch: its architecture.
        params: parameters.
        macs: multiply-accumulates of one image of the data.
        accuracy: on the validation part, in [0, 1], batch norm calibrated; NaN without one.
    """

    name: str
    arch: Architecture
    params: float
    macs: float
    accuracy: float


@dataclass(frozen=True, eq=False)
class TrainedSupernet(Supernet):
    """A supernet, and how its training went.

    Attributes:
        history: one line an evaluation: step, phase, MACs passed, loss, accuracies in [0, 1].
        landmarks: the smallest network, some between, the largest.
        best_mean: their mean accuracy where it was highest, which is what the network holds;
            NaN without a validation part.
        steps: that were done.
        macs_passed: multiply-accumulates of training: forward passes once, backward twice.
        seconds: spent on training, evaluations left out.
        score: what the networks are measured by, ``"accuracy"``, or ``"agreement"`` with a
            teacher's answers, in [-1, 1], wherever accuracy is said here.
    """

    history: Sequence[Mapping[str, Any]]
    landmarks: tuple[Landmark, ...]
    best_mean: float
    steps: int
    macs_passed: float
    seconds: float
    score: str = ACCURACY

    def to_json(self) -> dict[str, Any]:
        """What happened, as plain data."""
        folder = None if self.path is None else self.path.parent
        return {
            "steps": self.steps,
            "macs_passed": self.macs_passed,
            "seconds": round(self.seconds, 3),
            "score": self.score,
            "best_mean": _finite(self.best_mean),
            "landmarks": {
                one.name: {
                    "arch": one.arch.text,
                    "params": one.params,
                    "macs": one.macs,
                    "accuracy": _finite(one.accuracy),
                }
                for one in self.landmarks
            },
            "paths": {}
            if folder is None
            else {
                "supernet": str(folder / BEST),
                "checkpoint": str(folder / LAST),
                "history": str(folder / HISTORY),
                "curves": str(folder / CURVES),
                "run": str(folder / TRAIN),
            },
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
