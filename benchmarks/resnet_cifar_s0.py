"""DisWOT's S0: 64 CIFAR ResNets, distilled and not (Dong et al., CVPR 2023, §4.1)."""

from __future__ import annotations

from pathlib import Path

from .registry import register_benchmark
from .tables import TruthTable, truth_table

__all__ = ["resnet_cifar_s0"]

_FILE = "diswot_s0_resnet_cifar100.csv"
_CLASSES = {"num_classes": 100}


@register_benchmark("diswot-s0", space="resnet-cifar-s0", truth="kd_acc", published=_CLASSES)
@register_benchmark("resnet-cifar-s0", space="resnet-cifar-s0", truth="kd_acc", published=_CLASSES)
def resnet_cifar_s0(folder: Path) -> TruthTable:
    """DisWOT's S0 on CIFAR-100, distilled (kd_acc) and plain (diswot_s0_resnet_cifar100.csv)."""
    return truth_table(folder / _FILE, arch="arch", truths=["kd_acc", "vanilla_acc"])
