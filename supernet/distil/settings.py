"""What repeats a distillation run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from ...searchspace.errors import InvalidInputError, UnknownNameError
from ..settings import TrainSettings
from .factory import check_options

__all__ = ["NO_DISTILLER", "DistilSettings"]

NO_DISTILLER = "none"
"""The distiller of whoever learns from labels alone."""

#: The recipe of the distillation benchmarks (CRD: Tian et al., ICLR 2020, §A.1: batches of 64,
#: learning rate .05, weight decay 5e-4), with a cosine for their three steps.
_RECIPE: dict[str, Any] = {
    "schedule": "largest",
    "epochs": 60.0,
    "batch_size": 64,
    "weight_decay": 5e-4,
    "smoothing": 0.0,
}
_LR = 0.05 / 64


@dataclass(frozen=True)
class DistilSettings:
    """Everything but student, data and teachers.

    Attributes:
        distiller: registered name, or ``"none"`` for labels alone.
        options: of the distiller; defaults are its paper's.
        labels: weight of the cross-entropy; ``None``: the distiller's.
        average: decay of averaged weights that are evaluated and handed over; 0: none.
        int8: train with weights and inputs rounded to int8, as an int8 export will round them
            (quantised distillation: Polino et al., ICLR 2018); what is handed over is float.
        train: lengths, rates, precision, seed: see :class:`TrainSettings`.

    Raises:
        UnknownNameError: if there is no such distiller.
        InvalidInputError: if a number is out of its range.
    """

    distiller: str = "kd"
    options: Mapping[str, Any] = field(default_factory=dict)
    labels: float | None = None
    average: float = 0.0
    int8: bool = False
    train: TrainSettings = field(default_factory=lambda: DistilSettings.recipe())

    def __post_init__(self) -> None:
        if self.teaches:
            check_options(self.distiller, dict(self.options))
        elif self.options:
            raise InvalidInputError("distiller 'none' has no options")
        if self.labels is not None and not 0.0 <= self.labels < math.inf:
            raise InvalidInputError(f"labels = {self.labels:g}; need a weight of at least 0")
        if not self.teaches and self.labels == 0.0:
            raise InvalidInputError("distiller 'none' with labels = 0 leaves nothing to learn")
        if not 0.0 <= self.average < 1.0:
            raise InvalidInputError(
                f"average = {self.average:g}; need a number of at least 0 and below 1"
            )

        if self.int8 and self.train.compile:
            raise InvalidInputError(
                "int8 follows the ranges of inputs step by step, which a compiled network cannot;"
                " leave compile out"
            )

    @property
    def teaches(self) -> bool:
        """Whether there is a teacher."""
        return self.distiller != NO_DISTILLER

    @staticmethod
    def recipe(**given: Any) -> TrainSettings:
        """Training settings by the benchmarks' recipe, where nothing else is given.

        Raises:
            UnknownNameError: if there is no such setting.
        """
        known = {f.name for f in fields(TrainSettings)} - {"schedule", "options", "external"}
        for name in given:
            if name not in known:
                raise UnknownNameError("distillation setting", name, known)
        recipe = dict(_RECIPE)
        if given.get("macs") is not None:
            recipe.pop("epochs")
        recipe |= {name: value for name, value in given.items() if value is not None}
        if recipe.get("optimizer") != "adamw":  # which has a rate of its own
            recipe.setdefault("lr", _LR * recipe["batch_size"])
        return TrainSettings(**recipe)

    def to_json(self) -> dict[str, Any]:
        """Plain data that :meth:`from_json` reads back."""
        own = {name: value for name, value in asdict(self).items() if name != "train"}
        return {**own, "train": self.train.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DistilSettings:
        """Settings as :meth:`to_json` wrote them."""
        own = {name: value for name, value in data.items() if name != "train"}
        return cls(**own, train=TrainSettings.from_json(data["train"]))

    def training(self, **changes: Any) -> DistilSettings:
        """The same with other training settings."""
        return replace(self, train=replace(self.train, **changes))
