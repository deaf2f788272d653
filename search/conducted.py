"""A training run with its record and its picture kept up to date, stopped by a signal."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from ..supernet.folder import CURVES, TRAINING, Kind, write_train
from ..supernet.session import Progress, TrainingRun
from ..supernet.stopping import stoppable
from ..supernet.trainer import DivergedError
from ..supernet.world import World
from .training_figure import Curves, save_curves

__all__ = ["ConductedRun", "join_world"]

#: Seconds between two pictures of a run that goes on; each takes half a second.
_LIVE = 10.0


class ConductedRun:
    """Conducts a training run in a folder to its end.

    Args:
        make: gives the run, which calls what it is given after every step.
        folder: of the run.
        about: the content of its record, which grows as the run goes on.
        kind: of the run, by which the record has its name.
        told: called after every step, on the first rank.
        title: of the picture; default says space, data and schedule.
        drawn: whether there is a picture.

    Attributes:
        run: the run.
        about: what the record says.
    """

    def __init__(
        self,
        make: Callable[[Callable[[Progress], None]], TrainingRun],
        folder: Path,
        about: dict[str, Any],
        *,
        kind: Kind = TRAINING,
        told: Callable[[Progress], None] | None = None,
        title: str | None = None,
        drawn: bool = True,
    ) -> None:
        self.folder, self.about = folder, about
        self._kind, self._told, self._title = kind, told, title
        self._draws, self._drawn, self._at = drawn, -1, time.monotonic()
        self._asked: Callable[[], bool] = bool
        self._curves: Curves | None = None
        self.run = make(self._progress)

    def go(self, *, kept: bool, finish: bool = True) -> None:
        """Train to the end.

        Args:
            kept: a signal ends it between two steps, with a checkpoint.
            finish: the record then says that the run is finished; else more is to come.

        Raises:
            DivergedError: if the loss or a weight is no number; the record says so.
            KeyboardInterrupt: by Ctrl-C or SIGTERM, after the step at hand.
        """
        with stoppable(kept) as self._asked:
            try:
                self.run.run()
            except _Stopped as error:
                self.run.save()
                self.write()
                raise KeyboardInterrupt from error
            except DivergedError as error:
                self.write(diverged=str(error))
                if not kept and isinstance(error.__cause__, DivergedError):
                    raise error.__cause__ from None  # it tells of no checkpoint
                raise
        if not self.about.get("finished"):
            self._draw(last=True)
            self.write(**({"finished": True} if finish else {}))

    def write(self, **more: Any) -> None:
        """Write the record, with how far the run is and what else there is to tell."""
        trainer = self.run.trainer
        if trainer.world.leads:
            done = {"seconds": round(self.run.seconds, 1), "steps_done": trainer.next_step}
            self.about |= done | {"macs_passed": trainer.macs_passed} | more
            write_train(self.folder, self.about, self._kind)

    def _progress(self, step: Progress) -> None:
        world = self.run.trainer.world
        if world.leads and self._told is not None:
            self._told(step)
        self._draw()
        if not self.run.finished and world.agrees(self._asked()):
            raise _Stopped

    def _draw(self, *, last: bool = False) -> None:
        """Draw what has come since the last picture, if that is some time ago."""
        if not self._draws or len(self.run.history) == self._drawn:
            return
        now = time.monotonic()
        if not last and now - self._at < _LIVE:
            return
        self._drawn, self._at = len(self.run.history), now
        if self.run.trainer.world.leads and self._drawn:
            self._curves = self._curves or Curves(self.run.trainer, self._title)
            save_curves(self.run, self._curves, self.folder / CURVES)


class _Stopped(Exception):  # noqa: N818 (no error: the user's wish)
    """The user asked to stop."""


def join_world(device: str, stack: ExitStack) -> World:
    """The world that ``torchrun`` made, left again when the stack is done."""
    if device == "cuda" and "LOCAL_RANK" in os.environ:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    world = World.from_environment(device)
    if world.distributed:
        stack.callback(torch.distributed.destroy_process_group)
    return world
