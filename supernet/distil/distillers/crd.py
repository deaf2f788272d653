"""Contrastive representation distillation: one image's pair against other images'."""

from __future__ import annotations

import hashlib
import math
import struct

import torch
from torch import Tensor
from torch.nn import functional

from ....searchspace.errors import InvalidInputError
from ..checks import positive, share, whole
from ..distiller import Distiller, Pair, Sides, register_distiller
from ..layers import generator_of, linear

__all__ = ["CRD"]

#: Keeps a probability of 0 from being divided by.
TINY = 1e-7


@register_distiller("crd")
class CRD(Distiller):
    """CRD: tell an image's own teacher features from other images' (Tian et al., ICLR 2020, §3.2).

    Features that the classifier is given are mapped, linearly, to unit vectors. By
    noise-contrastive estimation with h = exp(⟨u, v⟩/τ)/Z the loss of an image
    is −log h/(h + N/M) − Σ over N others of log (N/M)/(h + N/M), M the images of the training
    part: the student's against a memory of the teacher's, plus the reverse. Z is M times the
    mean of exp(⟨u, v⟩/τ) over the first batch. A memory entry moves by ``momentum`` when its
    image is seen.

    Two things differ from the authors' program. The N others are drawn for the batch, without
    repetition, instead of image by image: the same expectation for a matrix product of B × N in
    place of B · N gathered rows. And they are any other images, as for unlabelled data, where
    the program for CIFAR leaves those of the same class out. They come from a generator of the
    seed, the images and the progress, so a run that was stopped goes on with the same ones.

    Args:
        sides: shapes.
        weight: of the loss.
        temperature: τ.
        negatives: N; one less than the images where there are fewer.
        momentum: share of a memory entry that stays.
        dimensions: of the unit vectors.
    """

    zero_at_teacher = False
    memory: Tensor
    normaliser: Tensor

    def __init__(
        self,
        sides: Sides,
        *,
        weight: float = 0.8,
        temperature: float = 0.07,
        negatives: int = 16384,
        momentum: float = 0.5,
        dimensions: int = 128,
    ) -> None:
        super().__init__()
        self.weight = positive("weight", weight)
        self.temperature = positive("temperature", temperature)
        self.negatives = whole("negatives", negatives)
        self.momentum = share("momentum", momentum)
        self.seed, self.images = sides.seed, sides.images
        if self.images < 2:
            raise InvalidInputError(
                f"crd contrasts images with others; the training part has {self.images}, need 2"
            )
        generator = generator_of(sides.seed)
        self.embed_student = linear(
            sides.student.pooled, whole("dimensions", dimensions), generator
        )
        self.embed_teacher = linear(sides.teacher.pooled, dimensions, generator)
        drawn = torch.rand(2, self.images, dimensions, generator=generator)
        self.register_buffer("memory", (2.0 * drawn - 1.0) * math.sqrt(3.0 / dimensions))
        self.register_buffer("normaliser", torch.zeros(2))

    def forward(self, pair: Pair) -> Tensor:
        """The loss of a batch; in training mode the memory moves."""
        features = (
            self.embed_student(pair.student.pooled),
            self.embed_teacher(pair.teacher.pooled.detach()),
        )
        units = [functional.normalize(x, dim=1) for x in features]
        others = self._draw(pair)
        # An image is no negative of its own; where all are taken each is there once.
        own = others.unsqueeze(0) == pair.indices.unsqueeze(1)
        losses = [self._contrast(side, units[side], pair.indices, others, own) for side in (0, 1)]
        if self.training:
            self._remember(units, pair.indices)
        return self.weight * (losses[0] + losses[1])

    def _draw(self, pair: Pair) -> Tensor:
        """Images of the negatives, int64 ``[N]`` or one more."""
        device = pair.indices.device
        if self.negatives >= self.images - 1:
            return torch.arange(self.images, device=device)
        digest = hashlib.sha256(struct.pack("<qd", self.seed, pair.progress))
        digest.update(pair.indices.cpu().numpy().tobytes())
        generator = generator_of(int.from_bytes(digest.digest()[:7], "little"))
        return torch.randperm(self.images, generator=generator)[: self.negatives].to(device)

    def _contrast(
        self, side: int, units: Tensor, indices: Tensor, others: Tensor, own: Tensor
    ) -> Tensor:
        """Loss of one side's unit vectors ``[B, D]`` against the other side's memory."""
        memory = self.memory[1 - side]
        positive = ((units * memory[indices]).sum(dim=1) / self.temperature).exp()
        negative = (units @ memory[others].T / self.temperature).exp().masked_fill(own, 0.0)
        counts = (~own).sum(dim=1)
        z = self._normalise(side, positive, negative, counts)
        # The noise's density 1/M, times the number of negatives.
        noise = counts.to(units.dtype) / self.images
        attracted = (positive / z / (positive / z + noise + TINY)).log()
        noise = noise.unsqueeze(1)
        repelled = (noise / (negative / z + noise + TINY)).log().masked_fill(own, 0.0)
        return -(attracted + repelled.sum(dim=1)).mean()

    @torch.no_grad()
    def _normalise(self, side: int, positive: Tensor, negative: Tensor, counts: Tensor) -> Tensor:
        """Z, set by the first batch."""
        mean = (positive.sum() + negative.sum()) / (len(positive) + counts.sum())
        kept = self.normaliser[side]
        z = torch.where(kept > 0, kept, mean * self.images)
        if self.training:
            self.normaliser[side] = z
        return z

    @torch.no_grad()
    def _remember(self, units: list[Tensor], indices: Tensor) -> None:
        for memory, now in zip(self.memory, units, strict=True):
            moved = self.momentum * memory[indices] + (1.0 - self.momentum) * now
            memory[indices] = functional.normalize(moved, dim=1)
