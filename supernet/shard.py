"""One rank's part of a training step: draw, pass, and add up gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..searchspace.architecture import Architecture
from ..searchspace.errors import InvalidInputError
from .objective import OBJECTIVES, View
from .plan import Place
from .robust import training as _training  # noqa: F401 (importing registers)
from .schedule import Pass
from .task import has_targets

if TYPE_CHECKING:
    from .trainer import Trainer

__all__ = ["Shard"]

#: Salts of what is drawn from (seed, step, rank).
_DRAW, _ATTACK = 1, 2


class Shard:
    """One rank's part of a step.

    Args:
        trainer: whose networks are passed.
        place: where the step stands.
        rank: whose images and architectures.

    Attributes:
        loss: of the first pass.
        forwards: forward passes done, teachers' and attacks' included.
        backwards: backward passes.
    """

    def __init__(self, trainer: Trainer, place: Place, rank: int) -> None:
        self.trainer, self.place, self.rank = trainer, place, rank
        seed = (trainer.settings.seed, trainer.next_step, rank)
        self.rng = np.random.default_rng((*seed, _DRAW))
        attack = int(np.random.default_rng((*seed, _ATTACK)).integers(2**62))
        self.generator = torch.Generator().manual_seed(attack)
        at = (trainer.next_step, rank, trainer.world.size)
        self.images, self.labels = trainer.loader.batch(*at)
        self.indices = trainer.loader.indices(*at)
        self.inputs = trainer.normalised(self.images)
        self.loss = torch.zeros((), device=trainer.device)
        self.forwards = self.backwards = 0
        self._answers: dict[str, Tensor] = {}

    def run(self) -> None:
        """Do every pass of the step; gradients add up in the network."""
        first = True
        for spec in self.place.phase.passes:
            for arch in self._draw(spec):
                loss = self._pass(spec, arch)
                if first:
                    self.loss, first = loss, False

    def _pass(self, spec: Pass, arch: Architecture) -> Tensor:
        trainer = self.trainer
        leads = spec.draw == "largest"
        # Running statistics are the largest network's; the others' are calibrated.
        trainer.network.track_statistics(leads)
        divergence = trainer.task.divergence(trainer.schedule.divergence)
        temperature = trainer.settings.temperature
        view = View(
            forward=lambda images: self._forward(images, arch),
            images=self.images,
            labels=self.labels,
            soft=self._soft(spec) if spec.soft else None,
            spec=spec,
            smoothing=trainer.settings.smoothing,
            divergence=lambda student, soft: divergence(student, soft, temperature),
            generator=self.generator,
            quiet=lambda images: self._quiet(images, arch, leads),
            indices=self.indices,
            coach=trainer.coach,
        )
        outcome = OBJECTIVES[spec.objective](view)
        weight = 1.0 if leads else self.place.weight
        if weight:
            (outcome.loss * weight).backward()
        if leads:
            self._answers["largest"] = outcome.logits.detach().float()
        self._count(arch, outcome.forwards, outcome.backwards, outcome.input_backwards)
        return outcome.loss.detach()

    def _forward(self, images: Tensor, arch: Architecture) -> Tensor:
        inputs = self.inputs if images is self.images else self.trainer.normalised(images)
        with self.trainer.autocast():
            logits = self.trainer.forward(inputs, arch)
        return logits.float()

    def _quiet(self, images: Tensor, arch: Architecture, tracked: bool) -> Tensor:
        """A forward pass that moves no running statistics."""
        self.trainer.network.track_statistics(track=False)
        try:
            return self._forward(images, arch)
        finally:
            self.trainer.network.track_statistics(tracked)

    def _soft(self, spec: Pass) -> Tensor:
        """The teacher's logits; each teacher answers once a step."""
        trainer, source = self.trainer, spec.source
        if source not in self._answers:
            if source == "external" and has_targets(self.labels):
                # The targets are the teacher's answers: it need not be asked again.
                self._answers[source] = self.labels
                return self.labels
            if source == "external":
                self._answers[source] = trainer.external_logits(self.images, self.labels)
            elif source == "frozen" and trainer.frozen is not None:
                with torch.no_grad(), trainer.autocast():
                    self._answers[source] = trainer.frozen(self.inputs).float()
            else:
                raise InvalidInputError(
                    f"phase {self.place.phase.name!r} learns from the teacher {source!r}, which"
                    " is not there: its pass has to come first, or a phase has to freeze it"
                )
            self.forwards += 1
            trainer.costs.count_teacher(source)
        return self._answers[source]

    def _draw(self, spec: Pass) -> list[Architecture]:
        drawer, free = self.trainer.drawer, self.place.phase.free
        if spec.draw == "largest":
            return [drawer.largest] * spec.count
        if spec.draw == "smallest":
            return [drawer.smallest] * spec.count
        if spec.draw == "random":
            return drawer.decode(drawer.rows(spec.count, self.rng, free))
        if spec.draw == "spread":
            rows = [drawer.spread(1, self.rng, free) for _ in range(spec.count)]
            return drawer.decode(np.concatenate(rows))
        return [self._choose(spec) for _ in range(spec.count)]

    def _choose(self, spec: Pass) -> Architecture:
        """The best or worst of a few of about equal cost, by the loss on the step's images."""
        drawer, trainer = self.trainer.drawer, self.trainer
        archs = drawer.decode(drawer.spread(spec.candidates, self.rng, self.place.phase.free))
        losses = []
        trainer.network.track_statistics(track=False)
        with torch.no_grad():
            for arch in archs:
                logits = self._forward(self.images, arch)
                losses.append(float(trainer.task.loss(logits, self.labels)))
                self._count(arch, 1, 0)
        return archs[int(np.argmin(losses) if spec.draw == "best" else np.argmax(losses))]

    def _count(
        self, arch: Architecture, forwards: int, backwards: int, input_backwards: int = 0
    ) -> None:
        self.forwards += forwards
        self.backwards += backwards + input_backwards
        # Without the weights' gradients a backward pass costs what a forward pass does.
        self.trainer.costs.count(arch, forwards + input_backwards, backwards)
