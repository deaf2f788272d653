"""Is an attack as strong as it should be, or does the network hide its gradients?

Robust accuracy is only an upper bound, and a broken attack gives a high one. Athalye et al.
(ICML 2018, §3.1) and Carlini et al. (2019, "On Evaluating Adversarial Robustness", §5) list
what must hold if gradients lead anywhere; each is checked here by itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ...searchspace.errors import InvalidInputError
from .attack import EPSILON, Forward, accuracy, fgsm, pgd

__all__ = ["AttackReport", "Check", "check_attack"]

#: Step size over epsilon / steps, so that the ball's edge can be reached and walked along
#: (Madry et al., ICLR 2018, §5).
STRIDE = 2.5


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that holds for a working attack.

    Attributes:
        name: of the check.
        passed: whether it held.
        expected: what was expected, in words.
        accuracies: shares of images classified rightly, 0 to 1, by attack.
    """

    name: str
    passed: bool
    expected: str
    accuracies: dict[str, float]


@dataclass(frozen=True, slots=True)
class AttackReport:
    """What :func:`check_attack` found.

    Attributes:
        checks: one after the other.
        images: how many images were attacked.
        tolerance: by how much accuracies may be out of order.
    """

    checks: tuple[Check, ...]
    images: int
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether every check held."""
        return all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Every check with its numbers, and whether all held."""
        return {"passed": self.passed, **dataclasses.asdict(self)}


def check_attack(
    forward: Forward,
    images: Tensor,
    labels: Tensor,
    *,
    epsilons: Sequence[float] = (EPSILON / 2, EPSILON, 2 * EPSILON),
    steps: int = 10,
    restarts: int = 3,
    substitute: Forward | None = None,
    tolerance: float = 0.01,
    seed: int = 0,
) -> AttackReport:
    """Attack a network in several ways and compare.

    The checks, at the middle epsilon where no other is named:

    - ``larger_epsilon``: a larger ball lowers accuracy;
    - ``more_steps``: PGD is no weaker than FGSM, and four times the steps no weaker still;
    - ``restarts``: nor are several random starts;
    - ``unbounded``: where every pixel may be anything, nothing is classified rightly;
    - ``random_noise``: as many random draws as the attack has steps, the worst of them for
      each image, are no stronger than the attack;
    - ``transfer``, with a substitute: nor are its adversarial images.

    Args:
        forward: images in [0, 1] to logits; in evaluation mode, see :func:`.attack.pgd`.
        images: float ``[B, C, H, W]`` in [0, 1].
        labels: int64 ``[B]``.
        epsilons: at least two, ascending.
        steps: of PGD.
        restarts: of the one check on restarts.
        substitute: another network, trained apart on the same data.
        tolerance: share of the images by which an order may fail, for chance.
        seed: of starts and noise.

    Raises:
        InvalidInputError: if the epsilons do not ascend from above 0 to at most 1.
    """
    ascending = len(epsilons) > 1 and all(a < b for a, b in pairwise((0.0, *epsilons)))
    if not ascending or epsilons[-1] > 1.0:
        raise InvalidInputError(
            f"epsilons {list(epsilons)}; need two or more, ascending, above 0 and at most 1"
        )
    generator = torch.Generator().manual_seed(seed)

    def attacked(epsilon: float, steps: int, restarts: int = 1) -> float:
        adversarial = pgd(
            forward,
            images,
            labels,
            epsilon=epsilon,
            step=STRIDE * epsilon / steps,
            steps=steps,
            restarts=restarts,
            generator=generator,
        )
        return accuracy(forward, adversarial, labels)

    clean = accuracy(forward, images, labels)
    by_epsilon = {f"epsilon {epsilon:.4g}": attacked(epsilon, steps) for epsilon in epsilons}
    middle = epsilons[len(epsilons) // 2]
    usual = by_epsilon[f"epsilon {middle:.4g}"]
    pgd_name = f"pgd-{steps}"

    def falls(name: str, expected: str, accuracies: dict[str, float]) -> Check:
        held = all(after <= before + tolerance for before, after in pairwise(accuracies.values()))
        return Check(name, held, expected, accuracies)

    one_step = accuracy(forward, fgsm(forward, images, labels, epsilon=middle), labels)
    unbounded = attacked(1.0, 4 * steps)
    noise = _under_noise(forward, images, labels, middle, steps, generator)
    checks = [
        falls("larger_epsilon", "accuracy falls as epsilon grows", {"clean": clean, **by_epsilon}),
        falls(
            "more_steps",
            "accuracy falls as steps are added",
            {"fgsm": one_step, pgd_name: usual, f"pgd-{4 * steps}": attacked(middle, 4 * steps)},
        ),
        falls(
            "restarts",
            "accuracy falls with restarts",
            {pgd_name: usual, f"{restarts} restarts": attacked(middle, steps, restarts)},
        ),
        Check(
            "unbounded",
            unbounded <= tolerance,
            "no image withstands epsilon 1",
            {"epsilon 1": unbounded},
        ),
        falls(
            "random_noise", "noise is no stronger than gradients", {"noise": noise, pgd_name: usual}
        ),
    ]
    if substitute is not None:
        transferred = pgd(
            substitute,
            images,
            labels,
            epsilon=middle,
            step=STRIDE * middle / steps,
            steps=steps,
            generator=generator,
        )
        numbers = {"transfer": accuracy(forward, transferred, labels), pgd_name: usual}
        checks.append(falls("transfer", "another network's images are no stronger", numbers))
    return AttackReport(tuple(checks), len(labels), tolerance)


def _under_noise(
    forward: Forward,
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    draws: int,
    generator: torch.Generator,
) -> float:
    """Share of the images that stay right under every one of several random changes."""
    right = torch.ones_like(labels, dtype=torch.bool)
    with torch.no_grad():
        for _ in range(draws):
            drawn = torch.rand(images.shape, generator=generator).to(images)
            noisy = (images + epsilon * (2.0 * drawn - 1.0)).clamp(0.0, 1.0)
            right &= forward(noisy).argmax(1) == labels
    return float(right.float().mean())
