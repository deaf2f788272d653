"""The teacher: a frozen network, how its inputs are prepared, and where it is measured."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from ..searchspace.errors import InvalidInputError
from ..searchspace.inputs import PADDING, token_ids, waveform
from ..searchspace.modality import PLURALS
from .batch import Batch
from .layouts import input_size
from .recorder import watch
from .tap_finder import TapPlan
from .tap_reader import calls_of, read_taps
from .taps import Taps
from .token_reader import TokenReader
from .vocabulary import check_ids, vocabulary_of

__all__ = ["FORWARD_ERRORS", "Teacher", "batch_statistics", "blank", "first_line"]

#: What a network's forward raises on inputs it was not made for.
FORWARD_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, AssertionError)


@contextmanager
def batch_statistics(network: nn.Module, enabled: bool = True) -> Iterator[None]:
    """Let batch norm normalise by the batch for a while, moving no running statistic.

    The running statistics of a network that was never trained are 0 and 1; with them
    activations grow from layer to layer until they overflow.
    """
    kinds = nn.modules.batchnorm._BatchNorm
    norms = [m for m in network.modules() if isinstance(m, kinds)] if enabled else []
    before = [(norm.training, norm.track_running_stats) for norm in norms]
    try:
        for norm in norms:
            norm.training, norm.track_running_stats = True, False
        yield
    finally:
        for norm, (training, track) in zip(norms, before, strict=True):
            norm.training, norm.track_running_stats = training, track


@dataclass(frozen=True, eq=False)
class Teacher:
    """A network that students are compared with; made by ``load_teacher``.

    Attributes:
        name: as it was asked for.
        module: in eval mode, on the CPU, no parameter requires a gradient.
        mean: of its inputs' channels, for inputs in [0, 1]; ``None`` takes the batch's.
        std: likewise.
        resize: the side, in pixels, to which inputs are bilinearly resized; ``None`` leaves
            them as they come.
        num_classes: outputs of the classifier; ``None`` where there is none.
        trained: whether the weights are; if not, batch norm uses the batch's statistics.
        plan: where it is measured.
        input_shape: channels, height, width of the images on which the plan was found.
        accuracy: on its test part, in [0, 1], where known.
        about: one line for reports.
        modality: what it takes, ``"image"``, ``"text"`` or ``"sound"``; text as token ids, sound
            as a waveform, neither normalised nor resized.
    """

    name: str
    module: nn.Module
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    resize: int | None
    num_classes: int | None
    trained: bool
    plan: TapPlan
    input_shape: tuple[int, int, int]
    accuracy: float | None = None
    about: str = ""
    modality: str = "image"

    def observe(self, batch: Batch, reads: Collection[str] = frozenset()) -> Taps:
        """Measure the teacher on a batch, by one forward pass without gradients.

        Args:
            batch: B images in [0, 1], of any size the network takes.
            reads: what is read of a Transformer's layers besides, of
                :data:`~scholarch.proxies.token_reader.READS`.

        Returns:
            Detached tensors. ``logits`` are the classifier's outputs and ``pooled`` its
            inputs; without a classifier ``pooled`` is the mean of the final map. Where the
            images are so small that the final map has 1×1 pixels, the deepest stage of more
            stands in for it.

        Raises:
            InvalidInputError: if the network does not run on such images, or gives values
                that are not finite.
        """
        images = self.prepare(batch)
        plan = self.plan
        reader = TokenReader(self.module, reads, f"teacher {self.name!r}")
        try:
            with batch_statistics(self.module, not self.trained), reader.recording():
                outputs, inputs = watch(
                    self.module, images, calls_of(plan), [plan.classifier or ""]
                )
        except FORWARD_ERRORS as error:
            can = "; its side in pixels can be given as resize" if self.modality == "image" else ""
            raise InvalidInputError(
                f"teacher {self.name!r} does not run on {PLURALS[self.modality]}"
                f" {list(images.shape[1:])}: {first_line(error)}{can}"
            ) from error
        size, mask = input_size(images), self.mask_of(images)
        taps = read_taps(self.module, plan, outputs, inputs, size, f"teacher {self.name!r}", mask)
        if not all(bool(t.isfinite().all()) for t in (*taps.stages, taps.final_map, taps.pooled)):
            raise InvalidInputError(
                f"teacher {self.name!r} gives values that are not finite on batch"
                f" {batch.name!r}; check its weights and its mean and std"
            )
        return replace(taps, tokens=reader.read())

    def prepare(self, batch: Batch) -> Tensor:
        """Inputs as the network sees them.

        Images are resized, then normalised, ``[B, C, H, W]``; text is token ids, int64
        ``[B, L]``, sound a waveform ``[B, T]`` in [-1, 1).

        Raises:
            InvalidInputError: if the batch is of another modality than the teacher, has other
                channels, or tokens that it does not know.
        """
        batch.check_modality(f"teacher {self.name!r}", self.modality)
        if self.modality == "sound":
            return waveform(batch.images)
        if self.modality == "text":
            ids = token_ids(batch.images)
            check_ids(ids, vocabulary_of(self.module), batch.name, f"teacher {self.name!r}")
            return ids
        mean, std = self.mean or batch.mean, self.std or batch.std
        images = batch.images
        if not images.shape[1] == len(mean) == self.input_shape[0]:
            raise InvalidInputError(
                f"teacher {self.name!r} takes images of {self.input_shape[0]} channels, batch"
                f" {batch.name!r} has {images.shape[1]}"
            )
        if self.resize is not None and tuple(images.shape[2:]) != (self.resize, self.resize):
            # Antialiased, as the resizing of images is when networks are trained.
            images = functional.interpolate(
                images, (self.resize, self.resize), mode="bilinear", antialias=True
            )
        shape = (1, -1, 1, 1)
        mu, sigma = (torch.tensor(t, device=images.device).view(shape) for t in (mean, std))
        return (images - mu) / sigma

    def mask_of(self, inputs: Tensor) -> Tensor | None:
        """Which tokens of prepared inputs are real, bool ``[B, N]``; ``None``: all are.

        As the network's stem says; of a text network that has none, all but id 0.
        """
        if self.modality == "image":
            return None
        known = getattr(getattr(self.module, "stem", None), "mask", None)
        if callable(known):
            found: Tensor | None = known(inputs)
            return found
        return inputs != PADDING if self.modality == "text" else None

    @property
    def params(self) -> int:
        """Number of trainable parameters, were they not frozen."""
        return sum(parameter.numel() for parameter in self.module.parameters())

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates for one input of ``input_shape``; ``None`` if not countable."""
        return self._macs

    def macs_at(self, resolution: int) -> int | None:
        """Of text and sound of so many tokens or samples; of images :attr:`macs`."""
        if self.modality == "image" or resolution == self.input_shape[-1]:
            return self._macs
        channels, height, _ = self.input_shape
        return replace(self, input_shape=(channels, height, resolution))._macs

    @cached_property
    def _macs(self) -> int | None:
        counter = FlopCounterMode(display=False)
        try:
            # Two images, because batch norm by the batch wants more than one value.
            with batch_statistics(self.module, not self.trained), torch.no_grad(), counter:
                self.module(blank(self.modality, self.input_shape))
        except FORWARD_ERRORS:
            return None
        return int(counter.get_total_flops()) // 4

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights, input preparation and taps, 16 hexadecimal digits."""
        digest = hashlib.sha256()
        settings = (self.mean, self.std, self.resize, self.trained, self.plan)
        digest.update(f"{type(self.module).__qualname__}{settings}".encode())
        for key, value in self.module.state_dict().items():
            if isinstance(value, Tensor):
                digest.update(f"{key}{value.dtype}{tuple(value.shape)}".encode())
                # As bytes, because numpy has no bfloat16.
                flat = value.detach().contiguous().reshape(-1)
                digest.update(flat.view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]


def blank(modality: str, shape: tuple[int, int, int]) -> Tensor:
    """Two empty inputs as a network takes them: black images, texts of one word, silence.

    Args:
        modality: ``"image"``, ``"text"`` or ``"sound"``.
        shape: of one as batches hold it.
    """
    if modality == "text":
        return torch.ones(2, shape[2], dtype=torch.int64)
    return torch.zeros(2, *shape) if modality == "image" else torch.zeros(2, shape[2])


def first_line(error: BaseException | None) -> str:
    """What an error of somebody else's code says, short enough to be quoted."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
