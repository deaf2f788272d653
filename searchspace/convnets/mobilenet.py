"""Spaces of MobileNets: once-for-all's, DepS' for small images, CompOFA's.

``mobilenetv3`` (Cai et al., ICLR 2020, §4.1): five stages of 2–4 blocks, each block with a
kernel in {3, 5, 7} and an expand ratio in {3, 4, 6}. ``proxylessnas``: their other network,
with a sixth stage of one block. ``mobilenetv3-cifar``: DepS' strides. ``compofa`` and
``compofa-elastic`` (Sahni et al., ICLR 2021, §3.2): the depth of a stage fixes its expand
ratios; the former fixes the kernels too.
"""

from __future__ import annotations

from typing import Any

from ..space import register_space
from .mobilenet_config import CIFAR_STRIDES, MOBILENET_V3, PROXYLESS
from .mobilenet_space import MobileNetSpace

__all__: list[str] = []

#: CompOFA's rule, depth → expand ratio, and MobileNetV3's own kernels stage by stage.
COMPOUND = {2: 3, 3: 4, 4: 6}
COMPOUND_KERNELS = (3, 5, 3, 3, 5)


@register_space("mobilenetv3")
def mobilenetv3(name: str, **options: Any) -> MobileNetSpace:
    """Once-for-all's MobileNetV3: 2.18e19 networks of elastic depth, kernel and expansion."""
    return MobileNetSpace(name, MOBILENET_V3, **{"resolution": 224, **options})


@register_space("mobilenetv3-cifar")
def mobilenetv3_cifar(name: str, **options: Any) -> MobileNetSpace:
    """The same networks at DepS' strides for 32×32 images, 8 in all in place of 32."""
    return MobileNetSpace(name, MOBILENET_V3.with_strides(1, CIFAR_STRIDES), **options)


@register_space("proxylessnas")
def proxylessnas(name: str, **options: Any) -> MobileNetSpace:
    """Once-for-all's ProxylessNAS: 1.96e20 networks with ReLU6 and without gates."""
    return MobileNetSpace(name, PROXYLESS, **{"resolution": 224, **options})


@register_space("compofa")
def compofa(name: str, **options: Any) -> MobileNetSpace:
    """CompOFA: 243 MobileNetV3 whose depths fix the expansion; MobileNetV3's own kernels."""
    config = MOBILENET_V3.with_kernels(COMPOUND_KERNELS)
    return MobileNetSpace(name, config, compound=COMPOUND, **{"resolution": 224, **options})


@register_space("compofa-elastic")
def compofa_elastic(name: str, **options: Any) -> MobileNetSpace:
    """CompOFA with elastic kernels: 117⁵ = 2.19e10 MobileNetV3."""
    return MobileNetSpace(name, MOBILENET_V3, compound=COMPOUND, **{"resolution": 224, **options})
