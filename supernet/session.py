"""A training run in a folder: checkpoints, validation, early stop, resume."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..searchspace.architecture import Architecture
from ..searchspace.errors import InvalidInputError
from ..searchspace.files import make_folder, write_atomic
from ..searchspace.memory import keep_freed_memory
from .checkpoint import restore, save_checkpoint
from .evaluate import Evaluator
from .history import HISTORY, history_csv, read_history
from .loader import LabelledImages
from .pretrained import FILE, save_supernet
from .settings import TrainSettings
from .trainer import DivergedError, Trainer

__all__ = [
    "BEST",
    "HISTORY",
    "LAST",
    "Progress",
    "TrainingRun",
    "check_patience",
    "landmarks",
    "read_history",
]

LAST = "last.safetensors"
BEST = FILE

#: Seconds between checkpoints where no evaluation brings one sooner.
_EVERY = 300.0

#: Networks between the smallest and the largest that are validated with them.
_BETWEEN = 2


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        step: steps done.
        steps: in all.
        phase: of the last step.
        loss: its loss.
        macs: multiply-accumulates passed.
        best: best mean validation accuracy so far, in [0, 1], or agreement with targets, in
            [-1, 1]; NaN before the first.
        score: which of the two.
    """

    step: int
    steps: int
    phase: str
    loss: float
    macs: float
    best: float
    score: str = "accuracy"


@dataclass
class _State:
    """What the run knows beside the trainer; ``losses``: sum and number since an evaluation."""

    best: float = float("nan")
    stale: int = 0
    seconds: float = 0.0
    stopped: bool = False
    losses: list[float] = field(default_factory=lambda: [0.0, 0.0])
    history: list[dict[str, float | str]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "best": None if self.best != self.best else self.best,
            "stale": self.stale,
            "seconds": self.seconds,
            "stopped": self.stopped,
            "losses": self.losses,
            "history": self.history,
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> _State:
        best = float("nan") if data["best"] is None else float(data["best"])
        losses = list(data.get("losses", [0.0, 0.0]))
        return _State(
            best, data["stale"], data["seconds"], data["stopped"], losses, data["history"]
        )


def landmarks(trainer: Trainer) -> dict[str, Architecture]:
    """Networks by which a run is judged: the smallest, some between, the largest.

    Those between are the first of seeded draws whose costs are nearest to even steps.
    """
    drawer = trainer.drawer
    rows = drawer.rows(512, np.random.default_rng(0))
    macs = drawer.macs(rows)
    low, high = drawer.macs(drawer.space.encode([drawer.smallest, drawer.largest]))
    targets = np.linspace(low, high, _BETWEEN + 2)[1:-1]
    chosen = [rows[int(np.abs(macs - target).argmin())] for target in targets]
    between = drawer.decode(np.stack(chosen))
    named = {f"between{i + 1}": arch for i, arch in enumerate(between)}
    return {"smallest": drawer.smallest, **named, "largest": drawer.largest}


class TrainingRun:
    """Runs a trainer to its end, in a folder or in memory.

    After ``kill -9`` a new run of the same settings goes on from the last checkpoint, and ends
    with the bits that it would have ended with. What is kept as the best is chosen on the
    validation part; the test part is never read.

    Args:
        trainer: new.
        folder: of the run; ``None`` keeps nothing.
        progress: called after every step.
        every: seconds between checkpoints.

    Attributes:
        landmarks: networks by which the run is judged, by name, the smallest first.
    """

    #: File of the network to be used, in the folder.
    best_file: ClassVar[str] = BEST

    def __init__(
        self,
        trainer: Trainer,
        folder: Path | None = None,
        *,
        progress: Callable[[Progress], None] | None = None,
        every: float = _EVERY,
    ) -> None:
        self.trainer: Trainer = trainer
        self.folder = folder
        self._progress, self._every = progress, every
        self._state = _State()
        settings = trainer.settings
        self._has_val = len(trainer.data.val.labels) > 0
        steps, count = trainer.plan.steps, settings.evaluations
        self._evaluate_at = {round(steps * (i + 1) / count) for i in range(count)}
        self.landmarks = self._choose()
        check_patience(settings, trainer.data)
        if folder is not None:
            if trainer.world.leads:
                make_folder(folder)
            if (folder / LAST).exists():
                meta = restore(trainer, folder / LAST)
                self._state = _State.from_json(meta["state"])

    @property
    def history(self) -> Sequence[dict[str, float | str]]:
        """One line an evaluation: step, phase, cost, mean loss since the last, accuracies."""
        return tuple(self._state.history)

    @property
    def seconds(self) -> float:
        """Spent on training so far, evaluations left out."""
        return self._state.seconds

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.trainer.done or self._state.stopped

    def run(self) -> None:
        """Train to the end, or until validation does not gain any more.

        Raises:
            DivergedError: if the loss or a weight is no number; the last checkpoint stays.
            StoreError: if the disk is full; likewise.
        """
        trainer, state = self.trainer, self._state
        keep_freed_memory()
        since = saved = time.perf_counter()
        while not self.finished:
            try:
                log = trainer.step()
                now = time.perf_counter()
                state.seconds += now - since
                since = now
                state.losses = [state.losses[0] + log.loss, state.losses[1] + 1]
                due = trainer.next_step in self._evaluate_at
                keep = due or trainer.done or now - saved > self._every
                if keep:
                    trainer.check_finite()
            except DivergedError as error:
                raise DivergedError(f"{error}{self._left()}") from error
            if due:
                self._evaluate(log.phase, log.lr)
                since = time.perf_counter()  # what is trained is timed, not what is looked at
            if keep:
                self.save()
                saved = time.perf_counter()
            if self._progress is not None:
                self._progress(
                    Progress(
                        trainer.next_step,
                        trainer.plan.steps,
                        log.phase,
                        log.loss,
                        trainer.macs_passed,
                        state.best,
                        trainer.task.score,
                    )
                )
        if (
            self.folder is not None
            and trainer.world.leads
            and not (self.folder / self.best_file).exists()
        ):
            self._keep()

    def save(self) -> None:
        """Write a checkpoint now, e.g. because the user stops the run."""
        # Nobody waits for the others here: it is the first rank's clock that says when.
        if self.folder is not None and self.trainer.world.leads:
            save_checkpoint(self.trainer, self.folder / LAST, state=self._state.to_json())
            write_atomic(self.folder / HISTORY, history_csv(self._state.history))

    def _choose(self) -> Mapping[str, Architecture]:
        """Networks by which the run is judged."""
        return landmarks(self.trainer)

    def _evaluate(self, phase: str, lr: float) -> None:
        trainer, state = self.trainer, self._state
        (total, count), state.losses = state.losses, [0.0, 0.0]
        line: dict[str, float | str] = {
            "step": trainer.next_step,
            "phase": phase,
            "macs": trainer.macs_passed,
            "seconds": round(state.seconds, 3),
            "lr": lr,
            "loss": total / count,
        }
        if self._has_val:
            accuracies = self._accuracies() if trainer.world.leads else [0.0] * len(self.landmarks)
            # One rank measures, and all hear the same of it: when to stop, too.
            told = trainer.world.first(accuracies)
            found = dict(zip(self.landmarks, told, strict=True))
            mean = sum(found.values()) / len(found)
            line |= {**found, "mean": mean}
            if not mean <= state.best:  # NaN: the first
                state.best, state.stale = mean, 0
                self._keep()
            else:
                state.stale += 1
                patience = trainer.settings.patience
                state.stopped = bool(patience) and state.stale >= patience
        state.history.append(line)

    def _accuracies(self) -> list[float]:
        """The landmarks' on the validation part, in [0, 1]."""
        trainer = self.trainer
        with trainer.evaluated():
            evaluator = Evaluator(
                trainer.network,
                trainer.data,
                calibration=trainer.settings.calibration,
                device=trainer.device,
            )
            found = [evaluator.accuracy(arch) for arch in self.landmarks.values()]
        trainer.network.train()
        return found

    def _keep(self) -> None:
        """Write the network as it is now as the one to be used."""
        if self.folder is not None and self.trainer.world.leads:
            with self.trainer.evaluated():
                save_supernet(self.trainer, self.folder / BEST)

    def _left(self) -> str:
        if self.folder is None or not (self.folder / LAST).exists():
            return ""
        return f"; the last checkpoint, {self.folder / LAST}, is as it was"


def check_patience(settings: TrainSettings, data: LabelledImages) -> None:
    """Refuse to stop by an accuracy that nobody measures.

    Raises:
        InvalidInputError: if there is no validation part, or no evaluation.
    """
    images, count = len(data.val.labels), settings.evaluations
    if settings.patience and not (images and count):
        raise InvalidInputError(
            f"patience = {settings.patience} needs a validation part and evaluations; data"
            f" {data.name!r} has {images} inputs there, and evaluations = {count}"
        )
