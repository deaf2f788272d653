"""NAS-Bench-101: cells of up to seven nodes (Ying et al., ICML 2019)."""

from __future__ import annotations

from pathlib import Path

from .registry import register_benchmark
from .tables import TruthTable, find_files, merged, truth_table

__all__ = ["nasbench101"]

_OTHERS = ("params", "macs")


@register_benchmark("nasbench101", space="nasbench101", truth="accuracy")
def nasbench101(folder: Path) -> TruthTable:
    """NAS-Bench-101 on CIFAR-10 (nasbench101*.csv[.gz]: arch, accuracy)."""
    files = find_files(folder, "nasbench101")
    return merged([truth_table(path, arch="arch", others=_OTHERS) for path in files])
