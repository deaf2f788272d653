"""Relations inside a batch, with gradients that stay finite where features coincide."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["neuron_selectivity", "triplet_cosines", "unit_rows"]

#: Rows shorter than this have no direction that float32 knows.
SHORT = 1e-6


def unit_rows(x: Tensor) -> Tensor:
    """Rows over their Euclidean norm, along the last dimension.

    Rows shorter than 1e-6 become 0 and get no gradient: it would grow as the inverse norm.
    """
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    # The inner `where` keeps a division by 0, whose gradient is NaN even where it is masked,
    # out of the graph.
    return torch.where(norm > SHORT, x / torch.where(norm > SHORT, norm, 1.0), 0.0)


def triplet_cosines(features: Tensor) -> Tensor:
    """Cosines of the angles i-j-k at image j, ``[B, F]`` → float64 ``[B, B, B]`` by j, i, k.

    0 where i or k has the same features as j.
    """
    # In float64, since inner products of differences are taken out of one Gram matrix; about
    # the first image's features, so that equal rows stay exactly equal.
    x = features.flatten(1).double()
    x = x - x[:1].detach()
    gram = x @ x.T
    diagonal = gram.diagonal()
    inner = gram.unsqueeze(0) - gram.unsqueeze(2) - gram.unsqueeze(1) + diagonal.view(-1, 1, 1)
    norms = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    scale = torch.where(norms > 0, torch.where(norms > 0, norms, 1.0).reciprocal(), 0.0)
    return inner * scale.unsqueeze(1) * scale.unsqueeze(2)


def neuron_selectivity(a: Tensor, b: Tensor) -> Tensor:
    """MMD² of two maps' channels under the kernel ⟨x, y⟩², the mean over images.

    With unit channels as rows of X and Y it is ‖XᵀX/C − YᵀY/C'‖². Where there are more
    positions than channels the three terms ‖XXᵀ‖²/C² + ‖YYᵀ‖²/C'² − 2‖XYᵀ‖²/(C·C') cost less.

    Args:
        a: ``[B, C, H, W]``.
        b: ``[B, C', H, W]``.
    """
    x, y = (functional.normalize(z.flatten(2), dim=2) for z in (a, b))
    c, d = x.shape[1], y.shape[1]
    if x.shape[2] <= max(c, d):
        moments = x.transpose(1, 2) @ x / c - y.transpose(1, 2) @ y / d
        return moments.square().sum(dim=(1, 2)).mean()
    own = _square_gram(x, x) / c**2 + _square_gram(y, y) / d**2
    return own - 2.0 * _square_gram(x, y) / (c * d)


def _square_gram(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.transpose(1, 2)).square().sum(dim=(1, 2)).mean()
