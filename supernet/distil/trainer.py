"""The one trainer, with a plain network for a supernet and a distiller for its loss."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

from ...proxies.taps import Taps
from ...proxies.teacher import Teacher
from ...searchspace.architecture import Architecture
from ...searchspace.errors import InvalidInputError
from ...searchspace.narrow import narrow
from ...searchspace.space import SearchSpace
from ..augment import Augment, augment_for
from ..calibrate import calibrate
from ..cost import FORWARD_BACKWARD
from ..evaluate import BATCH, accuracy, part_batches
from ..fake_quant import fake_quantised, follow_for, plain_network
from ..loader import LabelledImages, batches, normalise
from ..objective import Outcome, View, register_objective
from ..schedule import Pass, Phase, Schedule
from ..solo import SoloNetwork
from ..task import has_targets, label_loss
from ..trainer import Trainer
from ..world import World
from .distiller import (
    Distiller,
    Pair,
    Shapes,
    Sides,
    answers_only,
    check_labels,
    reads_of,
)
from .factory import create_distiller
from .guides import SOFT_LABELS, Guides
from .settings import DistilSettings
from .tapped import TappedStudent, only_logits

__all__ = ["StudentTrainer"]

#: Images by which shapes are found.
_LOOK = 4

_TEACHER = "teacher"


def _cost(spec: Pass) -> float:
    """Forward passes of the student that a step is worth, the teachers' included."""
    return FORWARD_BACKWARD + spec.options.get(_TEACHER, 0.0)


@register_objective("student", cost=_cost)
def student(view: View) -> Outcome:
    """Labels and a distiller, as a distillation run has them (:class:`StudentTrainer`).

    Raises:
        InvalidInputError: outside such a run.
    """
    if view.coach is None:
        raise InvalidInputError("objective 'student' is for a distillation run: scholarch distil")
    return view.coach(view)


class StudentTrainer(Trainer):
    """Trains one architecture's plain network by labels and a distiller.

    Args:
        space: where the architecture comes from.
        arch: whose network.
        network: freshly initialised, inherited or trained before; trained in place.
        data: images; only the training part is touched.
        settings: how.
        teachers: at least one but for distiller ``"none"``, where there are none; more than one
            for distillers of logits.
        folder: where the teachers' answers are kept, where images are not augmented.
        world: ranks; default one.

    Attributes:
        arch: the architecture.
        guides: the teachers; ``None`` without one.
        distiller: what is learned from them; ``None`` likewise.

    Raises:
        InvalidInputError: if network, data, teachers and distiller do not fit together.
        UnknownNameError: if there is no such distiller.
    """

    def __init__(
        self,
        space: SearchSpace,
        arch: Architecture,
        network: nn.Module,
        data: LabelledImages,
        settings: DistilSettings,
        *,
        teachers: Sequence[Teacher] = (),
        folder: Path | None = None,
        world: World | None = None,
    ) -> None:
        self.arch, self.asked = arch, settings
        device = torch.device(settings.train.device)
        if settings.int8:
            network = fake_quantised(network, observe=2, delay=1)
        self.guides: Guides | None = None
        self.distiller: Distiller | None = None
        self._tapped: TappedStudent | None = None
        self._soft: Tensor | None = None
        extra = 0.0
        if settings.teaches:
            if has_targets(data.train.labels):
                check_labels(settings.distiller, data.name)
            self.guides = Guides(teachers, data, device, logits=answers_only(settings.distiller))
            self._admit_student(network, data)
            keeps = self._make_distiller(network, data, settings)
            extra = 0.0 if keeps else self.guides.macs
        elif teachers:
            raise InvalidInputError(
                f"distiller 'none' learns from labels alone; leave {teachers[0].name!r} out, or"
                " choose another distiller"
            )
        left = {g.name: [g.values[i]] for g, i in zip(space.genes, arch.choices, strict=True)}
        only = narrow(space, left)
        own = float(space.cost([arch], resolution=data.resolution)["macs"][0])
        spec = Pass("largest", labels=1.0, objective="student", options={_TEACHER: extra / own})
        super().__init__(
            only,
            data,
            settings.train,
            world=world,
            network=SoloNetwork(network, self.distiller),
            schedule=Schedule("distil", (Phase("distil", 1.0, (spec,)),), average=settings.average),
        )
        self.coach = self._objective
        if settings.int8:
            # Ranges of a network that learns fast are soon stale; in the second half they stand.
            steps = self.plan.steps
            follow_for(network, observe=max(2, steps // 2), delay=max(1, steps // 20))
        self._listen(folder)

    def _listen(self, folder: Path | None) -> None:
        """Ask the teachers what they can say before the first step."""
        guides, train = self.guides, self.data.train
        if guides is None or self.distiller is None:
            return
        if self._keeps_answers:
            file = None if folder is None or not self.world.leads else folder / SOFT_LABELS
            self._soft, computed = guides.soft_labels(file)
            if computed:
                # Each image once, however many ranks the counter multiplies by.
                ranks = len(self.world.shards) / self.world.size
                count = len(train.labels) / self.settings.batch_size
                self.costs.count_passed(guides.macs * count * ranks)
        self.distiller.prepare(guides.passes)

    @property
    def student(self) -> nn.Module:
        """The plain network that is trained."""
        network = self.network
        if not isinstance(network, SoloNetwork):
            raise TypeError(type(network).__name__)
        return network.student

    def best_network(self) -> nn.Module:
        """A copy as it is handed over: averaged where weights are, in eval mode, on the CPU.

        Of a network that is trained for int8 the float one, which an export rounds.
        """
        plain = self._trained()
        return (plain_network(plain) if self.asked.int8 else plain).cpu().eval()

    def accuracy(self, part: str) -> float:
        """Share of a part's images that the network names rightly, or agreement with targets.

        Of a network that is trained for int8 with its weights and inputs rounded.
        """
        return accuracy(self._trained().eval(), part_batches(self.data, part, device=self.device))

    def _trained(self) -> nn.Module:
        """A copy of the network as it is trained."""
        with self.evaluated():
            copied = self.network.extract(self.arch)
        if self.average is not None:
            # Running statistics are the last weights', not the average's.
            images = batches(
                self.data.train, BATCH, limit=self.settings.calibration, seed=0, device=self.device
            )
            calibrate(copied, [normalise(x, self.data.mean, self.data.std) for x, _ in images])
        return copied

    # ------------------------------------------------------------------ the loss

    def _objective(self, view: View) -> Outcome:
        settings = self.asked
        tapped = self._tapped
        if tapped is None:
            logits = view.forward(view.images)
            seen = only_logits(logits)
        else:
            with tapped.recording(), self._around(tapped):
                logits = view.forward(view.images)
            seen = tapped.read()
        weight = 1.0 if self.distiller is None else self.distiller.labels
        weight = weight if settings.labels is None else settings.labels
        loss = logits.new_zeros((), dtype=torch.float32)
        if weight:
            loss = loss + weight * label_loss(logits, view.labels, view.smoothing)
        if self.distiller is not None:
            pair = Pair(
                seen,
                self._taught(view),
                view.labels,
                view.indices,
                self.next_step / self.plan.steps,
            )
            loss = loss + self.distiller(pair)
        return Outcome(loss, logits)

    def _around(self, tapped: TappedStudent) -> AbstractContextManager[None]:
        return nullcontext() if self.distiller is None else self.distiller.around(tapped.network)

    def _taught(self, view: View) -> Taps:
        if self._soft is not None:
            return only_logits(self._soft[view.indices])
        guides = self.guides
        if guides is None:
            raise InvalidInputError("no teacher was given")
        self.costs.count_passed(guides.macs)
        if self._tapped is None:
            with self.autocast():
                return only_logits(guides.logits(view.images, view.labels))
        with self.autocast():
            return guides.taps(view.images, view.labels)

    # ------------------------------------------------------------------ making it

    @property
    def _keeps_answers(self) -> bool:
        """Whether a teacher's answer to an image is the same in every epoch."""
        reads = self.distiller is not None and self._tapped is None
        return reads and augment_for(self.data, self.settings.augment) == Augment()

    def _make_distiller(
        self, network: nn.Module, data: LabelledImages, settings: DistilSettings
    ) -> bool:
        """Make the distiller; whether the teachers' answers can be kept."""
        guides = self.guides
        if guides is None:
            raise InvalidInputError("no teacher was given")
        images, labels = next(batches(data.train, min(_LOOK, len(data.train.labels))))
        images, labels = images.to(guides.device), labels.to(guides.device)
        inputs = normalise(images, data.mean, data.std)
        network.to(guides.device).eval()
        reads = guides.reads = reads_of(settings.distiller)
        tapped = TappedStudent(network, inputs, reads)
        with torch.no_grad(), tapped.recording():
            network(inputs)
        sides = Sides(
            Shapes.of(tapped.read()),
            Shapes.of(guides.taps(images, labels)),
            len(data.train.labels),
            settings.train.seed,
        )
        self.distiller = create_distiller(settings.distiller, sides, **settings.options)
        if not self.distiller.logits_only:
            if len(guides.teachers) > 1:
                raise InvalidInputError(
                    f"distiller {settings.distiller!r} compares maps and takes one teacher, not"
                    f" {len(guides.teachers)}; take a distiller of logits, such as soft or kd"
                )
            if settings.train.compile:
                raise InvalidInputError(
                    f"distiller {settings.distiller!r} reads maps, which a compiled network does"
                    " not give out; leave --compile out"
                )
            self._tapped = tapped
        plain = augment_for(data, settings.train.augment) == Augment()
        return self.distiller.logits_only and plain

    def _admit_student(self, network: nn.Module, data: LabelledImages) -> None:
        images, _ = next(batches(data.train, min(_LOOK, len(data.train.labels))))
        with torch.no_grad():
            classes = network.eval()(normalise(images, data.mean, data.std)).shape[1]
        if classes != data.num_classes:
            targets = has_targets(data.train.labels)
            has, want = ("outputs", " target values") if targets else ("classes", "")
            raise InvalidInputError(
                f"the student has {classes} {has}, data {data.name!r} has"
                f" {data.num_classes}{want}; search with these data"
            )
