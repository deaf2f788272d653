"""The teachers of a distillation run: what they say of a step's images."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ...proxies.batch import Batch
from ...proxies.taps import Taps
from ...proxies.teacher import Teacher
from ...searchspace.errors import InvalidInputError
from ...searchspace.files import write_atomic
from ..loader import LabelledImages, batches, part_fingerprint
from ..targets import answers, combined
from ..task import check_teacher, has_targets
from .tapped import float_taps

__all__ = ["SOFT_LABELS", "Guides"]

SOFT_LABELS = "soft-labels.safetensors"
"""The teachers' answers to the training part, where it is not augmented."""

_FORMAT = "scholarch-soft-labels"
_BATCH = 200


class Guides:
    """One teacher, or several whose probabilities are averaged (MEAL: Shen et al., AAAI 2019).

    Args:
        teachers: trained, with a classifier for the data's classes.
        data: images; the test part is not touched.
        device: where.
        logits: whether a teacher has to have them, of the data's classes.

    Raises:
        InvalidInputError: if there is none, or one has other classes, or does not take such
            images.
    """

    def __init__(
        self,
        teachers: Sequence[Teacher],
        data: LabelledImages,
        device: torch.device,
        *,
        logits: bool = True,
    ) -> None:
        if not teachers:
            raise InvalidInputError("no teacher was given; give at least one")
        self.teachers, self.data, self.device = tuple(teachers), data, device
        self._targets = has_targets(data.train.labels)
        #: What taps hold of a Transformer's layers, see ``Distiller.reads``.
        self.reads: frozenset[str] = frozenset()
        for teacher in teachers:
            if logits or teacher.num_classes is not None:
                check_teacher(
                    teacher.name,
                    teacher.num_classes,
                    data.name,
                    data.num_classes,
                    targets=self._targets,
                )
            teacher.module.to(device)

    @property
    def macs(self) -> float:
        """Multiply-accumulates of an image of the data; what cannot be counted counts 0.

        A teacher's are of the images on which its taps were found; of others in proportion to
        their pixels.
        """
        total = 0.0
        for teacher in self.teachers:
            _, height, width = teacher.input_shape
            side = teacher.resize or self.data.resolution
            pixels = side**2 if self.data.modality == "image" else side
            total += (teacher.macs or 0) * pixels / (height * width)
        return total

    def taps(self, images: Tensor, labels: Tensor) -> Taps:
        """What the first teacher measures of images in [0, 1], ``[B, C, H, W]``; float32."""
        return float_taps(self.teachers[0].observe(self._batch(images, labels), self.reads))

    def logits(self, images: Tensor, labels: Tensor) -> Tensor:
        """Answers to images in [0, 1], ``[B, K]``.

        Of several teachers the logarithm of their mean probabilities; where labels are targets
        the mean of their directions.
        """
        batch = self._batch(images, labels)
        if self._targets:
            several = [answers(teacher, batch) for teacher in self.teachers]
            if several[0].shape[1] != self.data.num_classes:
                raise InvalidInputError(
                    f"teacher {self.teachers[0].name!r} answers in {several[0].shape[1]} numbers,"
                    f" the targets of data {self.data.name!r} have {self.data.num_classes}; give"
                    " the teacher that they are from"
                )
            return several[0] if len(several) == 1 else combined(several)
        found = []
        with torch.no_grad():
            for teacher in self.teachers:
                if not teacher.trained:
                    found.append(self._observed(teacher, batch))
                else:
                    found.append(teacher.module(teacher.prepare(batch)).float())
        if len(found) == 1:
            return found[0]
        stacked = torch.stack([logits.log_softmax(dim=1) for logits in found])
        return stacked.logsumexp(dim=0) - math.log(len(found))

    @staticmethod
    def _observed(teacher: Teacher, batch: Batch) -> Tensor:
        logits = teacher.observe(batch).logits
        if logits is None:
            raise InvalidInputError(f"teacher {teacher.name!r} has no classifier")
        return logits.float()

    def _batch(self, images: Tensor, labels: Tensor) -> Batch:
        data = self.data
        return Batch(
            images, labels, data.num_classes, data.mean, data.std, data.name, data.modality
        )

    def passes(self) -> Iterator[tuple[Taps, Tensor, Tensor]]:
        """The first teacher's taps of the training part, with labels and indices."""
        at = 0
        for images, labels in batches(self.data.train, _BATCH, device=self.device):
            indices = torch.arange(at, at + len(labels), device=self.device)
            at += len(labels)
            yield self.taps(images, labels), labels, indices

    def soft_labels(self, file: Path | None = None) -> tuple[Tensor, bool]:
        """Answers to the whole training part as it is, ``[N, K]``.

        Args:
            file: kept there, and read back where teachers and images are the same.

        Returns:
            The answers, and whether they had to be computed.

        Raises:
            StoreError: if the disk is full.
        """
        about = json.dumps({"format": _FORMAT, "of": self._fingerprint()})
        if file is not None and (kept := _read(file, about)) is not None:
            return kept.to(self.device), False
        found = [
            self.logits(images, labels)
            for images, labels in batches(self.data.train, _BATCH, device=self.device)
        ]
        logits = torch.cat(found)
        if not bool(logits.isfinite().all()):
            names = ", ".join(teacher.name for teacher in self.teachers)
            raise InvalidInputError(
                f"teacher {names} gives answers that are not finite on {self.data.name!r}; check"
                " its weights and its mean and std"
            )
        if file is not None:
            from safetensors.torch import save

            content = save({"logits": logits.cpu().contiguous()}, metadata={"about": about})
            write_atomic(file, content)
        return logits, True

    def _fingerprint(self) -> str:
        told = [teacher.fingerprint for teacher in self.teachers]
        told += [part_fingerprint(self.data.train), str(self.data.mean), str(self.data.std)]
        return hashlib.sha256("|".join(told).encode()).hexdigest()[:16]


def _read(file: Path, about: str) -> Tensor | None:
    """Answers kept before; ``None`` where they are others', damaged or not there."""
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="pt") as opened:
            if (opened.metadata() or {}).get("about") != about:
                return None
            logits: Tensor = opened.get_tensor("logits")
            return logits
    except (OSError, SafetensorError):
        return None
