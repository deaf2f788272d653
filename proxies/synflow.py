"""SynFlow: the data-free flow of signal through the absolute weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .probe import Probe
from .registry import register_proxy

__all__ = ["synflow"]


class _Open(nn.Module):
    """A gate that lets everything through; its input stays in the graph."""

    def forward(self, x: Tensor) -> Tensor:
        return 1.0 + 0.0 * x


#: What takes a layer's place where all signals are positive and nothing saturates.
_LINEAR: tuple[tuple[tuple[type[nn.Module], ...], type[nn.Module]], ...] = (
    ((nn.BatchNorm2d,), nn.Identity),
    ((nn.ReLU6, nn.Hardswish, nn.SiLU, nn.GELU), nn.ReLU),
    ((nn.Hardsigmoid, nn.Sigmoid), _Open),
)


def linearise(network: nn.Module) -> list[Tensor]:
    """Make a network's weights |w| at He scale in float64, its batch norms the identity.

    SynFlow's R is the flow through the linear network. Activations that are not linear for a
    positive input (ReLU6, h-swish, …) become ReLUs, and gates (sigmoids) are open: the flow,
    which no batch norm holds back, would saturate both. So a gate's own weights add nothing.

    Returns:
        The weights of convolutions and linear layers, leaves that want gradients.
    """
    for name, module in list(network.named_modules()):
        for kinds, linear in _LINEAR:
            if isinstance(module, kinds):
                parent = network.get_submodule(name.rpartition(".")[0])
                setattr(parent, name.rpartition(".")[2], linear())
    network.double().requires_grad_(False)
    weights = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            gain = 2.0 if isinstance(module, nn.Conv2d) else 1.0
            module.weight.mul_(math.sqrt(gain / module.weight[0].numel())).abs_()
            weights.append(module.weight.requires_grad_())
    return list(weights)


@register_proxy(
    "synflow",
    source="SynFlow (Tanaka et al., NeurIPS 2020, eq. 3) as a score: Abdelfattah et al., §3.3",
    needs={"forward", "network", "bn"},
)
def synflow(probe: Probe) -> float:
    """Logarithm of Σ |w ⊙ ∂R/∂w|, R the summed output for an all-one image.

    No data. |w| at He scale, batch norm removed, gates open, float64: plain values reach 1e61,
    hence the logarithm, which keeps the ranking.
    """
    network = probe.standalone()
    weights = linearise(network)
    if probe.batch is None:
        raise RuntimeError("synflow takes the image's shape from the batch")
    ones = torch.ones(1, *probe.batch.images.shape[1:], dtype=torch.float64)
    with torch.enable_grad():
        flow = network(ones).sum()
        grads = torch.autograd.grad(flow, weights)
    total = sum(float((w.detach() * g).abs().sum()) for w, g in zip(weights, grads, strict=True))
    return math.log(total)
