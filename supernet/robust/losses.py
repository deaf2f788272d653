"""Losses of adversarial training, on logits that are there already."""

from __future__ import annotations

from torch import Tensor

from ...searchspace.errors import InvalidInputError
from ..losses import at_least_float32, cross_entropy, kl_divergence
from .strength import RSLAD_SHARE, TRADES_BETA

__all__ = ["RSLAD_SHARE", "TRADES_BETA", "rslad", "trades"]


def trades(
    natural: Tensor,
    adversarial: Tensor,
    labels: Tensor,
    *,
    beta: float = TRADES_BETA,
    smoothing: float = 0.0,
) -> Tensor:
    """``CE(natural, labels) + β · KL(natural ‖ adversarial)`` (Zhang et al., ICML 2019, eq. 5).

    The gradient flows through both answers. The images that go with it maximise the same
    divergence: ``pgd(…, natural.detach(), loss="kl")``.

    Args:
        natural: logits ``[B, K]`` of the images.
        adversarial: logits ``[B, K]`` of the attacked images, by the same network.
        labels: int64 ``[B]``.
        beta: weight of robustness against accuracy, at least 0.
        smoothing: of the labels.

    Raises:
        InvalidInputError: if ``beta`` is below 0.
    """
    if not beta >= 0.0:
        raise InvalidInputError(f"beta = {beta}; need at least 0")
    log_natural = at_least_float32(natural).log_softmax(1)
    log_adversarial = at_least_float32(adversarial).log_softmax(1)
    # Not `kl_divergence`, which holds its second argument constant.
    gap = (log_natural.exp() * (log_natural - log_adversarial)).sum(1).mean()
    return cross_entropy(natural, labels, smoothing) + beta * gap


def rslad(
    natural: Tensor, adversarial: Tensor, teacher: Tensor, *, share: float = RSLAD_SHARE
) -> Tensor:
    """``a · KL(T(x) ‖ S(x')) + (1 - a) · KL(T(x) ‖ S(x))`` (RSLAD: Zi et al., ICCV 2021, eq. 6).

    The soft labels of a robust teacher on natural images x take the place of hard ones; no
    gradient flows into it. The images x' that go with it maximise the first term:
    ``pgd(…, teacher, loss="kl")``.

    Args:
        natural: the student's logits ``[B, K]`` of the images.
        adversarial: the student's logits ``[B, K]`` of the attacked images.
        teacher: the teacher's logits ``[B, K]`` of the images.
        share: a, the weight of the attacked images, 0 to 1.

    Raises:
        InvalidInputError: if ``share`` is outside 0 to 1.
    """
    if not 0.0 <= share <= 1.0:
        raise InvalidInputError(f"share = {share}; need 0 to 1")
    attacked = kl_divergence(adversarial, teacher)
    return share * attacked + (1.0 - share) * kl_divergence(natural, teacher)
