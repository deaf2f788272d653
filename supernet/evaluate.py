"""Accuracy of architectures by inherited weights: extract, calibrate, count.

Where labels are a teacher's answers, accuracy is the agreement with them, see
:class:`~scholarch.supernet.task.Targets`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..searchspace.architecture import Architecture
from ..searchspace.elastic import ElasticNetwork
from ..searchspace.errors import InvalidInputError
from .calibrate import calibrate
from .loader import LabelledImages, LabelledPart, batches, normalise
from .task import meter_of

__all__ = ["BATCH", "PARTS", "Evaluator", "accuracy", "part_batches", "part_of"]

PARTS = ("val", "test", "train")

#: Images of a calibrating and of an evaluating pass; once-for-all's batch (Cai et al., code).
BATCH = 200


class Evaluator:
    """Extracts architectures from a trained elastic network and measures them.

    Running statistics of a shared batch norm are nobody's; each architecture's are computed
    again from the same training images, pooled over batches, before it is measured. What is
    measured is the extracted network, so that whoever is handed it finds the same accuracy.

    Args:
        network: elastic, trained; its weights are read when an architecture is asked for.
        data: images.
        calibration: training images for batch norm.
        limit: images of a part on which accuracy is measured; ``None``: all.
        device: where it is done.

    Raises:
        InvalidInputError: if a number is below 2.
    """

    def __init__(
        self,
        network: ElasticNetwork,
        data: LabelledImages,
        *,
        calibration: int = 2000,
        limit: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if calibration < 2 or (limit is not None and limit < 2):
            raise InvalidInputError(
                f"calibration = {calibration}, limit = {limit}; need at least 2 images"
            )
        self.network, self.data, self.device = network, data, torch.device(device)
        self._limit, self._count = limit, calibration
        self._parts: dict[str, list[tuple[Tensor, Tensor]]] = {}

    @cached_property
    def _calibration(self) -> list[Tensor]:
        """Normalised training images."""
        drawn = batches(self.data.train, BATCH, limit=self._count, seed=0, device=self.device)
        return [self._normalised(images) for images, _ in drawn]

    def _normalised(self, images: Tensor) -> Tensor:
        return normalise(images, self.data.mean, self.data.std)

    def extract(self, arch: Architecture) -> nn.Module:
        """A standalone network with calibrated batch norm, in eval mode."""
        plain = self.network.extract(arch).to(self.device)
        if any(isinstance(module, _BatchNorm) for module in plain.modules()):
            calibrate(plain, self._calibration)
        return plain.eval()

    def accuracy(self, arch: Architecture, part: str = "val") -> float:
        """Share of a part's images that the extracted network names rightly, or its agreement.

        Raises:
            InvalidInputError: if there is no such part or it is empty.
        """
        return accuracy(self.extract(arch), self.batches(part))

    def accuracies(
        self,
        archs: Sequence[Architecture],
        part: str = "val",
        *,
        progress: Callable[[int], None] | None = None,
    ) -> list[float]:
        """:meth:`accuracy` of several, one by one."""
        found = []
        for arch in archs:
            found.append(self.accuracy(arch, part))
            if progress is not None:
                progress(len(found))
        return found

    def batches(self, part: str) -> list[tuple[Tensor, Tensor]]:
        """Normalised images and labels of a part; the same for every architecture."""
        if part not in self._parts:
            self._parts[part] = part_batches(self.data, part, limit=self._limit, device=self.device)
        return self._parts[part]


def part_of(data: LabelledImages, part: str) -> LabelledPart:
    """A part of a data set by its name.

    Raises:
        InvalidInputError: if there is no such part or it is empty.
    """
    if part not in PARTS:
        raise InvalidInputError(f"part {part!r}; one of {', '.join(PARTS)}")
    chosen: LabelledPart = getattr(data, part)
    if not len(chosen.labels):
        raise InvalidInputError(f"data {data.name!r} has no {part} images")
    return chosen


def part_batches(
    data: LabelledImages,
    part: str,
    *,
    limit: int | None = None,
    device: torch.device | str = "cpu",
) -> list[tuple[Tensor, Tensor]]:
    """Normalised images and labels of a part, batch by batch.

    Args:
        data: images.
        part: one of :data:`PARTS`.
        limit: use at most so many images; ``None``: all.
        device: where they come to lie.

    Raises:
        InvalidInputError: if there is no such part or it is empty.
    """
    return [
        (normalise(images, data.mean, data.std), labels)
        for images, labels in batches(part_of(data, part), BATCH, limit=limit, device=device)
    ]


def accuracy(network: nn.Module, parts: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Share of images that a network in eval mode names rightly, or agreement with targets.

    Args:
        network: ``[B, C, H, W]`` → ``[B, K]``.
        parts: normalised images and labels, batch by batch.

    Raises:
        InvalidInputError: if there are no labels.
    """
    meter = meter_of(parts[0][1])
    with torch.no_grad():
        for images, labels in parts:
            meter.add(network(images), labels)
    return meter.value()
