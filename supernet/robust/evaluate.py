"""Natural and robust accuracy of architectures by inherited weights.

An architecture is cut out and its batch norm calibrated on images that nobody attacked; then
that very network, in eval mode, is attacked and measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...searchspace.architecture import Architecture
from ...searchspace.elastic import ElasticNetwork
from ...searchspace.errors import InvalidInputError
from ..evaluate import BATCH, Evaluator, part_of
from ..loader import LabelledImages, batches
from ..task import has_targets
from .attack import Forward, pgd
from .strength import Attack

__all__ = ["RobustEvaluator", "Robustness", "robustness"]


@dataclass(frozen=True, slots=True)
class Robustness:
    """How a network does with and without an attack.

    Attributes:
        natural: share of the images that it names rightly, 0 to 1.
        robust: share that it names rightly as they are and after every run of the attack; an
            upper bound, since a stronger attack may find more.
        images: on how many it was measured.
        attack: what was withstood.
    """

    natural: float
    robust: float
    images: int
    attack: Attack

    def __str__(self) -> str:
        return (
            f"{self.natural:.1%} natural, {self.robust:.1%} robust ({self.attack};"
            f" {self.images:,} images)"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data, the attack's strength included."""
        return {
            "natural": self.natural,
            "robust": self.robust,
            "images": self.images,
            "attack": self.attack.to_json(),
        }


class RobustEvaluator(Evaluator):
    """Extracts architectures from a trained elastic network, attacks and measures them.

    Random starts depend on the seed alone, so every architecture meets the same ones as long
    as the same images are left to attack.

    Args:
        network: elastic, trained; its weights are read when an architecture is asked for.
        data: images.
        attack: what is to be withstood; default PGD-20 of margin and cross-entropy.
        seed: of the random starts.
        calibration: training images for batch norm.
        limit: images of a part that are measured; ``None``: all.
        device: where it is done.

    Raises:
        InvalidInputError: if a number is out of range.
    """

    def __init__(
        self,
        network: ElasticNetwork,
        data: LabelledImages,
        *,
        attack: Attack | None = None,
        seed: int = 0,
        calibration: int = 2000,
        limit: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if data.modality != "image" or has_targets(data.train.labels):
            raise InvalidInputError(
                f"robustness is that of classes of images against moved pixels; data"
                f" {data.name!r} has no such"
            )
        super().__init__(network, data, calibration=calibration, limit=limit, device=device)
        self.attack = attack or Attack()
        self.seed = seed
        self._raw: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def robustness(self, arch: Architecture, part: str = "val") -> Robustness:
        """Natural and robust accuracy of the extracted network on a part's images.

        Raises:
            InvalidInputError: if there is no such part or it is empty.
        """
        return robustness(self.forward(arch), self.images(part), self.attack, seed=self.seed)

    def robustnesses(
        self,
        archs: Sequence[Architecture],
        part: str = "val",
        *,
        progress: Callable[[int], None] | None = None,
    ) -> list[Robustness]:
        """:meth:`robustness` of several, one by one."""
        found = []
        for arch in archs:
            found.append(self.robustness(arch, part))
            if progress is not None:
                progress(len(found))
        return found

    def forward(self, arch: Architecture) -> Forward:
        """The extracted, calibrated network in eval mode, on images in [0, 1]."""
        plain = self.extract(arch).requires_grad_(requires_grad=False)
        return lambda images: plain(self._normalised(images))

    def images(self, part: str) -> list[tuple[Tensor, Tensor]]:
        """Images of a part in [0, 1] and labels, batch by batch; the same for every architecture.

        Raises:
            InvalidInputError: if there is no such part or it is empty.
        """
        if part not in self._raw:
            chosen = part_of(self.data, part)
            self._raw[part] = list(batches(chosen, BATCH, limit=self._limit, device=self.device))
        return self._raw[part]


def robustness(
    forward: Forward,
    images: Sequence[tuple[Tensor, Tensor]],
    attack: Attack | None = None,
    *,
    seed: int = 0,
) -> Robustness:
    """Natural and robust accuracy of any network.

    What a run of the attack has not turned is attacked by the next one, so an image counts as
    robust only if none of them turns it.

    Args:
        forward: images in [0, 1] to logits ``[B, K]``, of a network in eval mode.
        images: float ``[B, C, H, W]`` in [0, 1] and int64 labels ``[B]``, batch by batch.
        attack: default PGD-20 of margin and cross-entropy.
        seed: of the random starts.

    Raises:
        InvalidInputError: if there is no image.
    """
    attack = attack or Attack()
    natural = robust = total = 0
    for batch, (x, labels) in enumerate(images):
        with torch.no_grad():
            left = torch.nonzero(forward(x).argmax(1) == labels)[:, 0]
        total, natural = total + len(labels), natural + len(left)
        for run, loss in enumerate(attack.losses):
            if not len(left):
                break
            start = int(np.random.default_rng((seed, batch, run)).integers(2**62))
            adversarial = pgd(
                forward,
                x[left],
                labels[left],
                epsilon=attack.epsilon,
                step=attack.step,
                steps=attack.steps,
                restarts=attack.restarts,
                loss=loss,
                generator=torch.Generator().manual_seed(start),
            )
            with torch.no_grad():
                left = left[forward(adversarial).argmax(1) == labels[left]]
        robust += len(left)
    if not total:
        raise InvalidInputError("no image to measure on; give at least one batch")
    return Robustness(natural / total, robust / total, total, attack)
