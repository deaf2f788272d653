"""Adversarial images by projected gradient ascent (PGD: Madry et al., ICLR 2018, §2.1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from ...searchspace.errors import InvalidInputError, UnknownNameError
from .strength import EPSILON, STEP

__all__ = ["EPSILON", "LOSSES", "STEP", "Forward", "accuracy", "fgsm", "pgd"]

#: Logits ``[B, K]`` of images ``[B, C, H, W]`` in [0, 1]: normalisation is the forward's.
Forward: TypeAlias = Callable[[Tensor], Tensor]


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(logits, labels, reduction="none")


def _kl(logits: Tensor, targets: Tensor) -> Tensor:
    log_targets = targets.float().log_softmax(1)
    return (log_targets.exp() * (log_targets - logits.log_softmax(1))).sum(1)


def _margin(logits: Tensor, labels: Tensor) -> Tensor:
    own = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], -math.inf)
    return others.amax(1) - own


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ce": _cross_entropy,
    "kl": _kl,
    "margin": _margin,
}
"""What the attack increases, ``[B]`` of logits ``[B, K]`` and labels or targets:

- ``"ce"``: cross-entropy with int64 labels ``[B]``;
- ``"kl"``: KL(softmax(targets) ‖ softmax(logits)) with logits ``[B, K]`` as targets, for
  TRADES and RSLAD;
- ``"margin"``: the best other logit minus the label's (Carlini & Wagner, S&P 2017, f_6),
  which does not fade where the softmax is saturated.
"""


def pgd(
    forward: Forward,
    images: Tensor,
    targets: Tensor,
    *,
    epsilon: float = EPSILON,
    step: float = STEP,
    steps: int = 10,
    restarts: int = 1,
    loss: str = "ce",
    generator: torch.Generator | None = None,
    random_start: bool = True,
) -> Tensor:
    """Images within ``epsilon`` of the given ones, in every pixel, that raise the loss.

    Only the gradient of the images is asked for, so no parameter's ``.grad`` is touched. The
    training mode is the caller's: switch the network to ``eval()``, or see to it that batch
    norm does not move its statistics (``net.track_statistics(False)``); the forward is called
    ``restarts * steps`` times, and once more a restart where there are several.

    Args:
        forward: images in [0, 1] to logits ``[B, K]``; an image's logits should not depend on
            the others, else the attack is of the batch.
        images: float ``[B, C, H, W]`` in [0, 1].
        targets: int64 labels ``[B]``, or logits ``[B, K]`` for ``loss="kl"``.
        epsilon: largest change of a pixel, in units of the [0, 1] range.
        step: of the ascent, along the gradient's sign.
        steps: at least 1.
        restarts: runs from different random starts, of which each image keeps the one with
            the largest loss.
        loss: a key of :data:`LOSSES`.
        generator: on the CPU, draws the starts, so that they are the same on every device.
        random_start: start anywhere in the ball; else at the images themselves.

    Returns:
        Like ``images``, without gradient, in [0, 1].

    Raises:
        InvalidInputError: if a number is out of range, random starts have no generator, or
            targets do not fit the loss.
    """
    _check(epsilon, step, steps, restarts, random_start, generator)
    if loss not in LOSSES:
        raise UnknownNameError("loss of an attack", loss, LOSSES)
    if (targets.is_floating_point(), targets.dim()) != ((True, 2) if loss == "kl" else (False, 1)):
        need = "logits [B, K]" if loss == "kl" else "int64 labels [B]"
        raise InvalidInputError(
            f"targets are {targets.dtype} of shape {list(targets.shape)}; loss {loss!r} needs"
            f" {need}"
        )
    if epsilon == 0.0:
        return images.detach().clone()
    # Whoever evaluates does so without gradients; an attack needs its own all the same.
    with torch.inference_mode(False), torch.enable_grad():
        images, targets = images.detach().clone(), targets.detach().clone()
        low, high = (images - epsilon).clamp(min=0.0), (images + epsilon).clamp(max=1.0)
        best, best_loss = images, None
        for _ in range(restarts):
            adversarial = images
            if random_start:
                start = torch.rand(images.shape, generator=generator).to(images)
                adversarial = _project(images + epsilon * (2.0 * start - 1.0), low, high)
            for _ in range(steps):
                adversarial = adversarial.detach().requires_grad_()
                raised = LOSSES[loss](forward(adversarial).float(), targets).sum()
                (gradient,) = torch.autograd.grad(raised, adversarial)
                adversarial = _project(adversarial.detach() + step * gradient.sign(), low, high)
            if restarts == 1:
                return adversarial
            with torch.no_grad():
                reached = LOSSES[loss](forward(adversarial).float(), targets)
            if best_loss is None:
                best, best_loss = adversarial, reached
                continue
            better = reached > best_loss
            best = torch.where(better[:, None, None, None], adversarial, best)
            best_loss = torch.where(better, reached, best_loss)
        return best


def fgsm(
    forward: Forward, images: Tensor, labels: Tensor, *, epsilon: float = EPSILON, loss: str = "ce"
) -> Tensor:
    """One step of the whole ``epsilon`` (Goodfellow et al., ICLR 2015, §4); see :func:`pgd`."""
    return pgd(
        forward,
        images,
        labels,
        epsilon=epsilon,
        step=epsilon,
        steps=1,
        loss=loss,
        random_start=False,
    )


def accuracy(forward: Forward, images: Tensor, labels: Tensor) -> float:
    """Share of the images whose largest logit is their label's, 0 to 1."""
    with torch.no_grad():
        return float((forward(images).argmax(1) == labels).float().mean())


def _project(images: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(images, low), high)


def _check(
    epsilon: float,
    step: float,
    steps: int,
    restarts: int,
    random_start: bool,
    generator: torch.Generator | None,
) -> None:
    if not 0.0 <= epsilon <= 1.0:
        raise InvalidInputError(
            f"epsilon = {epsilon}; need 0 to 1, in units of the images' range (8/255 is 0.031)"
        )
    if not step >= 0.0:
        raise InvalidInputError(f"step = {step}; need at least 0")
    if steps < 1 or restarts < 1:
        raise InvalidInputError(f"steps = {steps}, restarts = {restarts}; need at least 1 each")
    if random_start and generator is None:
        raise InvalidInputError("random starts need a generator; give one, or random_start=False")
    if random_start and generator is not None and generator.device.type != "cpu":
        raise InvalidInputError(f"the generator is on {generator.device}; need one on the CPU")
    if restarts > 1 and not random_start:
        raise InvalidInputError(
            f"restarts = {restarts} from the same image are the same; need random_start=True"
        )
