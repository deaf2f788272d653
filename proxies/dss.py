"""DSS: the diversity of attention and the saliency of the rest of a Transformer.

Zhou et al., "Training-free Transformer Architecture Search", CVPR 2022. The released code
slices weights without their gradients, which leaves nothing to score; here every layer counts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .probe import Probe
from .registry import register_proxy

__all__ = ["dss"]

#: Linear layers of the attention; all others are taken for MLPs and the classifier.
ATTENTION = frozenset({"qkv", "proj"})

STD = 0.02
"""Of every weight and embedding, as ViTs are initialised."""


def nuclear_norm(weight: Tensor) -> Tensor:
    """Sum of the singular values of ``[out, in]``, by the smaller Gram matrix; float64."""
    w = weight.double()
    gram = w @ w.T if w.shape[0] < w.shape[1] else w.T @ w
    values: Tensor = torch.linalg.eigvalsh(gram)
    return values.clamp_min(0.0).sqrt().sum()


@register_proxy(
    "dss",
    source="TF-TAS (Zhou et al., CVPR 2022)",
    needs={"forward", "network", "attention"},
)
def dss(probe: Probe) -> float:
    """Σ ‖∂L/∂W‖_* · ‖W‖_* over attention + Σ |∂L/∂W ⊙ W| over MLPs and classifier.

    L is the summed output for an all-one image, under |W|; every W is N(0, 0.02²) before, or as
    given.
    ‖·‖_* is the nuclear norm; attention's layers are those for queries, keys and values, and
    the projection behind. No data. Of text, every token's id is 1; of sound, of which norms would
    leave nothing were it constant, white noise of the seed.
    """
    network = probe.standalone().requires_grad_(False)
    linear = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Embedding):
            module.weight.mul_(1.0 if probe.given else STD).abs_()
        if isinstance(module, nn.Linear):
            linear[name] = module.weight.requires_grad_()
    with torch.enable_grad():
        grads = torch.autograd.grad(network(_made_up(probe)).sum(), list(linear.values()))
    total = 0.0
    for (name, weight), grad in zip(linear.items(), grads, strict=True):
        if name.rpartition(".")[2] in ATTENTION:
            total += float(nuclear_norm(grad) * nuclear_norm(weight.detach()))
        else:
            total += float((grad * weight.detach()).abs().sum())
    return total


def _made_up(probe: Probe) -> Tensor:
    """What stands for data: one image of ones, text of one word, or noise."""
    if probe.images is None:
        raise RuntimeError("dss takes the image's shape from the batch")
    length = probe.images.shape[3]
    if probe.modality == "text":
        return torch.ones(1, length, dtype=torch.int64)
    if probe.modality == "sound":
        return torch.randn(1, length, generator=torch.Generator().manual_seed(probe.seed))
    return torch.ones(1, *probe.images.shape[1:])
