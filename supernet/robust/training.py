"""What passes of adversarial training minimise.

A network is attacked as it is trained, normalised by the batch: the smaller ones have no
running statistics of their own. Attacked images never move the running statistics.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ...searchspace.errors import InvalidInputError
from ..losses import cross_entropy
from ..objective import Outcome, View, register_objective
from ..schedule import Pass
from .attack import pgd
from .losses import rslad as rslad_loss
from .losses import trades as trades_loss
from .strength import EPSILON, RSLAD_SHARE, STEP, TRADES_BETA

__all__ = ["STEPS", "rslad", "trades"]

#: Of the attack in training (Zhang et al., ICML 2019, §5.3; Zi et al., ICCV 2021, §4.1).
STEPS = 10


def _steps(options: Mapping[str, float]) -> int:
    return int(options.get("attack_steps", STEPS))


def _cost(spec: Pass) -> float:
    """Two forward passes and their gradients, and two passes a step of the attack."""
    return 2 * 3 + 2 * _steps(spec.options)


def _attacked(view: View, targets: Tensor) -> Tensor:
    options = view.spec.options
    return pgd(
        view.quiet,
        view.images,
        targets,
        epsilon=options.get("epsilon", EPSILON),
        step=options.get("step", STEP),
        steps=_steps(options),
        loss="kl",
        generator=view.generator,
    )


def _outcome(view: View, loss: Tensor, natural: Tensor) -> Outcome:
    steps = _steps(view.spec.options)
    return Outcome(loss, natural, forwards=2 + steps, backwards=2, input_backwards=steps)


#: Objectives that move pixels, which text and sound have none of.
ATTACKING = frozenset({"trades", "rslad"})


@register_objective("trades", cost=_cost)
def trades(view: View) -> Outcome:
    """TRADES (Zhang et al., ICML 2019, eq. 5), weighted as the pass weights labels.

    The attack raises KL(natural ‖ adversarial) from a random start in the ball. Options:
    ``beta``, ``epsilon``, ``step`` and ``attack_steps``. A pass with a teacher learns its
    answers to the images beside.
    """
    spec = view.spec
    natural = view.forward(view.images)
    adversarial = view.quiet(_attacked(view, natural.detach()))
    beta = spec.options.get("beta", TRADES_BETA)
    loss = trades_loss(natural, adversarial, view.labels, beta=beta, smoothing=view.smoothing)
    loss = (spec.labels or 1.0) * loss
    if spec.soft and view.soft is not None:
        loss = loss + spec.soft * view.divergence(natural, view.soft)
    return _outcome(view, loss, natural)


@register_objective("rslad", cost=_cost)
def rslad(view: View) -> Outcome:
    """RSLAD (Zi et al., ICCV 2021, eq. 6): a robust teacher's answers in the labels' place.

    The attack raises KL(teacher ‖ adversarial) from a random start in the ball. Options:
    ``share``, ``epsilon``, ``step`` and ``attack_steps``. A pass that weights labels learns
    them beside.

    Raises:
        InvalidInputError: if the pass has no teacher.
    """
    spec = view.spec
    if view.soft is None:
        raise InvalidInputError(
            f"objective 'rslad' of the pass {spec.draw!r} learns a teacher's answers; give the"
            " pass soft above 0 and a source"
        )
    natural = view.forward(view.images)
    adversarial = view.quiet(_attacked(view, view.soft))
    share = spec.options.get("share", RSLAD_SHARE)
    loss = spec.soft * rslad_loss(natural, adversarial, view.soft, share=share)
    if spec.labels:
        loss = loss + spec.labels * cross_entropy(natural, view.labels, view.smoothing)
    return _outcome(view, loss, natural)
