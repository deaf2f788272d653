"""VKDNW: how evenly hard a network's weights are to estimate."""

from __future__ import annotations

import torch
from torch import Tensor

from .l2_norm import layers
from .probe import Probe
from .registry import register_proxy

__all__ = ["decile_entropy", "fisher_spectrum", "vkdnw", "vkdnw_dim", "vkdnw_entropy"]

TENSORS = 128
"""Most weight tensors that the Fisher information covers, from the first on."""

_SOURCE = "VKDNW (Tybl & Neumann, CVPR 2025, §2"


def fisher_spectrum(jacobian: Tensor, logits: Tensor) -> Tensor:
    """Eigenvalues of F = 1/N Σ JₙᵀΣₙJₙ, Σₙ = diag(pₙ) − pₙpₙᵀ, ascending, ``[P]``.

    Σₙ = SₙSₙᵀ with Sₙ = diag(√pₙ) − pₙ√pₙᵀ, so they are the squared singular values of the
    stacked SₙᵀJₙ over √N: none is negative, and small ones keep their digits.

    Args:
        jacobian: of the logits, ``[N, K, P]``.
        logits: ``[N, K]``.
    """
    n, k, parameters = jacobian.shape
    p = torch.softmax(logits.double(), dim=1)
    roots = torch.diag_embed(p.sqrt()) - p.unsqueeze(2) * p.sqrt().unsqueeze(1)
    rows = (roots.transpose(1, 2) @ jacobian.double()).reshape(n * k, parameters)
    found = torch.linalg.svdvals(rows).square() / n
    # Fewer rows than weights: the others' eigenvalues are 0.
    return torch.cat([found.new_zeros(parameters - len(found)), found.flip(0)])


def decile_entropy(eigenvalues: Tensor) -> float:
    """−Σ qₖ ln qₖ, q the nine deciles over their sum; at most ln 9, for equal eigenvalues.

    Deciles between two values are interpolated.

    Raises:
        RuntimeError: if all nine are 0.
    """
    values = eigenvalues.double()
    deciles = torch.quantile(values, torch.arange(1, 10).to(values) / 10.0)
    if float(deciles.sum()) == 0.0:
        raise RuntimeError("nine tenths of the Fisher information's eigenvalues are 0")
    return float(torch.special.entr(deciles / deciles.sum()).sum())


@register_proxy("vkdnw-entropy", source=f"{_SOURCE}, eq. 8–11)", needs={"forward", "network"})
def vkdnw_entropy(probe: Probe) -> float:
    """Entropy of the nine deciles of the empirical Fisher information's eigenvalues.

    The Fisher information of one weight of each of the first 128 tensors, that of the first input
    and output channel at the kernel's centre. No labels; He initialisation; one forward of the
    batch and K backwards for K classes; batch norm's statistics are the batch's, as constants
    (see :mod:`.image_gradients`). Published on random inputs; real images do as well.
    """
    return probe.memo("vkdnw entropy", _entropy)


def _entropy(probe: Probe) -> float:
    images = probe.image_pass
    classes = torch.eye(images.logits.shape[1]).to(images.logits)
    columns = [
        images.first_gradients(one.expand_as(images.logits), TENSORS) for one in classes.unbind()
    ]
    jacobian = torch.stack(columns, dim=1)  # [N, K, P]
    return decile_entropy(fisher_spectrum(jacobian, images.logits.detach()))


@register_proxy("vkdnw-dim", source="baseline", needs={"forward", "network"})
def vkdnw_dim(probe: Probe) -> float:
    """Number of weight tensors: convolutions, linear layers and the classifier.

    The size that VKDNW (§3, eq. 12) adds to its entropy; the proxy ``layers`` by another name.
    """
    return layers(probe)


@register_proxy("vkdnw", source=f"{_SOURCE}–3, eq. 12)", needs={"forward", "network"})
def vkdnw(probe: Probe) -> float:
    """Number of weight tensors + entropy of the Fisher information's deciles.

    The entropy is at most ln 9 = 2.2, so it settles the order of networks of nearly equal depth.
    """
    return vkdnw_dim(probe) + vkdnw_entropy(probe)
