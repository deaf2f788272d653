"""Size as a score: the baselines every training-free proxy has to beat."""

from __future__ import annotations

import math

from .probe import Probe
from .registry import register_proxy

__all__ = ["capacity", "depth", "long_capacity", "macs", "params"]


@register_proxy("params", source="baseline")
def params(probe: Probe) -> float:
    """Number of trainable parameters."""
    return probe.costs["params"]


@register_proxy("macs", source="baseline")
def macs(probe: Probe) -> float:
    """Multiply-accumulates of one image (FLOPs = 2 × MACs)."""
    return probe.costs["macs"]


@register_proxy("depth", source="baseline")
def depth(probe: Probe) -> float:
    """Weighted layers on the longest path."""
    return probe.costs["depth"]


@register_proxy("capacity", source="baseline")
def capacity(probe: Probe) -> float:
    """Geometric mean of params and MACs.

    Which of the two counts depends on the space (params in DisWOT's S0, MACs in
    NAS-Bench-Macro) and cannot be told beforehand; this asks both alike.
    """
    return math.sqrt(probe.costs["params"] * probe.costs["macs"])


@register_proxy("long-capacity", source="baseline")
def long_capacity(probe: Probe) -> float:
    """Params times the square of the depth.

    For Transformers, of which the deep and thin do better at equal size (AutoDistil, Xu et al.,
    NeurIPS 2022, §3): all of them are weighed by params, those of nearly equal params by depth.
    """
    return probe.costs["params"] * probe.costs["depth"] ** 2
