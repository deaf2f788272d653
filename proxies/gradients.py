"""First and second derivatives of a loss, taken on a graph that candidates share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = [
    "SecondOrder",
    "ValueGradient",
    "differentiate",
    "hessian_times_gradient",
    "require_signal",
]


@dataclass(frozen=True, slots=True, eq=False)
class ValueGradient:
    """A tensor, of weights as the loss is taken at or of activations, and the gradient there."""

    value: Tensor
    grad: Tensor


class _HardSigmoid(torch.autograd.Function):
    """torch's, whose own backward has no derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward((x > -3.0) & (x < 3.0))
        return functional.hardsigmoid(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Tensor:
        (inside,) = ctx.saved_tensors
        result: Tensor = grads[0] * inside / 6.0
        return result


class SecondOrder(TorchFunctionMode):
    """Lets a forward pass inside be differentiated twice, also through hard sigmoids."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        if func is functional.hardsigmoid:
            return _HardSigmoid.apply(args[0])  # type: ignore[no-untyped-call]
        return func(*args, **(kwargs or {}))


def differentiate(
    output: Tensor, inputs: Sequence[Tensor], *, create_graph: bool = False
) -> list[Tensor]:
    """Gradients of a scalar, zero where it does not depend on an input.

    The graph stays: other candidates go back through the prefix that they share.

    Raises:
        RuntimeError: if the scalar depends on none of the inputs.
    """
    found: Sequence[Tensor | None] = [None]
    if output.requires_grad:
        found = torch.autograd.grad(
            output, inputs, retain_graph=True, create_graph=create_graph, allow_unused=True
        )
    if all(grad is None for grad in found):
        raise RuntimeError(f"no gradient: the loss depends on none of {len(inputs)} weights")
    return [
        torch.zeros_like(x) if grad is None else grad for x, grad in zip(inputs, found, strict=True)
    ]


def hessian_times_gradient(
    loss: Tensor, leaves: Sequence[Tensor], scales: Sequence[float]
) -> list[Tensor]:
    """H g of a loss at s·w, from a graph at w, where the loss is the same at both.

    At s·w the gradient is g/s, and the Hessian's block of the tensors i and j is H_ij/(s_i·s_j),
    g and H being those at w. So the product's part i is Σ_j H_ij g_j/s_j², over s_i: the gradient
    of ½ Σ_j ‖g_j/s_j‖² at w_i, over s_i.

    Args:
        loss: a scalar.
        leaves: w, tensor by tensor.
        scales: s, one for each.

    Returns:
        One tensor for each leaf, of its shape.
    """
    grads = differentiate(loss, leaves, create_graph=True)
    squares = [(grad / scale).square().sum() for grad, scale in zip(grads, scales, strict=True)]
    products = differentiate(torch.stack(squares).sum() / 2.0, leaves)
    return [product / scale for product, scale in zip(products, scales, strict=True)]


def require_signal(grads: Sequence[Tensor]) -> None:
    """Raises RuntimeError where all gradients are 0.

    For scores of either sign: there a network that lets nothing through would stand in the
    middle, with a score of 0.
    """
    if not any(bool(grad.any()) for grad in grads):
        raise RuntimeError("every gradient is 0: nothing of the images reaches the classifier")
