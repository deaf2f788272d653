"""A proxy in a few lines: how many directions the features of a batch span."""

import torch

import scholarch
from scholarch.proxies.probe import Probe


@scholarch.register_proxy("feature-rank", source="Roy & Vetterli, 2007", needs={"forward"})
def feature_rank(probe: Probe) -> float:
    """Effective rank of the pooled features: e to the entropy of their singular values."""
    centred = probe.pooled - probe.pooled.mean(dim=0)
    share = torch.linalg.svdvals(centred.double())
    share = share / share.sum()
    return float(torch.special.entr(share).sum().exp())
