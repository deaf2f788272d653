"""NAS-Bench-Macro: eight layers of three choices (Su et al., CVPR 2021)."""

from __future__ import annotations

from pathlib import Path

from .registry import register_benchmark
from .tables import TruthTable, read_tables

__all__ = ["nasbench_macro"]


@register_benchmark("nasbench-macro", space="nasbench-macro", truth="accuracy")
def nasbench_macro(folder: Path) -> TruthTable:
    """NAS-Bench-Macro on CIFAR-10 (nasbench_macro*.csv[.gz]: arch, accuracy)."""
    return read_tables(folder, "nasbench_macro")
