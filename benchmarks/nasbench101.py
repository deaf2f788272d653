"""NAS-Bench-101: cells of up to seven nodes (Ying et al., ICML 2019)."""

from __future__ import annotations

from pathlib import Path

from .registry import register_benchmark
from .tables import TruthTable, read_tables

__all__ = ["nasbench101"]


@register_benchmark("nasbench101", space="nasbench101", truth="accuracy")
def nasbench101(folder: Path) -> TruthTable:
    """NAS-Bench-101 on CIFAR-10 (nasbench101*.csv[.gz]: arch, accuracy)."""
    return read_tables(folder, "nasbench101")
