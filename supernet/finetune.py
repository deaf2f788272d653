"""Training one extracted network on, as any network is trained.

DεpS and once-for-all hand subnets over as they are (Cai et al., ICLR 2020, §3.3: they need no more
training); a few epochs of their own still help where the supernet was trained for a short time.
Validation decides which of the two is kept.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..searchspace.errors import InvalidInputError
from ..searchspace.files import write_atomic
from .augment import augment_for
from .evaluate import accuracy, part_batches
from .loader import LabelledImages, Loader, normalise
from .task import label_loss
from .trainer import DivergedError

__all__ = ["FinetuneSettings", "Finetuned", "finetune"]

_FORMAT = "scholarch-finetune"


@dataclass(frozen=True)
class FinetuneSettings:
    """How a network is trained on.

    Attributes:
        epochs: passes over the training part; 0: it is left as it is.
        batch_size: images a step.
        lr: peak of a cosine to 0; a tenth of the supernet's.
        momentum: Nesterov's.
        weight_decay: of weights of more than one dimension.
        smoothing: of labels.
        augment: policy, see :func:`~scholarch.supernet.augment.augment_for`.
        seed: of batches and augmentation.

    Raises:
        InvalidInputError: if a number is out of its range.
    """

    epochs: int = 10
    batch_size: int = 64
    lr: float = 0.008
    momentum: float = 0.9
    weight_decay: float = 3e-5
    smoothing: float = 0.1
    augment: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.epochs, bool) or not isinstance(self.epochs, int) or self.epochs < 0:
            raise InvalidInputError(
                f"finetune epochs = {self.epochs!r}; need a whole number of at least 0"
            )
        if not (math.isfinite(self.lr) and self.lr > 0.0):
            raise InvalidInputError(f"finetune lr = {self.lr:g}; need a number above 0")


@dataclass(frozen=True, eq=False)
class Finetuned:
    """A network before and after.

    Attributes:
        network: the better of the two on the validation part, in eval mode; of equals that
            before.
        before: accuracy on the validation part, in [0, 1].
        after: likewise; NaN of no epochs.
    """

    network: nn.Module
    before: float
    after: float

    @property
    def kept(self) -> str:
        """``"before"`` or ``"after"``: which of them ``network`` is."""
        return "after" if self.after > self.before else "before"


def finetune(
    network: nn.Module,
    data: LabelledImages,
    settings: FinetuneSettings,
    *,
    checkpoint: Path | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Finetuned:
    """Train a plain network on the training part, and keep what validation prefers.

    Args:
        network: extracted, calibrated; changed in place where the later one is better.
        data: images with a validation part; the test part is not read.
        settings: how.
        checkpoint: file that is written after every epoch and gone on from; equal settings
            end with equal bits, killed or not.
        device: where.
        progress: called after every step with steps done and in all.

    Raises:
        DivergedError: if the loss is no number.
        InvalidInputError: if the checkpoint is of another run, or a part is missing.
        StoreError: if the disk is full.
    """
    place = torch.device(device)
    network = network.to(place)
    val = part_batches(data, "val", device=place)
    before = accuracy(network.eval(), val)
    if not settings.epochs:
        return Finetuned(network.cpu(), before, math.nan)
    original = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    loader = Loader(
        data.train,
        batch_size=min(settings.batch_size, len(data.train.labels)),
        seed=settings.seed,
        augment=augment_for(data, settings.augment),
        device=place,
    )
    run = _Run(network, data, settings, loader)
    run.restore(checkpoint)
    while run.step < run.steps:
        run.advance()
        if checkpoint is not None and run.step % loader.steps_per_epoch() == 0:
            run.save(checkpoint)
        if progress is not None:
            progress(run.step, run.steps)
    after = accuracy(network.eval(), val)
    if not after > before:
        network.load_state_dict(original)
    return Finetuned(network.cpu().eval(), before, after)


class _Run:
    """The state of a fine-tuning run, between two steps."""

    def __init__(
        self, network: nn.Module, data: LabelledImages, settings: FinetuneSettings, loader: Loader
    ) -> None:
        self._network, self._data, self._settings, self._loader = network, data, settings, loader
        self.steps = settings.epochs * loader.steps_per_epoch()
        self.step = 0
        self._parameters = dict(network.named_parameters())
        decayed = [p for p in self._parameters.values() if p.dim() > 1]
        rest = [p for p in self._parameters.values() if p.dim() <= 1]
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": rest},
        ]
        self._optimizer = torch.optim.SGD(
            groups,
            lr=settings.lr,
            momentum=settings.momentum,
            nesterov=settings.momentum > 0.0,
        )
        self._momentum = {name: torch.zeros_like(p) for name, p in self._parameters.items()}
        for name, parameter in self._parameters.items():
            parameter.requires_grad = True
            if settings.momentum:
                self._optimizer.state[parameter]["momentum_buffer"] = self._momentum[name]

    def advance(self) -> None:
        """One step."""
        images, labels = self._loader.batch(self.step)
        self._network.train()
        logits = self._network(normalise(images, self._data.mean, self._data.std))
        loss = label_loss(logits, labels, self._settings.smoothing)
        if not np.isfinite(value := float(loss.detach())):
            raise DivergedError(
                f"the loss is {value} at step {self.step} of {self.steps} of fine-tuning; take"
                f" fewer epochs, 0 for none, or a smaller lr than {self._settings.lr:g}"
            )
        for group in self._optimizer.param_groups:
            done = self.step / self.steps
            group["lr"] = 0.5 * self._settings.lr * (1.0 + math.cos(math.pi * done))
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        self.step += 1

    def save(self, path: Path) -> None:
        """Write what a resume needs."""
        from safetensors.torch import save

        tensors: dict[str, Tensor] = {f"net.{n}": t for n, t in self._network.state_dict().items()}
        tensors |= {f"momentum.{name}": t for name, t in self._momentum.items()}
        meta = {"format": _FORMAT, "step": str(self.step), "settings": self._said()}
        plain = {name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()}
        write_atomic(path, save(plain, metadata=meta))

    def restore(self, path: Path | None) -> None:
        """Go on from a checkpoint, if there is one."""
        from safetensors import SafetensorError, safe_open

        if path is None or not path.exists():
            return
        try:
            with safe_open(path, framework="pt") as file:
                meta = file.metadata() or {}
                if (meta["format"], meta["settings"]) != (_FORMAT, self._said()):
                    raise InvalidInputError(
                        f"{path} is of another fine-tuning; delete it to start again"
                    )
                network = {n: file.get_tensor(f"net.{n}") for n in self._network.state_dict()}
                momentum = {name: file.get_tensor(f"momentum.{name}") for name in self._momentum}
            self._network.load_state_dict(network)
            for name, tensor in momentum.items():
                self._momentum[name].copy_(tensor)
            self.step = int(meta["step"])
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
            if isinstance(error, InvalidInputError):
                raise
            raise InvalidInputError(
                f"{path} is damaged ({error}); delete it to start the fine-tuning again"
            ) from error

    def _said(self) -> str:
        return json.dumps(asdict(self._settings), sort_keys=True)
