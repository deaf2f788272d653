"""One trainer of weight-shared networks: a step at a time, every schedule alike.

A step draws architectures, passes each once forward and backward, reduces the sum of their
gradients over the ranks by one all-reduce, and moves all weights at once. Nothing random is
kept between steps: images, augmentation and architectures come from (seed, step, rank), so a
run that is taken up again repeats what it would have done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from ..proxies.batch import Batch
from ..proxies.teacher import Teacher
from ..searchspace.architecture import Architecture
from ..searchspace.errors import InvalidInputError, ScholarchError
from ..searchspace.space import SearchSpace
from .augment import augment_for
from .compiled import CompiledSteps
from .cost import StepCosts
from .draw import Drawer
from .factory import create_schedule
from .flat import FlatNetwork
from .loader import LabelledImages, Loader, normalise
from .losses import DIVERGENCES
from .objective import OBJECTIVES, View
from .plan import Place, Plan
from .robust import training as _training  # noqa: F401 (importing registers)
from .schedule import Pass, Schedule
from .settings import TrainSettings
from .sort import sort_channels
from .world import World

__all__ = ["DivergedError", "StepLog", "Trainer"]

#: Salts of what is drawn from (seed, step, rank).
_DRAW, _ATTACK = 1, 2


class DivergedError(ScholarchError):
    """The loss is no number any more."""


@dataclass(frozen=True)
class StepLog:
    """What a step did.

    Attributes:
        step: its number.
        phase: name of its phase.
        lr: learning rate.
        weight: of the gradient of all networks but the largest.
        loss: of the first pass, mean over ranks.
        forwards: forward passes on this process, teachers' and attacks' included.
        backwards: backward passes, to attacked images included.
    """

    step: int
    phase: str
    lr: float
    weight: float
    loss: float
    forwards: int
    backwards: int


class Trainer:
    """Trains the elastic network of a space by a schedule.

    Args:
        space: whose networks.
        data: images; only the training part is touched.
        settings: how.
        teacher: external teacher, where the settings ask for one.
        world: ranks; default one.

    Attributes:
        network: the elastic network, trained in place.
        forward: its forward pass, compiled where asked for.
        average: averaged weights, flat, or ``None``.
        next_step: the step that :meth:`step` does next.
        macs_passed: multiply-accumulates of all ranks so far, backward passes twice.

    Raises:
        InvalidInputError: if space and data, or settings and teacher, do not fit together.
    """

    def __init__(
        self,
        space: SearchSpace,
        data: LabelledImages,
        settings: TrainSettings,
        *,
        teacher: Teacher | None = None,
        world: World | None = None,
    ) -> None:
        _check(space, data, settings, teacher)
        self.space, self.data, self.settings = space, data, settings
        self.world = world or World()
        self.device = torch.device(settings.device)
        self.schedule = schedule_of(settings)
        self.drawer = Drawer(space, data.resolution)
        self.loader = Loader(
            data.train,
            batch_size=settings.batch_size,
            seed=settings.seed,
            augment=augment_for(data, settings.augment),
            device=self.device,
        )
        self.network = space.supernet(seed=settings.seed).to(self.device).train()
        self.flat = FlatNetwork(self.network)
        self.teacher = teacher
        self._teacher_module = None if teacher is None else teacher.module.to(self.device)
        self.frozen: nn.Module | None = None
        decay, rest = (nn.Parameter(t) for t in self.flat.parts(self.flat.values))
        self._leaves = (decay, rest)
        for leaf, gradient in zip(self._leaves, self.flat.parts(self.flat.gradients), strict=True):
            leaf.grad = gradient
        self.optimizer = torch.optim.SGD(
            [
                {"params": [decay], "weight_decay": settings.weight_decay},
                {"params": [rest], "weight_decay": 0.0},
            ],
            lr=1.0,
            momentum=settings.momentum,
            nesterov=settings.momentum > 0.0,
        )
        self.momentum = torch.zeros_like(self.flat.values)
        for leaf, buffer in zip(self._leaves, self.flat.parts(self.momentum), strict=True):
            if settings.momentum:
                self.optimizer.state[leaf]["momentum_buffer"] = buffer
        self.average = self.flat.values.clone() if self.schedule.average else None
        self.costs = StepCosts(self.drawer, self.schedule, settings, teacher, self.world)
        self.plan = Plan(
            self.schedule,
            self.costs.steps(self.loader.steps_per_epoch(self.world.size)),
            lr=float(settings.lr or 0.0),
            final=settings.final_lr,
            warmup=settings.lr_warmup,
        )
        self.next_step = 0
        self.forward: Callable[[Tensor, Architecture], Tensor] = self.network
        if settings.compile:
            self.forward = CompiledSteps(self.network)
        else:
            self.network.sum_in_place()

    # ------------------------------------------------------------------ a step

    @property
    def macs_passed(self) -> float:
        """Multiply-accumulates passed so far by all ranks."""
        return self.costs.passed

    @property
    def done(self) -> bool:
        """Whether all steps are done."""
        return self.next_step >= self.plan.steps

    def step(self) -> StepLog:
        """Do the next step.

        Raises:
            DivergedError: if the loss is no number.
        """
        place = self.plan.at(self.next_step)
        if place.first:
            self._begin(place)
        self.flat.gradients.zero_()
        before = self.flat.buffers.clone() if self.world.size > 1 else self.flat.buffers
        moved = torch.zeros_like(before)
        loss = torch.zeros((), device=self.device)
        forwards = backwards = 0
        for rank in self.world.shards:
            if self.world.size > 1:
                self.flat.buffers.copy_(before)
            shard = _Shard(self, place, rank)
            shard.run()
            loss += shard.loss
            forwards, backwards = forwards + shard.forwards, backwards + shard.backwards
            if self.world.size > 1:
                moved += self.flat.buffers
        if self.world.size > 1:
            self.world.mean(self.flat.gradients, moved, loss)
            self.flat.buffers.copy_(moved)
        value = float(loss)
        if not np.isfinite(value):
            raise DivergedError(
                f"the loss is {value} at step {self.next_step} of {self.plan.steps}, learning rate"
                f" {place.lr:.3g}; start again with a smaller lr than {self.settings.lr:.3g}"
            )
        self._move(place)
        log = StepLog(
            self.next_step, place.phase.name, place.lr, place.weight, value, forwards, backwards
        )
        self.next_step += 1
        return log

    def check_finite(self) -> None:
        """Refuse weights that are no numbers, which the loss would tell a step later.

        Raises:
            DivergedError: if there are any.
        """
        if not bool(self.flat.values.isfinite().all() and self.flat.buffers.isfinite().all()):
            raise DivergedError(
                f"the weights overflowed before step {self.next_step} of {self.plan.steps}; start"
                f" again with a smaller lr than {self.settings.lr:.3g}"
            )

    def _begin(self, place: Place) -> None:
        """What a phase does before its first step."""
        phase = place.phase
        if phase.freeze:
            plain = self.network.extract(self.drawer.largest).to(self.device)
            self.frozen = plain.eval().requires_grad_(requires_grad=False)
        if phase.sort is not None:
            followers = [self.flat.views(self.momentum)] if phase.sort_state else []
            if self.average is not None:
                followers.append(self.flat.views(self.average))
            sort_channels(self.network, *followers, rule=phase.sort)

    def _move(self, place: Place) -> None:
        if self.schedule.clip is not None:
            self.flat.gradients.clamp_(-self.schedule.clip, self.schedule.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = place.lr
        self.optimizer.step()
        if self.average is not None:
            # As many steps as there were, at most: the start is forgotten early.
            decay = min(self.schedule.average, (1 + self.next_step) / (10 + self.next_step))
            self.average.lerp_(self.flat.values, 1.0 - decay)

    # ------------------------------------------------------------------ forward passes

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Convolutions and linear layers in the settings' precision."""
        if self.settings.precision == "float32":
            yield
            return
        with torch.autocast(self.device.type, torch.bfloat16):
            yield

    def normalised(self, images: Tensor) -> Tensor:
        """Images in [0, 1] as the network sees them, channels last: 1.2 to 2.5 times faster."""
        inputs = normalise(images, self.data.mean, self.data.std)
        return inputs.contiguous(memory_format=torch.channels_last)

    def external_logits(self, images: Tensor, labels: Tensor) -> Tensor:
        """The external teacher's logits of images in [0, 1], ``[B, K]``."""
        if self.teacher is None or self._teacher_module is None:
            raise InvalidInputError("no external teacher was given")
        batch = Batch(images, labels, self.data.num_classes, self.data.mean, self.data.std)
        with torch.no_grad(), self.autocast():
            logits: Tensor = self._teacher_module(self.teacher.prepare(batch))
        return logits.float()


class _Shard:
    """One rank's part of a step."""

    def __init__(self, trainer: Trainer, place: Place, rank: int) -> None:
        self.trainer, self.place, self.rank = trainer, place, rank
        seed = (trainer.settings.seed, trainer.next_step, rank)
        self.rng = np.random.default_rng((*seed, _DRAW))
        attack = int(np.random.default_rng((*seed, _ATTACK)).integers(2**62))
        self.generator = torch.Generator().manual_seed(attack)
        self.images, self.labels = trainer.loader.batch(trainer.next_step, rank, trainer.world.size)
        self.inputs = trainer.normalised(self.images)
        self.loss = torch.zeros((), device=trainer.device)
        self.forwards = self.backwards = 0
        self._answers: dict[str, Tensor] = {}

    def run(self) -> None:
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
        divergence = DIVERGENCES[trainer.schedule.divergence]
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
                losses.append(float(nn.functional.cross_entropy(logits, self.labels)))
                self._count(arch, 1, 0)
        return archs[int(np.argmin(losses) if spec.draw == "best" else np.argmax(losses))]

    def _count(
        self, arch: Architecture, forwards: int, backwards: int, input_backwards: int = 0
    ) -> None:
        self.forwards += forwards
        self.backwards += backwards + input_backwards
        # Without the weights' gradients a backward pass costs what a forward pass does.
        self.trainer.costs.count(arch, forwards + input_backwards, backwards)


def schedule_of(settings: TrainSettings) -> Schedule:
    """The schedule, with an external teacher in the largest's place where asked for."""
    schedule = create_schedule(settings.schedule, **settings.options)
    if not settings.external:
        return schedule
    phases = [
        replace(
            phase,
            freeze=False,
            passes=tuple(replace(p, source="external", soft=p.soft or 1.0) for p in phase.passes),
        )
        for phase in schedule.phases
    ]
    return replace(schedule, phases=tuple(phases))


def _check(
    space: SearchSpace, data: LabelledImages, settings: TrainSettings, teacher: Teacher | None
) -> None:
    if space.num_classes != data.num_classes:
        raise InvalidInputError(
            f"space {space.name!r} has {space.num_classes} classes, data {data.name!r} has"
            f" {data.num_classes}; create the space with num_classes={data.num_classes}"
        )
    if space.in_channels != len(data.mean):
        raise InvalidInputError(
            f"space {space.name!r} takes images of {space.in_channels} channels, data"
            f" {data.name!r} has {len(data.mean)}"
        )
    if settings.external != (teacher is not None):
        raise InvalidInputError(
            "settings and teacher do not agree: external = True needs a teacher, and a teacher"
            " external = True"
        )
    if teacher is not None and teacher.num_classes != data.num_classes:
        raise InvalidInputError(
            f"teacher {teacher.name!r} has {teacher.num_classes} classes, data {data.name!r} has"
            f" {data.num_classes}"
        )
