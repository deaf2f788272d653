"""NAS-Bench-Macro: eight layers of three choices (Su et al., CVPR 2021)."""

from __future__ import annotations

from pathlib import Path

from .registry import register_benchmark
from .tables import TruthTable, find_files, merged, truth_table

__all__ = ["nasbench_macro"]

_OTHERS = ("params", "macs")


@register_benchmark("nasbench-macro", space="nasbench-macro", truth="accuracy")
def nasbench_macro(folder: Path) -> TruthTable:
    """NAS-Bench-Macro on CIFAR-10 (nasbench_macro*.csv[.gz]: arch, accuracy)."""
    files = find_files(folder, "nasbench_macro")
    return merged([truth_table(path, arch="arch", others=_OTHERS) for path in files])
