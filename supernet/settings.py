"""What repeats a training run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ..searchspace.errors import InvalidInputError

__all__ = ["OPTIMIZERS", "PRECISIONS", "TrainSettings"]

PRECISIONS = ("float32", "bfloat16")

OPTIMIZERS = ("sgd", "adamw")

#: AdamW's peak rate, whatever the batch, where none is given.
_ADAMW_LR = 5e-4

#: Learning rate of an image: once-for-all's and DεpS' 2.6 for 2048.
_LR = 2.6 / 2048


@dataclass(frozen=True)
class TrainSettings:
    """Everything but the space, the data and the teacher.

    Attributes:
        schedule: registered name, see :func:`~scholarch.supernet.factory.list_schedules`.
        options: of the schedule.
        epochs: how long, in passes over the training part; default 50 where ``macs`` is not
            given either.
        macs: how long, in multiply-accumulates passed: of a forward pass once, of a backward
            pass twice, an image's times the images. In place of ``epochs``.
        batch_size: images a step and rank.
        optimizer: ``"sgd"``, or ``"adamw"`` (Loshchilov & Hutter, ICLR 2019), which Transformers
            want.
        lr: peak learning rate; default 2.6 for 2048 images, in proportion; of AdamW 5e-4.
        final_lr: the last, as a share of the peak.
        lr_warmup: share of the steps in which it rises.
        momentum: Nesterov's; AdamW's β₁.
        weight_decay: of all but batch norm and biases.
        smoothing: of labels.
        temperature: of soft targets.
        augment: policy, see :func:`~scholarch.supernet.augment.augment_for`.
        external: whether networks learn an external teacher's answers in place of the
            largest's.
        precision: of convolutions and linear layers, ``"float32"`` or ``"bfloat16"``; batch
            norm's statistics, losses and weights stay in float32. float16 is not offered:
            bfloat16 has float32's range, so that no loss has to be scaled.
        compile: compile the network step by step, see
            :class:`~scholarch.supernet.compiled.CompiledSteps`.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        seed: of everything random.
        evaluations: how often networks are evaluated on the validation part, evenly spread.
        patience: evaluations without a gain after which the run stops; 0: never.
        calibration: training images from which batch norm's statistics are recomputed.

    Raises:
        InvalidInputError: if a number is out of its range.
    """

    schedule: str = "delayed"
    options: Mapping[str, Any] = field(default_factory=dict)
    epochs: float | None = None
    macs: float | None = None
    batch_size: int = 64
    optimizer: str = "sgd"
    lr: float | None = None
    final_lr: float = 1e-3
    lr_warmup: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 3e-5
    smoothing: float = 0.1
    temperature: float = 1.0
    augment: str = "auto"
    external: bool = False
    precision: str = "float32"
    compile: bool = False
    device: str = "cpu"
    seed: int = 0
    evaluations: int = 10
    patience: int = 0
    calibration: int = 2000

    def __post_init__(self) -> None:
        if self.epochs is not None and self.macs is not None:
            raise InvalidInputError("give epochs or macs, not both")
        if self.epochs is None and self.macs is None:
            object.__setattr__(self, "epochs", 50.0)
        if self.optimizer not in OPTIMIZERS:
            raise InvalidInputError(f"optimizer {self.optimizer!r}; one of {', '.join(OPTIMIZERS)}")
        if self.lr is None:
            rate = _ADAMW_LR if self.optimizer == "adamw" else _LR * self.batch_size
            object.__setattr__(self, "lr", rate)
        if self.precision not in PRECISIONS:
            raise InvalidInputError(f"precision {self.precision!r}; one of {', '.join(PRECISIONS)}")
        for name, low, high in (
            ("epochs", 0.0, math.inf),
            ("macs", 0.0, math.inf),
            ("lr", 0.0, math.inf),
            ("temperature", 0.0, math.inf),
        ):
            value = getattr(self, name)
            if value is not None and not (low < value < high):
                raise InvalidInputError(f"{name} = {value:g}; need a number above {low:g}")
        for name, high in (
            ("final_lr", 1.0),
            ("lr_warmup", 1.0),
            ("momentum", 1.0),
            ("weight_decay", math.inf),
            ("smoothing", 1.0),
        ):
            if not 0.0 <= getattr(self, name) < high:
                bound = "" if math.isinf(high) else f" and below {high:g}"
                raise InvalidInputError(
                    f"{name} = {getattr(self, name):g}; need a number of at least 0{bound}"
                )
        for name, least in (
            ("batch_size", 2),
            ("evaluations", 0),
            ("patience", 0),
            ("calibration", 2),
            ("seed", 0),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InvalidInputError(
                    f"{name} = {value!r}; need a whole number of at least {least}"
                )

    def to_json(self) -> dict[str, Any]:
        """Plain data; :meth:`from_json` reads it."""
        found = asdict(self)
        if self.optimizer == "sgd":
            del found["optimizer"]  # so that runs from before there was another go on
        return found

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> TrainSettings:
        """Settings as :meth:`to_json` wrote them.

        Raises:
            InvalidInputError: if they are another version's.
        """
        known = {f.name for f in fields(TrainSettings)}
        if unknown := set(data) - known:
            raise InvalidInputError(f"unknown training settings {', '.join(sorted(unknown))}")
        return TrainSettings(**data)
