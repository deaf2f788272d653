"""One trainer of weight-shared networks: a step at a time, every schedule alike.

A step draws architectures, passes each once forward and backward, reduces the sum of their
gradients over the ranks by one all-reduce, and moves all weights at once. Nothing random is
kept between steps: images, augmentation and architectures come from (seed, step, rank), so a
run that is taken up again repeats what it would have done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from ..proxies.batch import Batch
from ..proxies.teacher import Teacher
from ..searchspace.architecture import Architecture
from ..searchspace.elastic import ElasticNetwork
from ..searchspace.errors import InvalidInputError, ScholarchError
from ..searchspace.space import SearchSpace
from .augment import augment_for
from .compiled import compiled
from .cost import StepCosts
from .draw import Drawer
from .factory import create_schedule
from .fit import check_fit, check_objectives
from .flat import FlatNetwork
from .loader import LabelledImages, Loader, normalise, part_fingerprint
from .objective import Outcome, View
from .optimizer import make_optimizer
from .plan import Place, Plan
from .schedule import Pass, Schedule
from .settings import TrainSettings
from .shard import Shard
from .sort import sort_channels
from .task import Task, has_targets, task_of
from .world import World

__all__ = ["DivergedError", "StepLog", "Trainer"]


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
        network: what is trained, on the CPU; default the space's elastic network.
        schedule: default the one that the settings name.

    Attributes:
        network: the elastic network, trained in place.
        task: what the data ask for.
        coach: computes the passes of objective ``"student"``; ``None``: there are none.
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
        network: ElasticNetwork | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        self.task: Task = task_of(data.train.labels, data.name)
        check_fit(space, data, settings, teacher)
        self.space, self.data, self.settings = space, data, settings
        self.world = world or World()
        self.device = torch.device(settings.device)
        self.schedule = schedule or schedule_of(settings, targets=has_targets(data.train.labels))
        check_objectives(self.schedule, data)
        self.coach: Callable[[View], Outcome] | None = None
        self.drawer = Drawer(space, data.resolution)
        self.loader = Loader(
            data.train,
            batch_size=settings.batch_size,
            seed=settings.seed,
            augment=augment_for(data, settings.augment),
            device=self.device,
        )
        if network is None:
            network = space.supernet(seed=settings.seed)
        self.network = network.to(self.device).train()
        self.flat = FlatNetwork(self.network)
        self.teacher = teacher
        self._teacher_module = None if teacher is None else teacher.module.to(self.device)
        self.frozen: nn.Module | None = None
        decay, rest = (nn.Parameter(t) for t in self.flat.parts(self.flat.values))
        self._leaves = (decay, rest)
        for leaf, gradient in zip(self._leaves, self.flat.parts(self.flat.gradients), strict=True):
            leaf.grad = gradient
        self.memory = make_optimizer(settings, self._leaves, self.flat)
        self.optimizer = self.memory.optimizer
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
            self.forward = compiled(self.network)
        else:
            self.network.sum_in_place()

    # ------------------------------------------------------------------ a step

    @property
    def momentum(self) -> Tensor:
        """Of each weight, flat; AdamW's mean gradient."""
        return self.memory.tensors["momentum"]

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
            shard = Shard(self, place, rank)
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
            kept = self.memory.tensors.values() if phase.sort_state else ()
            followers = [self.flat.views(memory) for memory in kept]
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

    def evaluated(self) -> AbstractContextManager[None]:
        """While it lasts the network is what is evaluated: the average, if there is one."""
        return self.flat.holding(self.average)

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Of the training and the validation part; taken once, they are megabytes."""
        return {name: part_fingerprint(getattr(self.data, name)) for name in ("train", "val")}

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
        if self.data.modality != "image":
            return images  # bytes, of which nothing is normalised
        inputs = normalise(images, self.data.mean, self.data.std)
        return inputs.contiguous(memory_format=torch.channels_last)

    def external_logits(self, images: Tensor, labels: Tensor) -> Tensor:
        """The external teacher's logits of images in [0, 1], ``[B, K]``."""
        if self.teacher is None or self._teacher_module is None:
            raise InvalidInputError("no external teacher was given")
        data = self.data
        batch = Batch(
            images, labels, data.num_classes, data.mean, data.std, data.name, data.modality
        )
        with torch.no_grad(), self.autocast():
            logits: Tensor = self._teacher_module(self.teacher.prepare(batch))
        return logits.float()


def schedule_of(settings: TrainSettings, *, targets: bool = False) -> Schedule:
    """The schedule, with an external teacher in the largest's place where asked for.

    Args:
        settings: name it.
        targets: whether labels are that teacher's answers, which are then learned once only.
    """
    schedule = create_schedule(settings.schedule, **settings.options)
    if not settings.external:
        return schedule

    def taught(one: Pass) -> Pass:
        labels = 0.0 if targets else one.labels
        return replace(one, source="external", labels=labels, soft=one.soft or 1.0)

    phases = [
        replace(phase, freeze=False, passes=tuple(taught(one) for one in phase.passes))
        for phase in schedule.phases
    ]
    return replace(schedule, phases=tuple(phases))
